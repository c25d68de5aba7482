"""How well an SAE reconstructs, as far as it says. Costs no matplotlib."""

from dataclasses import dataclass
from pathlib import Path

from engine.artefacts.entries import SAEEntry
from engine.sae.config import control_in_short


@dataclass(frozen=True)
class Reconstruction:
    """What an SAE does to held-out rows."""

    name: str
    arch: str
    w: int
    """Number of latents."""
    at: str
    """Hook point and tokens of the activations."""
    control: str
    """What makes it a control, in a word or two; empty for one that was trained."""
    rows: int
    fve: float
    l0: float
    dead: float | None


def reconstruction_of(folder: Path) -> Reconstruction | None:
    """As measured at the end of its training, or of directions when they were made; None where it was not."""
    entry = SAEEntry.read(folder)
    if entry is None or entry.config is None or (found := entry.held_out) is None:
        return None
    if found.fve is None or found.l0 is None:
        return None
    return Reconstruction(
        name=entry.name,
        arch=entry.arch if entry.result is None else entry.result.arch,
        w=entry.config.w,
        at=", ".join(filter(None, (entry.config.hook, entry.config.tokens))),
        control=control_in_short(entry.config),
        rows=found.rows,
        fve=found.fve,
        l0=found.l0,
        dead=found.dead,
    )
