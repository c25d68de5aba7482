"""Which trainings are listed, in which order, and which of them are drawn: state that needs no terminal."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.query import RowField, Rows
from saetui.modes.train.charts import Curves
from saetui.modes.train.watch import Seen
from saetui.widgets.chart import MOST

if TYPE_CHECKING:
    from engine.runs.trainings import Training

TRAININGS: Rows[Training] = Rows(
    "Trainings",
    {
        "training": RowField("text", lambda row: row.name, ("name",)),
        "state": RowField("text", lambda row: row.state),
        "step": RowField("number", lambda row: row.step),
        "fve": RowField("number", lambda row: last(row, "fve")),
        "twin": RowField("number", lambda row: row.twin and row.twin.last.fve),
        "l0": RowField("number", lambda row: last(row, "l0")),
        "dead": RowField("number", lambda row: last(row, "dead")),
        "ms": RowField("number", lambda row: last(row, "ms")),
        "ms_matched": RowField("number", lambda row: last(row, "ms_matched"), ("raw",)),
        "speed": RowField("number", lambda row: row.tokens_per_s, ("tok/s",)),
        "left": RowField("time", lambda row: row.eta),
        "arch": RowField("text", lambda row: row.settings and row.settings.arch),
        "frozen": RowField("text", lambda row: row.settings and row.settings.frozen),
        "mono": RowField("setting", lambda row: row.settings and row.settings.mono),
        "on": RowField("text", lambda row: row.settings and row.settings.activations, ("activations",)),
        "expansion": RowField("setting", lambda row: row.settings and row.settings.expansion),
        "k": RowField("setting", lambda row: row.settings and row.settings.k),
        "lr": RowField("setting", lambda row: row.settings and row.settings.lr),
        "seed": RowField("setting", lambda row: row.settings and row.settings.seed),
    },
)
"""What the filter line may ask of trainings: every column, and the settings that are often compared."""

SORTS: dict[str, tuple[str, Callable[[Training], Any]]] = {
    "newest": ("the newest first", lambda row: 0),
    "name": ("name", lambda row: row.name),
    "fve": ("FVE", lambda row: -last(row, "fve", -1)),
    "twin": ("FVE of the best frozen twin", lambda row: -_of_twin(row)),
    "ms": ("MS", lambda row: -last(row, "ms", -1)),
    "l0": ("L0, the sparsest first", lambda row: last(row, "l0", float("inf"))),
    "dead": ("dead share, the fewest first", lambda row: last(row, "dead", 1)),
    "left": ("time left", lambda row: float("inf") if row.eta is None else row.eta),
    "step": ("step, the furthest first", lambda row: -row.step),
    "ms_matched": ("MS of matched raw neurons", lambda row: -last(row, "ms_matched", -1)),
    "speed": ("tokens a second, the fastest first", lambda row: -(row.tokens_per_s or 0)),
    "state": ("state", lambda row: row.state),
}


LARGEST_FIRST = {"fve", "twin", "ms", "step", "ms_matched", "speed"}
"""Of these sorts; the others are upwards."""


def sort_of(name: str) -> str:
    """The sort that ``name`` means, as the heading of its column does; empty for none."""
    field = TRAININGS.language.named.get(name.lower(), name)
    field = "name" if field == "training" else field
    return field if field in SORTS else ""


def falls(heading: str, sort: str) -> bool | None:
    """Of a table that stands by ``sort``: whether the column with that ``heading`` begins with the largest; None where
    the rows do not stand by it."""
    name = sort.removeprefix("-")
    return (name in LARGEST_FIRST) != (name != sort) if sort_of(heading) == name else None


class TrainingList:
    """The trainings as they were last seen, sorted; the selected one, and those that are drawn beside it."""

    def __init__(self) -> None:
        self.sort = "newest"
        self.seen = Seen()
        self.rows: list[Training] = []
        self.overlaid: dict[str, int] = {}
        """Names of the trainings that are drawn beside the selected one, and their colours."""
        self.awaited = ""
        """To be selected when it appears."""
        self.place = 0
        """The row of the selected training."""
        self.line = ""
        """The filter."""
        self.mistake = ""
        """Why it lists nothing, where it is not understood."""
        self._left: Mapping[str, float] = {}

    def restore(self, sort: str, selected: str, overlaid: Iterable[str]) -> None:
        """As it was when the workbench was left; the trainings come later."""
        self.sort = sort if sort.removeprefix("-") in SORTS else "newest"
        self.awaited = selected
        self.overlaid = {str(name): look for look, name in enumerate(list(overlaid)[: MOST - 1], 1)}

    @property
    def selected(self) -> Training | None:
        return self.rows[self.place] if self.rows else None

    def see(self, seen: Seen) -> None:
        """The trainings are these now; the selected one stays selected, unless another is awaited."""
        rows = [self._with_left(row) for row in seen.rows]
        self.seen = seen if all(map(operator.is_, rows, seen.rows)) else replace(seen, rows=rows)
        self.arrange()

    def tell_left(self, left: Mapping[str, float]) -> bool:
        """Seconds left of runs, by id, as the head of the app tells them; whether one here is told anew."""
        before, self._left = self.seen, left
        self.see(before)
        return self.seen is not before

    def _with_left(self, row: Training) -> Training:
        told = self._left.get(row.run or "", row.eta)
        return row if row.eta is None or told == row.eta else replace(row, eta=told)

    def arrange(self, sort: str = "") -> None:
        """Sort again, by ``sort`` where it is given."""
        here = self.selected.name if self.selected else ""
        self.sort = sort or self.sort
        self.rows = self._sorted(self._asked_for())
        names = [row.name for row in self.rows]
        if self.awaited in names:
            here, self.awaited = self.awaited, ""
        self.place = names.index(here) if here in names else 0

    def _sorted(self, rows: list[Training]) -> list[Training]:
        name = self.sort.removeprefix("-")
        if name == self.sort:
            return sorted(rows, key=SORTS[name][1])
        if name == "newest":
            return rows[::-1]
        return TRAININGS.sorted(rows, name, name not in LARGEST_FIRST)

    def _asked_for(self) -> list[Training]:
        self.mistake = ""
        try:
            return TRAININGS.filtered(self.seen.rows, self.line)
        except UserError as error:
            self.mistake = str(error)
            return []

    def overlay(self) -> bool:
        """Draw the selected training beside others, or no longer; False when there are as many as can be."""
        row = self.selected
        if row is None:
            return True
        free = [look for look in range(1, MOST) if look not in self.overlaid.values()]
        if self.overlaid.pop(row.name, None) is None:
            if not free:
                return False
            self.overlaid[row.name] = free[0]
        return True

    def curves(self) -> list[Curves]:
        """The selected training, then those overlaid; each keeps its colour."""
        by_name = {row.name: row for row in self.seen.rows}
        here = [self.selected.name] if self.selected else []
        names = dict.fromkeys([*here, *(name for name in self.overlaid if name in by_name)])
        return [
            Curves(name, self.overlaid.get(name, 0), by_name[name].steps, self.seen.lines.get(name, {}))
            for name in names
        ]


def _of_twin(row: Training) -> float:
    """FVE of its twin; without one it comes after all that have."""
    fve = row.twin.last.fve if row.twin else None
    return -math.inf if fve is None else fve


def last(row: Training, name: str, otherwise: float = float("nan")) -> float:
    """The newest measurement of ``name``; ``otherwise`` where it was not measured."""
    directions = row.config.measured if row.config else None
    told = (row.checked, directions and directions.held_out, *reversed(row.history))
    values = (getattr(measured, name, None) for measured in told)
    return next((float(value) for value in values if value is not None), otherwise)
