"""Where latents fire in what a vision-language model sees."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from engine.models.vlm import VLM
from engine.sae.model import SAE
from engine.steer.results import Fired


@torch.inference_mode()
def fired(vlm: VLM, sae: SAE, image: Image.Image, latents: Sequence[int]) -> Fired | None:
    """The activations of ``latents`` on the patches of ``image`` in the model's own vision tower, untouched.

    Of a model that sees several tiles, on the first. None where patches are in no square. UserError as ``vlm.look``.
    """
    seen: list[torch.Tensor] = []

    def take(module: Any, args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        seen.append((hidden[0] if hidden.ndim == 3 else hidden)[vlm.n_prefix :])

    handle = vlm.site(sae.config.hook).register_forward_hook(take)
    try:
        vlm.look(vlm.visual([image]))
    finally:
        handle.remove()
    side = math.isqrt(len(seen[0])) if seen else 0
    if not side or side**2 != len(seen[0]):
        return None
    z = sae.encode(seen[0].float())[:, list(latents)].T.tolist()
    maps = tuple((latent, tuple(_short(value) for value in row)) for latent, row in zip(latents, z, strict=True))
    return Fired((side, side), maps)


def _short(value: float) -> float:
    """In four digits, which are shown: a map has hundreds of values."""
    return float(f"{value:.4g}")
