from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from engine.config import TrainSettings
from engine.sae.config import SAEConfig, fitting
from engine.sae.sparse_codes import Encode, Kept, decode
from engine.sae.training_sae import Architecture, Loss, TrainingSAE, activity, register, squared_error


@dataclass(frozen=True)
class TopKFamily(Architecture):
    """Keeps the largest latents, ``k`` a token on average; loss: mse + aux * the auxiliary loss (AuxK)."""

    k: int
    aux: float

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "TopKFamily":
        return cls(fitting(settings.k, w), settings.aux)

    @property
    def revives(self) -> bool:
        return self.aux > 0

    def described(self, config: SAEConfig) -> SAEConfig:
        return replace(config, k=self.k)

    def prefixes(self, w: int) -> tuple[int, ...]:
        """Cumulative numbers of latents of the parts of the dictionary that each reconstruct."""
        return (w,)

    @property
    def error_weight(self) -> float:
        """What the sum of the prefixes' errors is multiplied by."""
        return 1.0

    @abstractmethod
    def keep(self, z: Float[Tensor, "batch w"]) -> Float[Tensor, "batch w"]:
        """``z`` with 0 for what is not kept."""

    @abstractmethod
    def kept(self, z: Float[Tensor, "batch w"], hint: float) -> Kept:
        """The same as a list; ``hint`` as for :func:`engine.sae.sparse_codes.largest`."""

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        ends = self.prefixes(model.w)
        if model.sparse:
            codes: Kept | Tensor = (kept := self._encode(model, x))
            reconstructions = decode(model.W_dec, model.b_dec, kept, ends)
            seen = kept.activity(model.w)
        else:
            codes = a = self.keep(model.latents(x))
            reconstructions = model.decode(a, ends)
            seen = activity(a)
        errors = [squared_error(x_hat, x) for x_hat in reconstructions]
        total = torch.stack(errors).sum() * self.error_weight
        aux = auxiliary(model, x, x - reconstructions[-1])
        return Loss(total + self.aux * aux, errors[-1], *seen, codes)

    def _encode(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Kept:
        """Encode and sparsify; gradients reach W_enc and the biases through the kept latents only."""
        centred, bias = model.centred(x), model.bias()
        with torch.no_grad():
            z = torch.relu_(F.linear(centred, model.W_enc, bias))
            kept = self.kept(z, 0.9 * float(model.theta))
        values = Encode.apply(model.W_enc, bias, centred, kept.values, kept.rows, kept.latents)
        return Kept(kept.rows, kept.latents, values, kept.batch)


@register("topk")
@dataclass(frozen=True)
class TopK(TopKFamily):
    """Every token keeps its k largest latents (Gao et al., arXiv 2406.04093)."""

    @classmethod
    def active(
        cls, z: Float[Tensor, "*batch w"], config: SAEConfig, threshold: Float[Tensor, " w"] | None
    ) -> Float[Tensor, "*batch w"]:
        return keep_largest(torch.relu(z), config.k)

    def keep(self, z: Float[Tensor, "batch w"]) -> Float[Tensor, "batch w"]:
        return keep_largest(z, self.k)

    def kept(self, z: Float[Tensor, "batch w"], hint: float) -> Kept:
        top = z.topk(min(self.k, z.shape[1]), dim=1)
        positive = top.values > 0
        rows = torch.arange(len(z)).unsqueeze(1).expand_as(top.indices)[positive]
        return Kept(rows, top.indices[positive], top.values[positive], len(z))


def keep_largest(z: Float[Tensor, "*batch w"], k: int) -> Float[Tensor, "*batch w"]:
    """Every token's ``k`` largest latents, the others 0."""
    top = z.topk(min(k, z.shape[-1]), dim=-1, sorted=False)
    return torch.zeros_like(z).scatter(-1, top.indices, top.values)


def auxiliary(model: TrainingSAE, x: Float[Tensor, "batch d"], residual: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """AuxK: dead latents reconstruct what the others left (Gao et al., arXiv 2406.04093).

    The ``min(d / 2, number of dead)`` largest dead latents of a token decode to ``e_hat``; the loss is the mean squared
    error ``|e - e_hat|^2`` over the variance of the residual ``e``, which gets no gradient.
    """
    if model.dead is None:
        return residual.new_zeros(())
    residual = residual.detach()
    z = torch.relu(F.linear(model.centred(x), model.W_enc[model.dead], model.bias()[model.dead]))
    limit = model.d // 2
    e_hat = (keep_largest(z, limit) if len(model.dead) > limit else z) @ model.W_dec[model.dead]
    variance = squared_error(residual.mean(0).expand_as(residual), residual)
    return squared_error(e_hat.float(), residual) * torch.where(variance > 0, 1 / variance, 0.0)
