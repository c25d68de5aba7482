"""Whether the SAE earns its scores: one table of it and what it is held against (engine.artefacts.twins)."""

from dataclasses import dataclass
from pathlib import Path

from engine.artefacts.entries import NeuronsEntry, SAEEntry, read_entry
from engine.artefacts.twins import BesideHeldOut, Compared, Earned, Twins
from engine.errors import counted
from engine.metrics.results import Interval
from engine.neurons.results import Beside
from engine.numbers import number
from engine.report.explained import Number
from engine.workspace import Workspace

_UNITS = {"twin_ms": "latent", "twin_auroc": "concept"}


@dataclass(frozen=True)
class EarnedRow:
    """The SAE, or what it is held against; None where it was not measured alike."""

    name: str
    sae: str
    itself: bool
    fve: Number | None
    l0: Number | None
    ms: Number | None
    ms_ahead: Number | None
    auroc: Number | None
    auroc_ahead: Number | None


@dataclass(frozen=True)
class EarnedTable:
    rows: tuple[EarnedRow, ...]
    ms_on: str
    """Images and judge, in words; empty without scores."""
    auroc_on: str
    """The result, in words; empty without concept tests."""
    missing: tuple[str, ...]
    """What there is not, and how it is made."""


def earned_of(sae: SAEEntry, scores: Path | None, workspace: Workspace) -> EarnedTable | None:
    """``scores``: the neurons file of the page. None where nothing was measured."""
    twins = Twins.of(workspace)
    found = twins.earned(sae)
    entry = read_entry(NeuronsEntry, scores) if scores else None
    ms = twins.ms(sae, entry, twins.controls(sae)) if entry else None
    same = [one for one in found.auroc if entry and one.on.endswith(f"--{entry.images}")]
    auroc = next(iter(same or found.auroc), None)
    rows = tuple(_rows(found, ms, auroc))
    return EarnedTable(rows, _told(ms), _told(auroc), found.missing) if rows else None


def of_earned(table: EarnedTable) -> dict[str, tuple[str, str]]:
    """What is told of its numbers: what they were measured on, and the files that say it."""
    return {
        "twin_ms": (f"latents with an MS, {table.ms_on}", "neurons/, latents/ms of each SAE"),
        "twin_auroc": (f"concepts, {table.auroc_on}", "concepts/, tests of each SAE"),
    }


def _told(found: Compared | None) -> str:
    judge = f", by {found.judge}" if found and found.judge else ""
    return f"{found.on}: {counted(found.images, 'image')}{judge}" if found else ""


def _rows(found: Earned, ms: Compared | None, auroc: Compared | None) -> list[EarnedRow]:
    """One for each thing that is in any of the three: SAEs first."""
    held_out = {(one.control, one.sae): one for one in found.held_out}
    scored, tested = ({(one.control, one.sae): one for one in (of.rows if of else ())} for of in (ms, auroc))
    keys = dict.fromkeys([*held_out, *scored, *tested])
    return [
        _row(key, held_out.get(key), scored.get(key), tested.get(key))
        for key in sorted(keys, key=lambda key: not key[1])  # what is no SAE stands last
    ]


def _row(
    key: tuple[str, str], held_out: BesideHeldOut | None, scored: Beside | None, tested: Beside | None
) -> EarnedRow:
    rows = counted(held_out.rows, "held-out row") if held_out else ""
    return EarnedRow(
        name=key[0] or "this SAE",
        sae=key[1],
        itself=not key[0],
        fve=Number(number(held_out.fve, 3), "fve", rows) if held_out else None,
        l0=Number(number(held_out.l0, 1), "l0", rows) if held_out else None,
        ms=_number(scored.score if scored else None, "twin_ms"),
        ms_ahead=_number(scored.ahead if scored else None, "twin_ms"),
        auroc=_number(tested.score if tested else None, "twin_auroc"),
        auroc_ahead=_number(tested.ahead if tested else None, "twin_auroc"),
    )


def _number(found: Interval | None, about: str) -> Number | None:
    if found is None:
        return None
    ends = "" if found.low is None else f" [{number(found.low, 3)} {number(found.high, 3)}]"
    return Number(f"{number(found.mean, 3)}{ends}", about, counted(found.n, _UNITS[about]))
