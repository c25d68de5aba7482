"""Sparse autoencoders: architectures, training, what is saved of them, latents of activations."""
