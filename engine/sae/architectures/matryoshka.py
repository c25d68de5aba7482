from dataclasses import dataclass, replace

from engine.config import TrainSettings
from engine.sae.architectures.batchtopk import BatchTopK
from engine.sae.config import SAEConfig, fitting, prefixes
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
