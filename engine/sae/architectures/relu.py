from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from engine.config import TrainSettings
from engine.sae.training_sae import Architecture, Loss, TrainingSAE, activity, register, squared_error


@register("relu")
@dataclass(frozen=True)
class Relu(Architecture):
    """Loss: mse + l1 * sum of the latents. Nothing else makes them sparse."""

    l1: float

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "Relu":
        return cls(settings.l1)

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        z = model.latents(x)
        mse = squared_error(model.decode(z, (model.w,))[0], x)
        return Loss(mse + self.l1 * z.float().sum(1).mean(), mse, *activity(z), z)
