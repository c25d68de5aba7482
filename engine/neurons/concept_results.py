"""What the concept tests say. Costs no torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.config import ConceptsSettings
from engine.errors import UserError
from engine.files import read_json, write_json
from engine.metrics.results import Interval
from engine.places import located, recorded, workspace_of
from engine.records import from_json, seldom, to_json
from engine.workspace import Provenance, Workspace

VERSION = 2
"""1 called the mean of an interval its value, and had no n."""


@dataclass(frozen=True)
class ConceptTest:
    """One concept. Chosen on one half of the images, measured on the other; see engine.metrics.concepts."""

    concept: str
    images: int
    """That have it."""
    latent: int
    auroc: Interval
    """Of resamplings of the half that it is measured on; n: images of both halves."""
    ap: float | None
    f1: float | None
    probes: dict[str, float | None]
    """AUROC of the probe on k latents, by k."""
    above: int
    """Latents with an AUROC of the threshold or more."""
    precise: int
    """Latents of which four in five images have it."""
    missed: float | None
    absorbed: float | None
    matched: float | None
    """AUROC of the best of as many matched raw neurons."""
    random: float | None
    """AUROC of the best of as many matched random directions."""
    shuffled: float | None
    """AUROC of the best latent where labels are dealt anew."""


@dataclass(frozen=True)
class ConceptMeans:
    """Means over the concepts, which their n counts. The intervals are of the images and of the concepts."""

    auroc: Interval
    ap: Interval
    f1: Interval
    probes: dict[str, float | None]
    covered: float | None
    """Share of the concepts whose best latent has an AUROC of the threshold or more."""
    above: float
    precise: float
    missed: float | None
    absorbed: float | None


@dataclass(frozen=True)
class ConceptsTested:
    """Result of the command ``concepts``, and of its file."""

    path: str = field(metadata={"place": "path"})
    sae: str
    images: int
    concepts: int
    left_out: int
    """Concepts with too few images, or without others, in a half."""
    latents: ConceptMeans
    matched: ConceptMeans
    """The same of raw neurons, each thresholded to fire on as many images as a latent."""
    random: ConceptMeans
    """The same of random directions."""
    shuffled: ConceptMeans
    """The latents, with labels dealt anew among the images."""
    tests: tuple[ConceptTest, ...]
    settings: ConceptsSettings
    origin: Provenance
    made: bool = seldom(True)
    """False: they were there already."""

    @staticmethod
    def renewed(value: dict[str, Any]) -> dict[str, Any]:
        """As it is written now, of version 1."""
        means = {name: _renewed(value[name], value.get("concepts")) for name in _SETS if name in value}
        tests = [_renewed(one, value.get("images")) for one in value.get("tests", ())]
        return value | means | ({"tests": tests} if "tests" in value else {})


_SETS = ("latents", "matched", "random", "shuffled")


def _renewed(record: Any, n: Any) -> Any:
    """``record`` with the intervals of version 1 as they are written now."""
    if not isinstance(record, dict):
        return record
    return {
        name: {"n": n, "mean": one["value"], "low": one.get("low"), "high": one.get("high")}
        if isinstance(one, dict) and "value" in one
        else one
        for name, one in record.items()
    }


def write_concepts(result: ConceptsTested, workspace: Workspace) -> None:
    """Keep ``result`` where it says."""
    write_json(Path(result.path), {"version": VERSION} | to_json(recorded(result, workspace.root)))


def read_concepts(path: Path) -> ConceptsTested:
    """The result in ``path``. UserError for what is none."""
    told = read_json(path, "remove it and run saetui concepts again")
    version = told.pop("version", 0) if isinstance(told, dict) else 0
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{path} was written by a newer saetui: update, or give another --name.")
    found = located(from_json(ConceptsTested, told, f"What {path} says"), workspace_of(path))
    return replace(found, path=str(path))
