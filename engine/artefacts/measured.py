"""What was measured of an SAE beside its scores: results of the weights that it has now, whatever they are called."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artefacts.entries import UNREADABLE, Figure, SAEEntry, read_entry
from engine.artefacts.results import FidelityEntry, ResultEntry, StabilityEntry, SteerabilityEntry
from engine.sae.config import weights_sha256
from engine.workspace import Workspace

KINDS: tuple[type[ResultEntry[Any]], ...] = (FidelityEntry, SteerabilityEntry, StabilityEntry)
"""Concept tests stand beside those of what an SAE is held against: engine.artefacts.twins."""


@dataclass(frozen=True)
class Measurement:
    """A result, in its figures."""

    kind: str
    name: str
    about: str
    """What was measured, in a few words."""
    on: tuple[str, ...]
    """Names of the images, or of the scores, that it was measured with."""
    figures: tuple[Figure, ...]
    """Of this SAE alone."""

    @property
    def shown_by(self) -> str:
        """How ``saetui show`` is asked for it."""
        return f"{self.kind}/{self.name}"


def measured_of(sae: SAEEntry, workspace: Workspace) -> tuple[Measurement, ...]:
    """What ``workspace`` has, by kind and name; what is damaged, not finished, or of no figure is left out."""
    if sae.config is None or not (sha256 := _weights(sae)):
        return ()
    return tuple(_told(entry, record, sha256) for entry, record in results_of(sha256, workspace))


def results_of(sha256: str, workspace: Workspace) -> Iterator[tuple[ResultEntry[Any], Any]]:
    """Results, and what their files say, that were made from an SAE whose weights have that content hash."""
    for kind in KINDS:
        for path in kind.KINDS[0].all_in(workspace.root):
            entry = read_entry(kind, path)
            if entry is None or not any(one.kind == "sae" and one.sha256 == sha256 for one in entry.made_from):
                continue
            record = _record(entry)
            if record is not None and kind.figures(record, sha256):
                yield entry, record


def _told(entry: ResultEntry[Any], record: Any, sha256: str) -> Measurement:
    on = [Path(one.name).name for one in entry.made_from if one.kind in ("images", "neurons")]
    return Measurement(entry.kind.name, entry.name, entry.about, tuple(on), entry.figures(record, sha256))


def _record(entry: ResultEntry[Any]) -> Any:
    try:
        return entry.record(entry.file_of(entry.path))
    except UNREADABLE:  # replaced meanwhile
        return None


def _weights(sae: SAEEntry) -> str:
    try:
        return weights_sha256(sae.path)
    except UNREADABLE:
        return ""
