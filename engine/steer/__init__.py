"""Turn latents up and down inside a vision-language model, and read what it says then."""
