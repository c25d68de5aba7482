"""What is trained: parameters in training units, and what an architecture adds to them.

Training units: activations divided by a scale that makes their mean squared norm 1.

Two paths compute the topk family. On a GPU codes are dense, as matrix units want them. On a CPU they are lists of the
kept latents (engine/sae/sparse_codes.py). Both are held against references written from the formulas in the tests.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engine.config import ArchitectureName, Frozen, TrainSettings
from engine.sae.config import SAEConfig
from engine.sae.sparse_codes import Kept

A = TypeVar("A", bound="Architecture")
SOFT = 0.8  # cosine with its start that each row of a soft-frozen decoder keeps at least (arXiv 2602.14111)
FOLLOWED = 10_000  # steps up to which a training's length changes how its threshold is followed (engine.sae.schedule)


@dataclass
class Loss:
    """What one batch says. Tensors stay on the device, so that a training step need not wait for it."""

    total: Float[Tensor, ""]
    """What is minimised."""
    mse: Float[Tensor, ""]
    """Mean over the batch of the squared error summed over d, of the whole dictionary."""
    fired: Bool[Tensor, " w"]
    """Latents that are active on some token of the batch."""
    smallest: Float[Tensor, ""]
    """Smallest kept positive activation; infinite if there is none."""
    codes: Kept | Float[Tensor, "batch w"]
    """Activations of the latents, with their gradient."""


class Architecture(ABC):
    """A sparsifier and its loss, with their settings as fields: one file each in engine/sae/architectures/.

    Only ``of`` and ``loss`` must be written; what else there is says how most architectures behave.
    """

    has_threshold: ClassVar[bool] = False
    """Whether the saved SAE has a ``threshold`` (w), and keeps what exceeds it."""

    @classmethod
    @abstractmethod
    def of(cls, settings: TrainSettings, w: int) -> "Architecture":
        """As the settings describe it, for a dictionary of ``w`` latents. UserError where they do not fit."""

    @abstractmethod
    def loss(self, model: "TrainingSAE", x: Float[Tensor, "batch d"]) -> Loss: ...

    @classmethod
    def active(
        cls, z: Float[Tensor, "*batch w"], config: SAEConfig, threshold: Float[Tensor, " w"] | None
    ) -> Float[Tensor, "*batch w"]:
        """At inference, the activations that a saved SAE makes of its preactivations ``z``."""
        a = torch.relu(z)
        return a if threshold is None else a * (a > threshold)

    @property
    def revives(self) -> bool:
        """Whether the loss uses the list of dead latents."""
        return False

    def parameters(self, w: int, d: int) -> dict[str, Float[Tensor, "..."]]:
        """What is learned besides the matrices and biases: names and first values."""
        return {}

    def constants(self, w: int, d: int) -> dict[str, Float[Tensor, "..."]]:
        """What ``begin`` fills in and checkpoints keep: names, and values of the right shape."""
        return {}

    def begin(self, model: "TrainingSAE", sample: Float[Tensor, "n d"], seed: int) -> None:  # noqa: B027
        """See a first sample, in training units, before the first step; b_dec has its start already."""

    def pass_on(self, model: "TrainingSAE") -> None:  # noqa: B027
        """Hand the gradient of the decoder on to what the decoder is made of, where it is made of something."""

    def constrain(self, model: "TrainingSAE") -> None:  # noqa: B027 - most have nothing to bring back
        """Bring these parameters back to where they are allowed, after a step."""

    def threshold(self, model: "TrainingSAE") -> Float[Tensor, ""] | Float[Tensor, " w"]:
        """The threshold of the saved SAE, in training units."""
        return model.theta

    def described(self, config: SAEConfig) -> SAEConfig:
        """``config`` with what it says of this architecture: ``k``, ``groups``."""
        return config


REGISTRY: dict[str, type[Architecture]] = {}


def register(name: ArchitectureName) -> Callable[[type[A]], type[A]]:
    """Let the architecture be found by its name on the command line and in files."""

    def registered(architecture: type[A]) -> type[A]:
        REGISTRY[name] = architecture
        return architecture

    return registered


class TrainingSAE(nn.Module):
    """The trained form of an SAE: unit decoder rows, training units, counters of dead latents.

    ``W_enc`` is stored as (w, d), the transpose of the saved one: both matrices then have a row per latent.

    ``frozen`` makes it a control of arXiv 2602.14111, which begins as the SAE of that seed and sees the same batches.
    ``decoder`` and ``encoder``: that matrix stays as it began; ``soft-decoder``: each row of the decoder stays where
    its cosine with its start is ``SOFT`` or more. All else is learned: biases and thresholds, too.
    """

    def __init__(self, architecture: Architecture, d: int, w: int, seed: int, frozen: Frozen = "none"):
        super().__init__()
        self.architecture, self.frozen = architecture, frozen
        self.d, self.w = d, w
        directions = torch.randn(w, d, generator=torch.Generator().manual_seed(seed))
        directions /= directions.norm(dim=1, keepdim=True)
        self.W_dec = nn.Parameter(directions, requires_grad=frozen != "decoder")
        self.W_enc = nn.Parameter(directions.clone(), requires_grad=frozen != "encoder")
        self.b_enc = nn.Parameter(torch.zeros(w))
        self.b_dec = nn.Parameter(torch.zeros(d))
        for name, start in architecture.parameters(w, d).items():
            self.register_parameter(name, nn.Parameter(start))
        for name, value in architecture.constants(w, d).items():
            self.register_buffer(name, value)
        self.start: Tensor | None  # a function of the seed: checkpoints need not keep it
        self.register_buffer("start", directions.clone() if frozen == "soft-decoder" else None, persistent=False)
        self.theta: Tensor
        self.since_fired: Tensor
        self.smallest: Tensor
        self.register_buffer("theta", torch.zeros(()))
        self.register_buffer("since_fired", torch.zeros(w, dtype=torch.int64))
        self.register_buffer("smallest", torch.full((FOLLOWED,), torch.inf))  # see Loss, of the first steps
        self.dead: Int[Tensor, " dead"] | None = None  # latents that the auxiliary loss revives; None: there are none

    @property
    def sparse(self) -> bool:
        """Whether codes are lists of kept latents rather than dense."""
        return self.W_enc.device.type == "cpu"

    def centred(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        return x - self.b_dec.detach()

    def bias(self) -> Float[Tensor, " w"]:
        """``b_enc``, with the gradient that ``b_dec`` gets through the encoder.

        ``(x - b_dec) @ W`` alone would cost a whole product over the batch in the backward pass to learn what b_dec
        gets; that gradient is a sum over the batch, so it is taken here, through a term whose value is 0.
        """
        return self.b_enc + F.linear(self.b_dec.detach() - self.b_dec, self.W_enc.detach())

    def latents(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch w"]:
        """``relu((x - b_dec) @ W_enc + b_enc)``, dense."""
        return torch.relu(F.linear(self.centred(x), self.W_enc, self.bias()))

    def decode(self, a: Float[Tensor, "batch w"], ends: tuple[int, ...]) -> list[Float[Tensor, "batch d"]]:
        """Reconstruction by every prefix of the dictionary, from dense codes; ``ends`` are their numbers of latents.

        The product is done once, not per prefix.
        """
        sizes = [end - start for start, end in itertools.pairwise((0, *ends))]
        x_hat, reconstructions = self.b_dec, []
        for part, rows in zip(a.split(sizes, dim=1), self.W_dec.split(sizes), strict=True):
            x_hat = x_hat + (part @ rows).float()
            reconstructions.append(x_hat)
        return reconstructions

    def loss(self, x: Float[Tensor, "batch d"]) -> Loss:
        return self.architecture.loss(self, x)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Remove the component of the decoder's gradient along each row: it would only change a norm that is fixed."""
        gradient = self.W_dec.grad
        if gradient is not None:  # else the decoder is frozen
            gradient -= (gradient * self.W_dec).sum(1, keepdim=True) * self.W_dec
            self.architecture.pass_on(self)

    @torch.no_grad()
    def constrain(self) -> None:
        """Decoder rows back to unit norm and near a start that holds them, and what the architecture asks; called after
        every step."""
        if self.frozen != "decoder":  # whose rows would lose bits
            self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))
        if self.start is not None:
            self.W_dec.copy_(within(self.W_dec, self.start, SOFT))
        self.architecture.constrain(self)

    @torch.no_grad()
    def observe(self, loss: Loss, batch: int, smoothing: float, step: int = FOLLOWED) -> None:
        """Count how long latents have been silent and follow the threshold."""
        self.since_fired += batch
        self.since_fired.masked_fill_(loss.fired, 0)
        if step < FOLLOWED:
            self.smallest[step] = loss.smallest
        self._follow(loss.smallest, smoothing)

    @torch.no_grad()
    def follow(self, steps: int, smoothing: Callable[[int], float]) -> None:
        """The threshold as it would be after ``steps`` steps of a training with another ``smoothing``.

        No other step depends on it, so that it can be followed again; from step ``FOLLOWED`` on the smoothing is the
        same for all trainings that are longer.
        """
        if steps <= FOLLOWED and not self.smallest[:steps].isnan().any():
            self.theta.zero_()
            for step in range(steps):
                self._follow(self.smallest[step], smoothing(step))

    def _follow(self, smallest: Float[Tensor, ""], smoothing: float) -> None:
        """``theta`` becomes ``smoothing * theta + (1 - smoothing) * smallest``; a batch in which nothing fired is left
        out."""
        moved = torch.lerp(smallest.to(self.theta), self.theta, smoothing)
        self.theta.copy_(torch.where(torch.isfinite(smallest), moved, self.theta))

    @torch.no_grad()
    def threshold(self, scale: float) -> Float[Tensor, ""] | Float[Tensor, " w"] | None:
        """The threshold for activations ``scale`` times as large; None where the architecture has none."""
        return self.architecture.threshold(self) * scale if self.architecture.has_threshold else None

    @torch.no_grad()
    def weights(self, scale: float) -> dict[str, Tensor]:
        """Tensors of the saved SAE, for raw activations: ``scale`` is folded into b_enc, b_dec and the threshold.

        With ``x = scale * x'`` the latents and the reconstruction are ``scale`` times those of training.
        """
        threshold = self.threshold(scale)
        weights = {
            "W_enc": self.W_enc.T,
            "b_enc": self.b_enc * scale,
            "W_dec": self.W_dec,
            "b_dec": self.b_dec * scale,
        }
        return weights | ({} if threshold is None else {"threshold": threshold.expand(self.w)})


def within(rows: Float[Tensor, "w d"], start: Float[Tensor, "w d"], cosine: float) -> Float[Tensor, "w d"]:
    """The unit vectors nearest to the unit ``rows`` u whose cosine with those of ``start``, u0, is ``cosine`` or more.

    Where ``<u, u0>`` is less: ``cosine u0 + sqrt(1 - cosine^2) v``, with v the unit vector of ``u - <u, u0> u0``; u0
    itself where that is 0, as u = -u0 has no nearest one.
    """
    found = (rows * start).sum(1, keepdim=True)
    across = rows - found * start
    length = across.norm(dim=1, keepdim=True)
    edge = cosine * start + math.sqrt(1 - cosine**2) * across / length
    return torch.where(found >= cosine, rows, torch.where(length > 0, edge, start))


def squared_error(x_hat: Float[Tensor, "batch d"], x: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """Mean over the batch of the SUM over d of squared differences."""
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


def activity(a: Float[Tensor, "batch w"]) -> tuple[Bool[Tensor, " w"], Float[Tensor, ""]]:
    """Which latents fired, and the smallest positive activation."""
    active = a.detach() > 0
    return active.any(0), torch.where(active, a.detach(), torch.inf).min().float()
