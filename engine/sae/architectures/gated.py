from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from engine.config import TrainSettings
from engine.sae.training_sae import Architecture, Loss, TrainingSAE, activity, register, squared_error


@register("gated")
@dataclass(frozen=True)
class Gated(Architecture):
    """One encoder says whether a latent fires, another how much (Rajamanoharan et al., arXiv 2404.16014).

    ``gate = e^-r_j ((x - b_dec) @ W_enc) + b_gate``, ``z = relu((x - b_dec) @ W_enc + b_enc)``, ``a = z * (gate > 0)``.
    The paper has ``W_gate`` and ``W_mag = e^r W_gate``; here ``W_enc`` is its ``W_mag``, so that it is saved as it is.

    Loss: mse of a + l1 * sum of relu(gate) + mse of relu(gate), the last with the decoder held fixed. Only the l1 and
    that mse teach the gate: the step has no gradient.
    """

    l1: float

    has_threshold = True

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "Gated":
        return cls(settings.l1)

    def parameters(self, w: int, d: int) -> dict[str, Float[Tensor, " _"]]:
        return {"r_mag": torch.zeros(w), "b_gate": torch.zeros(w)}

    def threshold(self, model: TrainingSAE) -> Float[Tensor, " w"]:
        """The gate is open where ``z > b_enc - e^r b_gate``; z is never below 0."""
        return F.relu(model.b_enc - model.get_parameter("r_mag").exp() * model.get_parameter("b_gate"))

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        magnitude = F.linear(model.centred(x), model.W_enc, model.bias())
        shrink = (-model.get_parameter("r_mag")).exp()
        gate = torch.relu(shrink * (magnitude - model.b_enc) + model.get_parameter("b_gate"))
        a = torch.relu(magnitude) * (gate > 0)
        mse = squared_error(model.decode(a, (model.w,))[0], x)
        by_gate = model.b_dec.detach() + (gate @ model.W_dec.detach()).float()
        return Loss(mse + self.l1 * gate.float().sum(1).mean() + squared_error(by_gate, x), mse, *activity(a), a)
