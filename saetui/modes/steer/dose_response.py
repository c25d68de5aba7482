"""Dose and response: one latent turned up step by step, what is said then, what it costs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from saetui.formatting import number
from saetui.widgets.table import Column, Table

POINT = ("answer_of", "value", "answer", "damage", "concept")  # fields of a point
TITLES = {"concept": "concept", "damage": "KL"}  # what is measured -> what stands over it
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
    return "<.01" if 0 < value < 0.005 else number(value)


class Dose(Vertical):
    """Points of a sweep as they come: events ``point`` of ``engine.server.protocol.Sweep``."""

    DEFAULT_CSS = """
    Dose { height: 1fr; border-top: solid $border; border-title-color: $secondary; }
    Dose #chart { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.points: list[dict[str, Any]] = []
        self.title_text, self.unit, self.mode, self.latent = "", 1.0, "clamp", -1
        self.others = ""
        self._old = False

    def compose(self) -> ComposeResult:
        yield Static(id="chart", markup=False)
        yield Table(self._columns(), self._cells, id="points", empty="The first points are on the way.")

    @property
    def table(self) -> Table:
        return self.query_one("#points", Table)

    def begin(self, title: str, unit: float, mode: str, latent: int, others: str = "") -> None:
        """A sweep of ``latent``; ``unit``: its maximum; ``others``: all that was the same for all its points."""
        self.title_text, self.unit, self.mode, self.latent, self.others = title, unit, mode, latent, others
        self._old = False
        self.points = []
        self.show_all()

    def hear(self, point: dict[str, Any]) -> None:
        self.points.append({name: point[name] for name in POINT})
        self.show_all()

    def compare(self, others: str) -> None:
        """Say whether the points hold for what is ``others`` now."""
        if self._old != (others != self.others):
            self._old = not self._old
            self.show_all()

    def kept(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return {
            "title": self.title_text,
            "unit": self.unit,
            "mode": self.mode,
            "latent": self.latent,
            "others": self.others,
            "points": self.points,
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Show what ``kept`` returned; what is none of it changes nothing."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            points = [{name: point[name] for name in POINT} for point in kept["points"]]
            self.begin(
                str(kept["title"]), float(kept["unit"]), str(kept["mode"]), int(kept["latent"]), str(kept["others"])
            )
            self.points = points
            self.show_all()

    def on_resize(self, event: events.Resize) -> None:
        self.show_all()

    def show_all(self) -> None:
        """Draw everything again."""
        self.border_title = self.title_text + (" · of an earlier setup, d sweeps again" if self._old else "")
        self.table.set_columns(self._columns())
        self.table.show(len(self.points), self.table.cursor)
        steered = [point for point in self.points if point["value"] is not None]
        line = Text()
        for name in self._quantities:
            values = [point[name] for point in steered]
            known = [value for value in values if value is not None]
            if known:
                line.append(f"{TITLES[name]} ", style=self.app.current_theme.secondary or "")
                line.append(sparkline(values), style=self.app.current_theme.accent or "")
                line.append(f" {_shown(min(known))}–{_shown(max(known))}    ")
        self.query_one("#chart", Static).update(line)

    def _cells(self, row: int) -> tuple[str, ...]:
        point = self.points[row]
        value = point["value"]
        times = "" if value is None else f"{value if self.mode == 'scale' else value / self.unit:.1f}x"
        raw = point["answer_of"] if value is None else "" if self.mode == "scale" else f"{value:+.0f}"
        return raw, times, point["answer"], *(text for name in self._quantities for text in self._measured(point, name))

    def _measured(self, point: dict[str, Any], quantity: str) -> tuple[str, str]:
        value = point[quantity]
        if value is None:
            return number(None), ""
        full = max(1.0, *(p[quantity] for p in self.points if p[quantity] is not None))  # what is small looks small
        return _shown(value), bar(value / full, self._room)

    @property
    def _quantities(self) -> list[str]:
        """What is measured of these points: without scores there is no concept."""
        known = [name for name in TITLES if any(point[name] is not None for point in self.points)]
        return known or ["damage"]

    @property
    def _room(self) -> int:
        """Width of a bar."""
        return 12 if self.size.width >= 100 else 5

    def _columns(self) -> list[Column]:
        measured = [c for name in self._quantities for c in (Column(TITLES[name], 7), Column("", self._room, "left"))]
        return [Column("strength", 9), Column("x max", 5), Column("answer", 0, "left"), *measured]
