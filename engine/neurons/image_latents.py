"""The latents that one image fires."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.config import Pooling
from engine.models import HookPoint
from engine.models.encoder import VisionEncoder
from engine.neurons.pooling import chosen_tokens, pool, scored_tokens
from engine.neurons.results import ImageLatents, LatentValues
from engine.sae.model import SAE

IN_IMAGE, IN_PATCH = 100, 12  # latents told at most


@torch.inference_mode()
def image_latents(
    encoder: VisionEncoder,
    sae: SAE,
    image: Image.Image,
    pooling: Pooling = "max",
    maximum: Float[np.ndarray, " w"] | None = None,
) -> ImageLatents:
    """What fires where, over the same tokens and with the same pooling as ``score``.

    Of the image the ``IN_IMAGE`` strongest with their pooled values, of each patch the ``IN_PATCH`` strongest. Strength
    is the value as a share of the latent's ``maximum`` (above 0) where that is given, else the value.
    """
    hook, tokens = HookPoint.parse(sae.config.hook), scored_tokens(pooling, sae.config, encoder)
    inputs = encoder.preprocess([image])
    x, mask = chosen_tokens(encoder.activations(inputs, [hook], 1)[hook].float(), tokens, encoder, inputs)
    z = sae.encode(x)
    several = tokens == "patches"
    pooled = pool(z, mask, pooling if several else "max")[0]
    scale = torch.ones_like(pooled)
    if maximum is not None:
        known = torch.from_numpy(np.where(maximum > 0, maximum, 1.0).astype(np.float32))
        scale = known.to(pooled.device)
    grid = _grid(encoder, inputs) if several else None
    patches = z[0][mask[0]] if grid else z[0, :0]
    strongest = _strongest(pooled[None], scale, IN_IMAGE)[0]
    maps = tuple((latent, tuple(_short(value) for value in patches[:, latent].tolist())) for latent, _ in strongest)
    return ImageLatents(grid, strongest, _strongest(patches, scale, IN_PATCH), maps if grid else ())


def _short(value: float) -> float:
    """In four digits, which are shown: a map has hundreds of values."""
    return float(f"{value:.4g}")


def _grid(encoder: VisionEncoder, inputs: dict[str, Tensor]) -> tuple[int, int] | None:
    if "spatial_shapes" in inputs and not encoder.alone:  # each image has its own
        rows, columns = inputs["spatial_shapes"][0].tolist()
        return rows, columns
    return encoder.grid


def _strongest(z: Float[Tensor, "row w"], scale: Float[Tensor, " w"], number: int) -> tuple[LatentValues, ...]:
    """Of each row the ``number`` latents above 0 that are largest in units of ``scale``, with their values."""
    order = (z / scale).sort(dim=1, descending=True, stable=True).indices[:, :number]
    values = z.gather(1, order)
    return tuple(
        tuple((latent, value) for latent, value in zip(row, found, strict=True) if value > 0)
        for row, found in zip(order.tolist(), values.tolist(), strict=True)
    )
