"""How an SAE is told beside what it is held against: twins, directions, raw neurons, shuffled labels."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from engine.errors import counted
from engine.metrics.results import Interval
from engine.neurons.results import Beside, best
from saetui.cli.work import columns
from saetui.formatting import number

if TYPE_CHECKING:
    from engine.artefacts.twins import Compared, Earned

_ITSELF = "this SAE"


def lines(earned: "Earned") -> list[str]:
    """A table for what was held out of training, and one for each image set that it was scored or tested on."""
    told = []
    if len(earned.held_out) > 1:
        rows = [
            (one.control or _ITSELF, number(one.fve, 3), number(one.l0, 1), f"{one.rows:,}", one.sae)
            for one in earned.held_out
        ]
        told += ["", *columns(("held-out rows", "FVE", "L0", "n", "SAE"), rows, right=range(1, 4))]
    for name, found in (("MS", earned.ms), ("AUROC", earned.auroc)):
        for one in found:
            told += ["", *_compared(name, one)]
    return [*told, *([""] if told and earned.missing else []), *earned.missing]


def _compared(name: str, found: "Compared") -> list[str]:
    judge = f" by {found.judge}" if found.judge else ""
    head = f"{name} on {found.on}, {counted(found.images, 'image')}{judge}; in brackets intervals of 95 %"
    rows = [
        (one.control or _ITSELF, score(one.score, 3), f"{one.score.n:,}", score(one.ahead, 3), one.sae)
        for one in found.rows
    ]
    return [head, *columns(("", name, "n", "ahead of it by", "SAE"), rows, right=[2])]


def score(found: Interval | None, digits: int = 2) -> str:
    """Empty where there is none."""
    if found is None:
        return ""
    ends = f" [{number(found.low, digits)} {number(found.high, digits)}]" if found.low is not None else ""
    return f"{number(found.mean, digits)}{ends}"


def in_short(found: Iterable[Beside], form: Callable[[Interval], str] = score) -> str:
    """The best of the frozen twins and the best directions, as ``frozen decoder .912``."""
    listed = list(found)
    told = [best(one for one in listed if one.twin is twin) for twin in (True, False)]
    return ", ".join(f"{one.control} {form(one.score)}" for one in told if one)
