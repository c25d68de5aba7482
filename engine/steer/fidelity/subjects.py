"""The SAEs of a fidelity, and where each reads."""

from dataclasses import dataclass
from pathlib import Path

from engine.models import HookPoint
from engine.sae.model import SAE
from engine.steer.fidelity.embeddings import Site


@dataclass(frozen=True, eq=False)
class Subject:
    """An SAE that is measured."""

    folder: Path
    path: Path
    """Of its result."""
    sae: SAE
    spec: str
    """Of its encoder."""
    tokens: str

    @property
    def hook(self) -> HookPoint:
        return HookPoint.parse(self.sae.config.hook)

    @property
    def site(self) -> Site:
        return Site(self.hook, self.tokens)
