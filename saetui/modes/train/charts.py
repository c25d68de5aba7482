"""The measurements of trainings as charts over the same steps: as many of them as there is room for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from textual import events
from textual.widget import Widget

from saetui.formatting import number, short, significant
from saetui.widgets.chart import Chart, Series

Line = tuple[Float[ndarray, " n"], Float[ndarray, " n"]]
"""Steps, ascending, and what was measured at them."""


@dataclass(frozen=True)
class Quantity:
    """What one chart shows."""

    name: str
    title: str
    say: Callable[[float], str]
    control: str = ""
    """Another measurement that it is compared to, dotted."""
    control_name: str = "raw"
    """What is written behind the name of a training for that."""
    times: float = 1.0
    """What values are shown in: 100 for percent."""
    empty: str = "no measurements yet"


QUANTITIES = (
    Quantity("loss", "loss", significant),
    Quantity("fve", "FVE", number, "fve_without_outliers", "without outliers"),
    Quantity("dead", "dead %", partial(number, digits=1), times=100),
    Quantity("ms", "MS, raw dotted", number, "ms_matched", empty="measured if embeddings are given"),
    Quantity("l0", "L0", partial(number, digits=1)),
    Quantity("rate", "tokens/s", short),
)
CHARTS = tuple(one.name for one in QUANTITIES)
_WIDTH, _HEIGHT = 28, 8  # cells below which a chart says little
_WIDE = 150  # columns from which on three stand side by side
_DEEPEST = 2.0**-16  # of all steps: the closest zoom


@dataclass(frozen=True, eq=False)
class Curves:
    """One training as the charts show it."""

    name: str
    look: int
    """Its colour among those shown together."""
    steps: int
    """Of the whole training."""
    lines: Mapping[str, Line] = field(default_factory=dict)
    """By the name of a measurement."""

    @property
    def step(self) -> float:
        """The newest step that anything is known of."""
        return max((float(x[-1]) for x, _ in self.lines.values() if len(x)), default=0.0)


class Charts(Widget, can_focus=True):
    """A grid of charts. They share their steps, so that zooming into one zooms into all."""

    DEFAULT_CSS = """
    Charts { layout: grid; grid-gutter: 0 2; height: 1fr; width: 1fr; padding: 0 1; }
    Charts:focus { background-tint: $accent 4%; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.curves: list[Curves] = []
        self.span: tuple[float, float] | None = None
        """The steps in sight; None: all of them."""
        self.logarithmic = False
        self.alone = ""
        """The measurement that has all the room; empty: each has its share."""

    def compose(self) -> Iterable[Widget]:
        for one in QUANTITIES:
            yield Chart(one.title, one.say, one.empty, id=one.name)

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def show(self, curves: Sequence[Curves]) -> None:
        self.curves = list(curves)
        self._again()

    def enlarge(self, name: str) -> None:
        """Give all the room to the measurement ``name``; to none of them when it is empty."""
        self.alone = name if name in CHARTS else ""
        self._arrange()

    def enlarge_next(self) -> None:
        names = ["", *(one.name for one in QUANTITIES)]
        self.enlarge(names[(names.index(self.alone) + 1) % len(names)])

    def toggle_log(self) -> None:
        self.logarithmic = not self.logarithmic
        self._again()

    @property
    def whole(self) -> tuple[float, float]:
        """From 0 to the end of the longest training, or to the half, quarter ... of it that has been reached.

        The end moves seldom: a scale that moved with every step would have all of a chart painted again.
        """
        return 0.0, max((_horizon(one.step, one.steps) for one in self.curves), default=1.0)

    def zoom(self, by: float) -> None:
        """Show ``by`` times as many steps; about the newest ones while they are in sight, else about the middle."""
        left, right = self.span or self.whole
        newest = max((one.step for one in self.curves), default=right)
        centre = newest if left <= newest <= right else (left + right) / 2
        width = max((right - left) * by, (self.whole[1] - self.whole[0]) * _DEEPEST, 1.0)
        share = (centre - left) / (right - left)
        self._look_at(centre - share * width, centre + (1 - share) * width)

    def pan(self, by: float) -> None:
        """Move by a share of what is in sight."""
        left, right = self.span or self.whole
        whole = self.whole
        shift = max(min((right - left) * by, whole[1] - right), whole[0] - left)
        self._look_at(left + shift, right + shift)

    def reset(self) -> None:
        self.span = None
        self._again()

    def _look_at(self, left: float, right: float) -> None:
        whole = self.whole
        left, right = max(left, whole[0]), min(right, whole[1])
        self.span = None if right - left >= (whole[1] - whole[0]) * (1 - 1e-9) else (left, right)
        self._again()

    def _arrange(self) -> None:
        """As many charts as can be read, in rows and columns."""
        columns = 1 if self.alone or self.size.width < 2 * _WIDTH else 2 if self.size.width < _WIDE else 3
        most = -(-len(QUANTITIES) // columns)
        rows = 1 if self.alone else max(1, min(most, self.size.height // _HEIGHT))
        self.styles.grid_size_columns, self.styles.grid_size_rows = columns, rows
        shown = [self.alone] if self.alone else [one.name for one in QUANTITIES[: columns * rows]]
        for chart in self.query(Chart):
            chart.display = chart.id in shown
        self._again()

    def _again(self) -> None:
        for one in QUANTITIES:
            chart = self.query_one(f"#{one.name}", Chart)
            if not chart.display:
                continue
            series = []
            for curves in self.curves:
                for name, dotted in ((one.name, False), (one.control, True)):
                    if name and (name in curves.lines or not dotted):
                        x, y = curves.lines.get(name, (np.empty(0), np.empty(0)))
                        title = f"{curves.name} {one.control_name}" if dotted else curves.name
                        series.append(Series(title, x, y * one.times, curves.look, dotted))
            chart.show(series, self.span or self.whole, self.logarithmic)


def _horizon(step: float, steps: int) -> float:
    """The smallest of ``steps``, a half of it, a quarter ... that is at least ``step``."""
    end = float(max(steps, step, 1.0))
    while end / 2 >= max(step, 1.0):
        end /= 2
    return end
