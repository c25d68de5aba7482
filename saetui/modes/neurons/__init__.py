"""Mode Neurons: the latents of an SAE."""
