"""How the tokens of an image become one value of a latent."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engine.config import Pooling, Units
from engine.errors import UserError
from engine.models.encoder import VisionEncoder, patches
from engine.sae.config import SAEConfig


def image_pooling(pooling: Units) -> Pooling:
    """How tokens become the value of an image: where crops are scored, top images are still those of the largest."""
    return "max" if pooling == "crop" else pooling


def scored_tokens(pooling: Units, config: SAEConfig, encoder: VisionEncoder) -> str:
    """``pooled``, ``cls``, ``mean`` or ``patches``: which tokens of an image are scored."""
    trained_on = config.tokens
    if config.hook == "last":
        return "pooled"
    kind = "cls" if "cls" in (pooling, trained_on) else "mean" if trained_on == "mean" else "patches"
    if pooling == "cls" and not encoder.has_cls:
        raise UserError(f"{encoder.spec} has no CLS token: use --pooling max or mean.")
    encoder.check_tokens(kind)
    return kind


def chosen_tokens(
    x: Float[Tensor, "batch token d"], tokens: str, encoder: VisionEncoder, inputs: dict[str, Tensor]
) -> tuple[Float[Tensor, "batch kept d"], Bool[Tensor, "batch kept"]]:
    """The tokens to score, and which of them are image rather than padding."""
    if tokens in ("pooled", "cls"):
        return x[:, :1], torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
    padding = encoder.token_mask(inputs)
    x = x[:, patches(x.shape[1], encoder.n_prefix, encoder.tiles(inputs))]
    mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if padding is not None:
        mask = padding[:, -x.shape[1] :].to(x.device)
    if tokens == "mean":
        return pool(x, mask, "mean")[:, None], mask[:, :1]
    return x, mask


def pool(
    values: Float[Tensor, "batch token d"], mask: Bool[Tensor, "batch token"], how: Pooling
) -> Float[Tensor, "batch d"]:
    """Largest or mean value over the tokens of ``mask``."""
    if how == "mean":
        return (values * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return values.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)
