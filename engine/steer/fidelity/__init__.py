"""How much of what a model does survives when an SAE's reconstruction stands in place of the activations."""
