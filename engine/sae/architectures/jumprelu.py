from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engine.config import TrainSettings
from engine.sae.training_sae import Architecture, Loss, TrainingSAE, activity, register, squared_error


@register("jumprelu")
@dataclass(frozen=True)
class JumpReLU(Architecture):
    """``a = z * (z > theta_j)``; loss: mse + l0 * number of active latents (Rajamanoharan et al., arXiv 2407.14435).

    Thresholds learn through a rectangle kernel of width ``bandwidth``; they begin at ``start`` and stay at 0 or above.
    """

    l0: float
    bandwidth: float
    start: float

    has_threshold = True

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "JumpReLU":
        return cls(settings.l0, settings.bandwidth, settings.bandwidth)

    def parameters(self, w: int, d: int) -> dict[str, Float[Tensor, " _"]]:
        return {"thresholds": torch.full((w,), self.start)}

    def constrain(self, model: TrainingSAE) -> None:
        self.threshold(model).clamp_(min=0)

    def threshold(self, model: TrainingSAE) -> Float[Tensor, " w"]:
        return model.get_parameter("thresholds")

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        z, thresholds = model.latents(x), self.threshold(model)
        a = JumpFunction.apply(z, thresholds, self.bandwidth)
        active = StepFunction.apply(z, thresholds, self.bandwidth)
        mse = squared_error(model.decode(a, (model.w,))[0], x)
        return Loss(mse + self.l0 * active.float().sum(1).mean(), mse, *activity(a), a)


def _rectangle(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """``K((z - theta) / bandwidth) / bandwidth`` with the rectangle kernel K(u) = 1 for |u| < 1/2."""
    return ((z - threshold).abs() < bandwidth / 2).to(threshold.dtype) / bandwidth


class JumpFunction(torch.autograd.Function):
    """``z * (z > theta)``; gradient to theta: ``-theta / bandwidth * K((z - theta) / bandwidth)``."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        z, threshold = ctx.saved_tensors
        to_threshold = -threshold * (_rectangle(z, threshold, ctx.bandwidth) * gradient).sum(0)
        return gradient * (z > threshold), to_threshold, None


class StepFunction(torch.autograd.Function):
    """``1 if z > theta else 0``; gradient to theta: ``-1 / bandwidth * K((z - theta) / bandwidth)``, none to z."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        z, threshold = ctx.saved_tensors
        return None, -(_rectangle(z, threshold, ctx.bandwidth) * gradient).sum(0), None
