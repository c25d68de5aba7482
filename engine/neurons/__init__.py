"""How good the latents of an SAE are: monosemanticity, top images, hierarchy, uniqueness, names."""
