"""Charts as plain geometry, which the template draws as inline SVG: curves of a training, distributions of scores.

Units are those of the picture: ``WIDTH`` x ``HEIGHT``, from the upper left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from engine.numbers import count, significant

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 20, 28
"""Room for what stands beside the axes."""
POINTS = 200  # of a curve, at most
BINS = 30

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """Something that is told where one points: a point of a curve, or a bin, ``width`` wide."""

    x: float
    y: float
    width: float
    told: str


@dataclass(frozen=True)
class Curve:
    """A line, or the outline of a distribution, with the name that the legend says."""

    name: str
    path: str
    style: str
    """Of the template: ``latents``, ``control``, ``plain``."""


@dataclass(frozen=True)
class Rule:
    """A vertical line at a value worth knowing."""

    at: float
    name: str


@dataclass(frozen=True)
class Chart:
    title: str
    about: str
    """Which explanation is the title's own."""
    n: str
    axis: str
    """What goes to the right."""
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...]
    filled: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def label(self) -> str:
        """The chart in words."""
        return f"{self.title}: {', '.join(curve.name for curve in self.curves)}, by {self.axis}; {self.n}"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.first + (value - self.low) / span * (self.last - self.first), 1)


def training_curve(title: str, about: str, n: str, series: dict[str, Points], whole: bool = False) -> Chart | None:
    """Measurements by step; None where there are none. The first series is the latents', a second one its control.

    The axis begins at 0 unless something is below it; ``whole``: and ends at 1.
    """
    known = {name: _thinned([p for p in points if math.isfinite(p[1])]) for name, points in series.items()}
    known = {name: points for name, points in known.items() if points}
    if not known:
        return None
    steps = [step for points in known.values() for step, _ in points]
    values = [value for points in known.values() for _, value in points]
    low, high = _room(min(0.0, *values), max(values))
    low, high = low if min(values) < 0 else 0.0, 1.0 if whole else high
    x = _Scale(min(0.0, *steps), max(steps), LEFT, WIDTH - RIGHT)
    y = _Scale(low, high, HEIGHT - BOTTOM, TOP)
    styles = ("latents", "control")
    curves = [
        Curve(name, "M" + "L".join(f"{x(step)} {y(value)}" for step, value in points), style)
        for (name, points), style in zip(known.items(), styles, strict=False)
    ]
    marks = [
        Mark(x(step), y(value), 0, f"step {count(step)}: {name} {significant(value, 4)}")
        for name, points in known.items()
        for step, value in points
    ]
    return Chart(title, about, n, "step", _ticks(x, count), _ticks(y, significant), tuple(curves), tuple(marks))


def distribution(
    title: str,
    about: str,
    n: str,
    axis: str,
    series: dict[str, Shaped[np.ndarray, " n"]],
    rules: dict[str, float | None] | None = None,
    logarithmic: bool = False,
) -> Chart | None:
    """How many latents have which value, NaN left out; None where none has one. The series share their bins."""
    known = {name: np.asarray(values, float)[np.isfinite(values)] for name, values in series.items()}
    if logarithmic:
        known = {name: np.log10(values[values > 0]) for name, values in known.items()}
    known = {name: values for name, values in known.items() if len(values)}
    if not known:
        return None
    marked = {name: float(at) for name, at in (rules or {}).items() if at is not None and math.isfinite(at)}
    every = np.concatenate([*known.values(), list(marked.values())])
    low, high = _room(float(every.min()), float(every.max()), 0)
    edges = np.linspace(low, high, BINS + 1)
    counts = {name: np.histogram(values, edges)[0] for name, values in known.items()}
    x = _Scale(low, high, LEFT, WIDTH - RIGHT)
    y = _Scale(0, max(int(one.max()) for one in counts.values()), HEIGHT - BOTTOM, TOP)
    styles = ("latents", "control")
    curves = [
        Curve(name, _outline(one, edges, x, y), style)
        for (name, one), style in zip(counts.items(), styles, strict=False)
    ]
    written = _powers if logarithmic else significant
    return Chart(
        title,
        about,
        n,
        axis,
        _whole_powers(x) if logarithmic else _ticks(x, significant),
        _ticks(y, count, whole=True),
        tuple(curves),
        tuple(_bins(counts, edges, x, y, written)),
        filled=True,
        rules=tuple(Rule(x(at), f"{name} {written(at)}") for name, at in marked.items()),
    )


def _bins(
    counts: dict[str, Int[np.ndarray, " n"]], edges: np.ndarray, x: _Scale, y: _Scale, written: object
) -> list[Mark]:
    assert callable(written)
    marks = []
    for bin, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        told = ", ".join(f"{name} {count(int(one[bin]))}" for name, one in counts.items())
        highest = max(int(one[bin]) for one in counts.values())
        marks.append(Mark(x(low), y(highest), round(x(high) - x(low), 1), f"{written(low)} to {written(high)}: {told}"))
    return marks


def _outline(counts: Int[np.ndarray, " n"], edges: np.ndarray, x: _Scale, y: _Scale) -> str:
    steps = [f"M{x(edges[0])} {y(0)}"]
    for number, right in zip(counts.tolist(), edges[1:].tolist(), strict=True):
        steps.append(f"V{y(number)}H{x(right)}")
    return "".join([*steps, f"V{y(0)}"])


def _powers(exponent: float) -> str:
    return significant(10**exponent, 2)


def _whole_powers(scale: _Scale) -> tuple[Tick, ...]:
    powers = range(math.ceil(scale.low), math.floor(scale.high) + 1)
    return tuple(Tick(scale(power), count(10**power) if power >= 0 else _powers(power)) for power in powers) or (
        Tick(scale.first, _powers(scale.low)),
        Tick(scale.last, _powers(scale.high)),
    )


def _ticks(scale: _Scale, written: object, whole: bool = False) -> tuple[Tick, ...]:
    """Round values, three to six of them: steps of 1, 2 or 5 times a power of ten."""
    assert callable(written)
    rough = (scale.high - scale.low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return tuple(Tick(scale(place * step), written(round(place * step, 12))) for place in range(first, last + 1))


def _room(low: float, high: float, margin: float = 0.05) -> tuple[float, float]:
    """A range that is none of width 0."""
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return low - margin * (high - low), high + margin * (high - low)


def _thinned(points: Points) -> Points:
    every = -(-len(points) // POINTS)
    return points if every <= 1 else [*points[:-1:every], points[-1]]
