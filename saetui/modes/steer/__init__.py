"""Mode Steer: latents turned up and down while a model answers."""
