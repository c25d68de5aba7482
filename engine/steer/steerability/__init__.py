"""How well latents steer a vision-language model: many latents and prompts, judges, and controls beside all."""
