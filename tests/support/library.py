"""What the libraries themselves make of the small checkpoints: their hidden states and pooled embeddings."""

from typing import Any

import torch

from engine.models import HookPoint

WORDS = ("red", "fish", "a", "of")
LAYERS = [HookPoint("layer", n) for n in range(3)]
LAST = HookPoint("last")


def library_states(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What each block puts out, by the library's own hidden_states: element N + 1 is the output of block N."""
    vision = getattr(model, "vision_model", model)
    with torch.no_grad():
        return list(vision(**inputs, output_hidden_states=True).hidden_states[1:])


def library_last(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        if hasattr(model, "get_image_features"):
            return model.get_image_features(**inputs).pooler_output
        output = model(**inputs)
        return output.image_embeds if "image_embeds" in output else output.pooler_output
