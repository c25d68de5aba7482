"""What steering is compared with: the same change along another direction, and DiffMean."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.models.vlm import VLM
from engine.sae.model import SAE
from engine.steer.interventions import Intervention


@dataclass(frozen=True, kw_only=True, eq=False)
class Redirected(Intervention):
    """The change of one latent, written along another direction than its own: v' = decode(a) + (a'_k - a_k) r.

    The SAE's error is dropped, or kept, as for the latent itself. With |r| = |W_dec[k]| each token is moved as far
    as by the latent.
    """

    direction: Float[Tensor, " d"]
    """r."""

    def apply(self, sae: SAE, patches: Float[Tensor, "token d"]) -> Float[Tensor, "token d"]:
        x = patches.float()
        a = sae.encode(x)
        ((latent, _),) = self.latents
        change = (self.edit(a) - a)[:, latent, None] * self.direction
        return ((x if self.keep_error else sae.decode(a)) + change).to(patches.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Added(Intervention):
    """One vector added to every patch token, without the SAE: v' = v + u."""

    vector: Float[Tensor, " d"]
    """u."""

    def apply(self, sae: SAE, patches: Float[Tensor, "token d"]) -> Float[Tensor, "token d"]:
        return (patches.float() + self.vector).to(patches.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Replaced(Intervention):
    """One vector in place of every patch token, without the SAE: v' = u."""

    vector: Float[Tensor, " d"]
    """u."""

    def apply(self, sae: SAE, patches: Float[Tensor, "token d"]) -> Float[Tensor, "token d"]:
        return self.vector.to(patches.dtype).expand_as(patches)


def along(sae: SAE, change: Intervention, direction: Float[Tensor, " d"]) -> Redirected:
    """``change`` of one latent along ``direction``, of any length, instead of its own: as far on every token."""
    ((latent, _),) = change.latents
    length = sae.W_dec[latent].norm() / direction.norm()
    return Redirected(
        latents=change.latents, mode=change.mode, keep_error=change.keep_error, direction=direction * length
    )


def mean_patches(
    vlm: VLM, hook: str, images: Sequence[Image.Image], batch_size: int = 32
) -> Iterator[Float[Tensor, " d"]]:
    """Mean of the patch tokens of each image at ``hook`` in the model's own vision tower, in float32."""
    step = 1 if vlm.alone else batch_size
    for start in range(0, len(images), step):
        hidden = _patches(vlm, hook, images[start : start + step])
        yield from (hidden.flatten(0, 1).mean(0)[None] if vlm.alone else hidden.mean(1)).clone()


@torch.inference_mode()
def _patches(vlm: VLM, hook: str, images: Sequence[Image.Image]) -> Float[Tensor, "sequence token d"]:
    seen: list[Tensor] = []

    def take(module: Any, args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        seen.append((hidden if hidden.ndim == 3 else hidden[None])[:, vlm.n_prefix :].float())

    handle = vlm.site(hook).register_forward_hook(take)
    try:
        vlm.look(vlm.visual(images))
    finally:
        handle.remove()
    return seen[0]
