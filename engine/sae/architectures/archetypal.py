import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from engine.config import TrainSettings
from engine.sae.architectures.topk import TopK
from engine.sae.config import SAEConfig, fitting, points_of
from engine.sae.directions import centroids
from engine.sae.training_sae import TrainingSAE, register

OWN = 0.9  # weight of the points that a latent begins at


@register("archetypal")
@dataclass(frozen=True)
class Archetypal(TopK):
    """TopK whose latents are near mixtures of data points: relaxed archetypal (RA-SAE; Fel et al., arXiv 2502.12892).

    ``D = A C + Lambda``, ``W_dec`` = the rows of D scaled to length 1. C (points, d): centroids of k-means of a first
    sample, minus the start of b_dec. Rows of A (w, points) are on the simplex, nonnegative with sum 1: A is the softmax
    of ``mixture``. ``|Lambda_i| <= delta``, in training units: a typical activation has length 1.

    A latent begins as ``OWN`` of one point and an even mixture of all; where there are more latents than points, of the
    mean of two. What is saved is a plain topk SAE with this decoder.
    """

    points: int
    delta: float

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "Archetypal":
        return cls(fitting(settings.k, w), settings.aux, points_of(settings.points, w), settings.delta)

    def described(self, config: SAEConfig) -> SAEConfig:
        return replace(super().described(config), arch="topk")

    def parameters(self, w: int, d: int) -> dict[str, Float[Tensor, "w _"]]:
        mixture = torch.zeros(w, self.points)
        number = torch.arange(w)
        own = number % self.points, (number + number // self.points) % self.points
        even = (1 - OWN) / self.points
        for points in own:  # a point that is both has its weight once
            share = OWN / (1 + (own[0] != own[1]).float()) + even
            mixture[number, points] = (share / even).log()
        return {"mixture": mixture, "relaxation": torch.zeros(w, d)}

    def constants(self, w: int, d: int) -> dict[str, Float[Tensor, "..."]]:
        return {"centroids": torch.zeros(self.points, d), "lengths": torch.ones(w)}

    def begin(self, model: TrainingSAE, sample: Float[Tensor, "n d"], seed: int) -> None:
        found = torch.from_numpy(centroids(sample.cpu().numpy(), self.points, seed))
        model.get_buffer("centroids").copy_(found.to(model.b_dec) - model.b_dec)
        self.constrain(model)
        model.W_enc.copy_(model.W_dec)

    def pass_on(self, model: TrainingSAE) -> None:
        """From the gradient G of W_dec, without its part along the rows, to those of what D is made of:
        ``G_D = G / |D_i|``, ``G_Lambda = G_D``, ``G_A = G_D C^T``, and through the softmax
        ``A * (G_A - sum_p A_p G_Ap)``."""
        gradient = model.W_dec.grad
        assert gradient is not None
        gradient /= model.get_buffer("lengths").unsqueeze(1)
        mixture = model.get_parameter("mixture")
        A, to_A = mixture.softmax(1), gradient @ model.get_buffer("centroids").T
        mixture.grad = A * (to_A - (A * to_A).sum(1, keepdim=True))
        model.get_parameter("relaxation").grad = gradient
        model.W_dec.grad = None  # it follows from these: no step moves it

    def constrain(self, model: TrainingSAE) -> None:
        relaxation = model.get_parameter("relaxation")
        length = relaxation.norm(dim=1, keepdim=True).clamp(min=torch.finfo(relaxation.dtype).tiny)
        relaxation.mul_((self.delta / length).clamp(max=1))
        D = model.get_parameter("mixture").softmax(1) @ model.get_buffer("centroids") + relaxation
        lengths = D.norm(dim=1).clamp(min=math.sqrt(torch.finfo(D.dtype).tiny))
        model.get_buffer("lengths").copy_(lengths)
        model.W_dec.copy_(F.normalize(D / lengths.unsqueeze(1), dim=1))
