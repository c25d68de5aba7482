"""What the vision tower of a vision-language model says about an image, through an SAE: where latents fire, and
whether the SAE is of this model at all."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.models.vlm import VLM
from engine.sae.model import SAE
from engine.steer.results import Fired

STRANGE = 0.25
"""An SAE that gives back a smaller share of a model's patch tokens is taken for another model's. One that fits gives
back at least its FVE, as tokens are longer than their deviations; the published FVE begin at .31 (1 latent a token)."""


@torch.inference_mode()
def fired(vlm: VLM, sae: SAE, image: Image.Image, latents: Sequence[int]) -> Fired | None:
    """The activations of ``latents`` on the patches of ``image`` in the model's own vision tower, untouched.

    Of a model that sees several tiles, on the first. None where patches are in no square. UserError as ``vlm.look``.
    """
    patches = _patches(vlm, sae, image)
    side = math.isqrt(len(patches))
    if not side or side**2 != len(patches):
        return None
    z = sae.encode(patches)[:, list(latents)].T.tolist()
    maps = tuple((latent, tuple(_short(value) for value in row)) for latent, row in zip(latents, z, strict=True))
    return Fired((side, side), maps)


@torch.inference_mode()
def given_back(vlm: VLM, sae: SAE, image: Image.Image) -> float | None:
    """The share of a patch token x of ``image`` that the SAE gives back, 1 - |x - x'|^2 / |x|^2: the median over them.

    Below 0 where the SAE puts more there than it finds. Not of a share of the variance: a blank image has none. None
    where the model has no patches to show. UserError as ``vlm.look``.
    """
    patches = _patches(vlm, sae, image)
    if not len(patches):
        return None
    error = (patches - sae.decode(sae.encode(patches))).square().sum(1)
    return float((1 - error / patches.square().sum(1).clamp(min=torch.finfo().tiny)).median())


def _patches(vlm: VLM, sae: SAE, image: Image.Image) -> Float[Tensor, "patches d"]:
    """What the SAE reads of ``image``, of its first tile where there are several; float32."""
    seen: list[Tensor] = []

    def take(module: Any, args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        seen.append((hidden[0] if hidden.ndim == 3 else hidden)[vlm.n_prefix :].float())

    handle = vlm.site(sae.config.hook).register_forward_hook(take)
    try:
        vlm.look(vlm.visual([image]))
    finally:
        handle.remove()
    return seen[0] if seen else torch.empty(0, sae.config.d)


def _short(value: float) -> float:
    """In four digits, which are shown: a map has hundreds of values."""
    return float(f"{value:.4g}")
