"""Dose and response: one latent turned up step by step, what is said then, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical

from engine.config import InterventionMode
from engine.records import to_json
from engine.steer.results import SweepPoint
from saetui.formatting import literal, number, signed, times
from saetui.modes.steer.setup import SetupEditor, Slot, parse_doses
from saetui.services import Served
from saetui.widgets.dialogs import Ask
from saetui.widgets.table import Column, Table
from saetui.widgets.words import Words

TITLES = {"concept": "concept", "damage": "KL"}  # fields of a point that are measured -> what stands over them
MEASURED = 7  # terminal cells of a column that is measured
_BLOCKS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"


def bar(share: float, width: int) -> str:
    """``share`` (0 to 1) of ``width`` cells, filled from the left to an eighth of a cell."""
    eighths = round(max(min(share, 1.0), 0.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_BLOCKS[rest] if rest else "")


def sparkline(values: Sequence[float | None]) -> str:
    """One character a value, from the lowest to the highest of them; a space where there is none."""
    known = [value for value in values if value is not None]
    low, span = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    top = len(_HEIGHTS) - 1
    return "".join(" " if v is None else _HEIGHTS[round((v - low) / span * top) if span else 0] for v in values)


def _shown(value: float) -> str:
    return "<.01" if 0 < value < 0.005 else number(value, width=MEASURED)


@dataclass(frozen=True)
class DoseSweep:
    """One latent turned up, as far as it is answered."""

    title: str
    unit: float
    """The latent's maximum."""
    mode: InterventionMode
    latent: int
    others: str
    """All that was the same for all its points."""
    points: tuple[SweepPoint, ...] = ()


STRENGTHS = "-1..4 by 0.5"
NO_SWEEP = DoseSweep("", 1.0, "clamp", -1, "")


class Dose(Served, Vertical):
    """A sweep, point by point as they come."""

    DEFAULT_CSS = """
    Dose { height: 1fr; border-top: solid $border; border-title-color: $secondary; }
    Dose #chart { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, editor: SetupEditor, **options: Any):
        super().__init__(**options)
        self._editor = editor
        self.sweep = NO_SWEEP
        self._old = False
        self.chart = Words(id="chart")
        self.table = Table(self._columns(), self._cells, id="points", empty="The first points are on the way.")

        self.table.records = self._records

    def _records(self) -> list[dict[str, Any]]:
        return [to_json(point) for point in self.points]

    def text(self) -> str:
        """The sweep, to be pasted somewhere else."""
        titles = [column.title for column in self._columns()]
        rows = [titles, *(self._cells(row) for row in range(len(self.points)))]
        cells = [[text.strip() for title, text in zip(titles, row, strict=True) if title] for row in rows]
        return "\n".join([self.sweep.title, *map("  ".join, cells)]) + "\n"

    def compose(self) -> ComposeResult:
        yield self.chart
        yield self.table

    @property
    def points(self) -> tuple[SweepPoint, ...]:
        return self.sweep.points

    @property
    def _strengths(self) -> str:
        return self.services.session.recall("steer", "doses", STRENGTHS)

    @property
    def strengths(self) -> tuple[float, ...]:
        """Those of the next sweep, in multiples of the maximum."""
        return parse_doses(self._strengths)

    def ask_strengths(self, then: Callable[[], None]) -> None:
        def given(text: str) -> None:
            if self.services.guard(lambda: parse_doses(text)):
                self.services.remember("steer", doses=text)
                then()

        question = "Strengths in multiples of the maximum: -1..4 by 0.5, or a list like 0 1 2"
        self.services.ask(Ask(question, self._strengths, check=parse_doses), given)

    def begin(self, slot: Slot) -> None:
        """Expect the points of a sweep of ``slot``, all else as in the setup."""
        setup, title = self._editor.setup, f"dose of {slot.latent} {literal(slot.name)}"
        self.show_sweep(DoseSweep(title, slot.unit, setup.mode, slot.latent, setup.without(slot.latent)))
        self.table.focus()

    def show_sweep(self, sweep: DoseSweep) -> None:
        self.sweep, self._old = sweep, False
        self.show_all()
        self.compare()

    def hear(self, point: SweepPoint) -> int:
        """Take in the next point; how many there are now."""
        self.sweep = replace(self.sweep, points=(*self.points, point))
        self.show_all()
        return len(self.points)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        """Take over the strength of that point."""
        event.stop()
        value, setup = self.points[event.row].value, self._editor.setup
        slot = next((slot for slot in setup.rack if slot.latent == self.sweep.latent), None)
        if slot is not None and value is not None:
            raw = value * slot.unit if self.sweep.mode == "scale" else value
            self._editor.change(setup.with_latent(replace(slot, value=raw, on=True)))

    def compare(self) -> None:
        """Say whether the points hold for the setup as it is now."""
        if self._old != (self._editor.setup.without(self.sweep.latent) != self.sweep.others):
            self._old = not self._old
            self.show_all()

    def on_resize(self, event: events.Resize) -> None:
        self.show_all()

    def show_all(self) -> None:
        """Draw everything again."""
        old = " · of an earlier setup, d sweeps again" if self._old else ""
        self.border_title = Text(self.sweep.title + old)  # a title that is a str would be markup
        self.table.set_columns(self._columns())
        self.table.show(len(self.points), self.table.cursor)
        steered = [point for point in self.points if point.value is not None]
        line = Text()
        for name in self._quantities:
            values = [getattr(point, name) for point in steered]
            known = [value for value in values if value is not None]
            if known:
                line.append(f"{TITLES[name]} ", style=self.app.current_theme.secondary or "")
                line.append(sparkline(values), style=self.app.current_theme.accent or "")
                line.append(f" {_shown(min(known))}–{_shown(max(known))}    ")
        self.chart.say(line)

    def _cells(self, row: int) -> tuple[str, ...]:
        point = self.points[row]
        value = point.value
        scale = self.sweep.mode == "scale"
        of_max = "" if value is None else times(value if scale else value / self.sweep.unit, 5)
        raw = point.answer_of if value is None else "" if scale else signed(value, 9)
        return raw, of_max, point.answer, *(text for name in self._quantities for text in self._measured(point, name))

    def _measured(self, point: SweepPoint, quantity: str) -> tuple[str, str]:
        value = getattr(point, quantity)
        if value is None:
            return number(None), ""
        known = [v for p in self.points if (v := getattr(p, quantity)) is not None]
        full = max(1.0, *known)  # what is small looks small
        return _shown(value), bar(value / full, self._room)

    @property
    def _quantities(self) -> list[str]:
        """What is measured of these points: without scores there is no concept."""
        known = [name for name in TITLES if any(getattr(point, name) is not None for point in self.points)]
        return known or ["damage"]

    @property
    def _room(self) -> int:
        """Width of a bar."""
        return 12 if self.size.width >= 100 else 5

    def _columns(self) -> list[Column]:
        measured = [
            c for name in self._quantities for c in (Column(TITLES[name], MEASURED), Column("", self._room, "left"))
        ]
        return [Column("strength", 9), Column("x max", 5), Column("answer", 0, "left"), *measured]
