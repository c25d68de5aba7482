import itertools
from dataclasses import dataclass, replace

from engine.config import TrainSettings
from engine.errors import UserError, counted
from engine.sae.architectures.batchtopk import BatchTopK
from engine.sae.architectures.topk import fitting
from engine.sae.config import SAEConfig
from engine.sae.training_sae import register


@register("matryoshka-batchtopk")
@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK whose nested prefixes each reconstruct on their own (Bussmann et al., arXiv 2503.17547).

    Loss: the sum over prefixes of their mse, as arXiv 2504.02821 prints it, or with ``averaged`` that sum divided by
    the squared number of prefixes, as its authors' code has it; + aux.
    """

    groups: tuple[int, ...]
    averaged: bool

    @classmethod
    def of(cls, settings: TrainSettings, w: int) -> "Matryoshka":
        averaged = settings.matryoshka_loss == "reference"
        return cls(fitting(settings.k, w), settings.aux, prefixes(settings.groups, w), averaged)

    def described(self, config: SAEConfig) -> SAEConfig:
        return replace(super().described(config), groups=self.groups)

    def prefixes(self, w: int) -> tuple[int, ...]:
        return self.groups

    @property
    def error_weight(self) -> float:
        return 1 / len(self.groups) ** 2 if self.averaged else 1.0


def prefixes(groups: tuple[float, ...], w: int) -> tuple[int, ...]:
    """Matryoshka prefixes as cumulative numbers of latents.

    ``groups`` are cumulative shares of the dictionary (the last one is 1) or cumulative counts (the last one is w).
    """
    counts = tuple(round(g * w) for g in groups) if groups and groups[-1] == 1 else tuple(round(g) for g in groups)
    if not counts or counts[-1] != w:
        raise UserError(f"The matryoshka groups {_list(groups)} must end at 1 (shares) or at {w} (all latents).")
    if groups and groups[-1] != 1 and any(g != count for g, count in zip(groups, counts, strict=True)):
        raise UserError(
            f"The matryoshka groups {_list(groups)} are no counts of latents: give whole numbers, or shares."
        )
    if counts[0] < 1 or any(a >= b for a, b in itertools.pairwise(counts)):
        raise UserError(
            f"The matryoshka groups {_list(groups)} of {counted(w, 'latent')} must grow: give larger steps."
        )
    return counts


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)
