"""A line chart in braille: series over steps, drawn from arrays; only cells that changed are repainted."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from saetui.formatting import fit, literal, significant

MOST = 6  # series that have a colour and a mark of their own
MARKS = "*+xo#%"  # one per series, where colours cannot be used
DOT = "."  # the mark of a dotted series
_DARK = ("#e0b24c", "#6fb1e0", "#7fc79a", "#e08a6c", "#c39be0", "#d6d8dc")
_LIGHT = ("#8a5a00", "#1f5f99", "#2f6b3a", "#a8322a", "#6b3f99", "#23262b")
# The bit of each of a braille cell's 4x2 dots (Unicode 3.0).
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_HUGE = 1e100  # values beyond it are gaps: their differences would overflow
_TINY = 1e-300  # below it, powers of ten and their steps run out of digits
_DOT_SPACING = 3  # dot columns from one dot of a dotted series to the next
_PLAIN, _TITLE, _QUIET, _FIRST_SERIES = 0, 1, 2, 3  # styles of the canvas; series i has _FIRST_SERIES + i


@dataclass(frozen=True, eq=False)
class Series:
    """One line. ``x`` ascends; a ``y`` that is not finite is a gap."""

    name: str
    x: Float[ndarray, " n"]
    y: Float[ndarray, " n"]
    look: int = 0
    """Index of its colour and mark, below ``MOST``; a control has that of the series it controls."""
    dotted: bool = False

    @property
    def last(self) -> float | None:
        """The newest finite value; None without one."""
        measured = np.flatnonzero(np.isfinite(self.y))
        return float(self.y[measured[-1]]) if len(measured) else None


@dataclass(frozen=True)
class Frame:
    """The part of the plane that is drawn; ``bottom`` and ``top`` are decimal logarithms where ``log``."""

    left: float
    right: float
    bottom: float
    top: float
    log: bool = False


def frame(series: Sequence[Series], x: tuple[float, float] | None = None, log: bool = False) -> Frame | None:
    """Round limits around the values within ``x`` (default: the whole range); None when there are none."""
    if x is None:
        ends = [end for s in series if len(s.x) for end in (float(s.x[0]), float(s.x[-1]))]
        if not ends:
            return None
        x = (min(ends), max(ends))
    left, right = (x[0], x[1]) if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
    lows, highs = [], []
    for s in series:
        _, y = _within(s, Frame(left, right, 0, 0, log))
        if np.isfinite(y).any():
            lows.append(float(np.nanmin(y)))
            highs.append(float(np.nanmax(y)))
    if not lows:
        return None
    return Frame(left, right, *_rounded(min(lows), max(highs)), log)


def plot(
    series: Sequence[Series], view: Frame, width: int, height: int, marks: bool = False
) -> tuple[list[str], Int[ndarray, "height width"]]:
    """``series`` in ``width`` x ``height`` cells: the rows, and for each cell the series that colours it (-1: none).

    Where lines share a cell, it shows the dots of all in the colour of the first. ``marks``: one character per
    series instead of braille.
    """
    owner = np.full((height, width), -1)
    codes = np.full((height, width), ord(" "), np.uint32)
    bits = np.zeros((height, width), np.uint8)
    for index in reversed(range(len(series))):
        one = series[index]
        if marks:
            lit = dots(one, view, width, height)
            codes[lit] = ord(DOT if one.dotted else MARKS[one.look % MOST])
        else:
            fine = dots(one, view, 2 * width, 4 * height).reshape(height, 4, width, 2)
            mine = np.bitwise_or.reduce(fine * _BITS[None, :, None, :], axis=(1, 3))
            bits |= mine
            lit = mine > 0
        owner[lit] = index
    if not marks:
        codes = np.where(bits > 0, np.uint32(0x2800) + bits, codes)
    return [_text(row) for row in codes], owner


def dots(one: Series, view: Frame, columns: int, rows: int) -> Bool[ndarray, "rows columns"]:
    """The dots of one line: its measurements, and straight lines between neighbours without a gap.

    Points that share a dot column are drawn as one vertical segment from the lowest to the highest, and only the first
    and the last of them are joined to their neighbours. That gives the same dots as drawing every segment (M4, Jugel
    et al., VLDB 2014) for a few segments a column.
    """
    grid = np.zeros((rows, columns), bool)
    x, y = _within(one, view)
    finite = np.isfinite(y)
    if not finite.any():
        return grid
    stretch = np.cumsum(~finite)[finite]  # measurements with the same number have no gap between them
    column = _nearest((x[finite] - view.left) / (view.right - view.left) * (columns - 1), columns)
    row = _nearest((view.top - y[finite]) / (view.top - view.bottom) * (rows - 1), rows)
    first = np.flatnonzero((np.diff(column, prepend=-1) != 0) | (np.diff(stretch, prepend=-1) != 0))
    last = np.append(first[1:], len(column)) - 1
    low, high = np.minimum.reduceat(row, first), np.maximum.reduceat(row, first)
    _draw(grid, column[first], low, np.zeros_like(low), high - low)
    joined = stretch[last[:-1]] == stretch[first[1:]]
    a, b = last[:-1][joined], first[1:][joined]
    _draw(grid, column[a], row[a], column[b] - column[a], row[b] - row[a])
    if one.dotted:
        thinned = grid.copy()
        thinned[:, np.arange(columns) % _DOT_SPACING != 0] = False
        return thinned if thinned.any() else grid
    return grid


def _draw(
    grid: Bool[ndarray, "rows columns"],
    column: Int[ndarray, " n"],
    row: Int[ndarray, " n"],
    right: Int[ndarray, " n"],
    down: Int[ndarray, " n"],
) -> None:
    """Segments from (``column``, ``row``) over ``right`` columns and ``down`` rows, both ends included."""
    length = np.maximum(np.abs(right), np.abs(down))
    which = np.repeat(np.arange(len(length)), length + 1)
    along = np.arange(len(which)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    share = along / np.maximum(length, 1)[which]
    c = column[which] + np.floor(share * right[which] + 0.5).astype(int)
    r = row[which] + np.floor(share * down[which] + 0.5).astype(int)
    grid[r, c] = True


def _within(one: Series, view: Frame) -> tuple[Float[ndarray, " m"], Float[ndarray, " m"]]:
    """The points between the frame's left and right, with interpolated ends; ``y`` as logarithms where ``view.log``."""
    x, y = np.asarray(one.x, float), np.asarray(one.y, float)
    with np.errstate(all="ignore"):
        y = np.where(np.abs(y) < _HUGE, y, np.nan)
        if view.log:
            y = np.where(y > 0, np.log10(y), np.nan)
        begin, end = np.searchsorted(x, view.left), np.searchsorted(x, view.right, side="right")
        parts_x, parts_y = [x[begin:end]], [y[begin:end]]
        for at, edge in ((begin, view.left), (end, view.right)):
            if 0 < at < len(x):
                share = (edge - x[at - 1]) / (x[at] - x[at - 1])
                place = 0 if edge == view.left else len(parts_x)
                parts_x.insert(place, np.array([edge]))
                parts_y.insert(place, np.array([y[at - 1] + share * (y[at] - y[at - 1])]))
    return np.concatenate(parts_x), np.concatenate(parts_y)


def _nearest(place: Float[ndarray, " n"], count: int) -> Int[ndarray, " n"]:
    return np.clip(np.floor(place + 0.5), 0, count - 1).astype(int)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Limits on round numbers, so that the axis stays still while values arrive; apart even when all are equal."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), _TINY):
        room = max(abs(low), abs(high)) * 0.1
        room = room if room > _TINY else 1.0
        low, high = low - room, high + room
    step = _step((high - low) / 8)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """At most ``most`` round numbers from ``low`` to ``high``, each with its text."""
    if not high > low or most < 1:
        return []
    step = _step((high - low) / max(most, 2))
    while (count := math.floor(high / step + 1e-9) - (first := math.ceil(low / step - 1e-9)) + 1) > most:
        step = _step(step * 1.1)
    return [((first + i) * step, tick_text((first + i) * step, step)) for i in range(count)]


def log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """As ``ticks`` for a logarithmic scale: ``low``, ``high`` and the positions are decimal logarithms."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 5), ((1,), 20), ((1,), 50)):
        found = [p + math.log10(f) for p in powers if p % every == 0 for f in factors]
        found = [place for place in found if low - 1e-9 <= place <= high + 1e-9]
        if 2 <= len(found) <= most:
            return [(place, tick_text(10**place, 10**place)) for place in found]
    inner = ticks(10**low, 10**high, most)
    return [(math.log10(value), text) for value, text in inner if value > 0]


def tick_text(value: float, step: float) -> str:
    """``value`` as an axis label, to the precision of ``step``: 0.25, 40k, 1.5M, 1e-7."""
    if abs(value) < step * 1e-6:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if 1e12 > abs(value) >= size:
            return f"{value / size:.{_places(step / size)}f}{letter}"
    if not 1e-4 <= abs(value) < 1e12:
        places = max(0, math.floor(math.log10(abs(value))) - math.floor(math.log10(step) + 1e-9))
        return f"{value:.{min(places, 15)}e}".replace("e-0", "e-").replace("e+", "e")
    return f"{value:.{_places(step)}f}"


def _places(step: float) -> int:
    return max(0, min(15, -math.floor(math.log10(step) + 1e-9)))


def distinct(names: Sequence[str]) -> list[str]:
    """``names`` without their common beginning, up to a separator."""
    if len(names) < 2:
        return list(names)
    shared = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    cut = max((place + 1 for place, (letter, *_) in enumerate(shared) if letter in "-_./"), default=0)
    return [name[cut:] or name for name in names]


class Chart(Widget):
    """A title, a legend with the newest values, the lines, and a few round numbers on each axis.

    Braille, or plain characters where the app is ``ascii`` or ``colours`` cannot tell several series apart.
    """

    DEFAULT_CSS = """
    Chart { width: 1fr; height: 1fr; background: $background; color: $foreground; }
    Chart .chart--title { text-style: bold; }
    Chart .chart--quiet { color: $secondary; }
    """
    COMPONENT_CLASSES = {"chart--title", "chart--quiet"}

    def __init__(
        self,
        title: str,
        say: Callable[[float], str] = significant,
        empty: str = "no measurements yet",
        **options: Any,
    ) -> None:
        """``say``: formats the newest value. ``empty``: the text shown before the first measurement."""
        super().__init__(**options)
        self.title, self._say, self._empty = title, say, empty
        self._series: list[Series] = []
        self._x: tuple[float, float] | None = None
        self._log = False
        self._codes = np.zeros((0, 0), np.uint32)
        self._styles = np.zeros((0, 0), np.uint8)

    def show(self, series: Sequence[Series], x: tuple[float, float] | None = None, log: bool = False) -> None:
        """Draw ``series`` over ``x`` (default: the whole range)."""
        self._series, self._x, self._log = list(series), x, log
        self._redraw()

    def render_line(self, y: int) -> Strip:
        if y >= len(self._codes):
            return Strip.blank(self.size.width, self.rich_style)
        palette, line, kinds = self._palette(), _text(self._codes[y]), self._styles[y]
        cuts = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(line)]
        parts = [Segment(line[a:b], palette[kinds[a]]) for a, b in itertools.pairwise(cuts) if b > a]
        return Strip(parts, len(line))

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    @property
    def _uses_marks(self) -> bool:
        looks = {one.look for one in self._series}
        mono = getattr(self.app, "colours", "truecolor") == "mono"
        preferences = getattr(self.app, "preferences", None)
        return getattr(self.app, "ascii", getattr(preferences, "ascii", False)) or (mono and len(looks) > 1)

    def _palette(self) -> list[Style]:
        colours = _DARK if self.app.current_theme.dark else _LIGHT
        title, quiet = (self.get_component_rich_style(f"chart--{name}") for name in ("title", "quiet"))
        return [self.rich_style, title, quiet, *(self.rich_style + Style(color=colour) for colour in colours)]

    def _redraw(self) -> None:
        """Draw the canvas, then repaint in each row the cells from the first to the last that differ."""
        before = self._codes, self._styles
        self._draw()
        if before[0].shape != self._codes.shape:
            self.refresh()
            return
        changed = (before[0] != self._codes) | (before[1] != self._styles)
        for y in np.flatnonzero(changed.any(axis=1)).tolist():
            xs = np.flatnonzero(changed[y])
            self.refresh(Region(int(xs[0]), y, int(xs[-1] - xs[0]) + 1, 1))

    def _draw(self) -> None:
        width, height = self.size
        self._codes = np.full((height, width), ord(" "), np.uint32)
        self._styles = np.zeros((height, width), np.uint8)
        if width < 8 or height < 2:
            return
        view = frame(self._series, self._x, self._log)
        if view is None:
            self._write(0, 0, self.title, _TITLE)
            measured = any(one.last is not None for one in self._series)
            words = "no measurements here" if measured else self._empty
            self._write(height // 2, 0, fit(words, width).center(width), _QUIET)
            return
        top = self._legend(width, max(1, height // 4))
        room = height - top - 1
        if room < 1:
            return
        heights = (log_ticks if view.log else ticks)(view.bottom, view.top, max(2, min(5, room // 2)))
        gutter = max((len(text) for _, text in heights), default=0) + 1
        if width - gutter < 4:
            return
        for value, text in heights:
            row = round((view.top - value) / (view.top - view.bottom) * (room - 1))
            self._write(top + row, 0, text.rjust(gutter - 1), _QUIET)
        self._x_axis(view, height - 1, gutter)
        lines, owner = plot(self._series, view, width - gutter, room, self._uses_marks)
        looks = np.array([_PLAIN, *(_FIRST_SERIES + one.look % MOST for one in self._series)], np.uint8)
        for row, line in enumerate(lines):
            self._codes[top + row, gutter:] = _codes(line)
        self._styles[top : top + room, gutter:] = looks[owner + 1]

    def _x_axis(self, view: Frame, row: int, gutter: int) -> None:
        room = self.size.width - gutter
        free = 0
        for value, text in ticks(view.left, view.right, max(1, room // 9)):
            middle = gutter + round((value - view.left) / (view.right - view.left) * (room - 1))
            start = min(max(middle - len(text) // 2, 0), self.size.width - len(text))
            if start >= free:
                self._write(row, start, text, _QUIET)
                free = start + len(text) + 1

    def _legend(self, width: int, most: int) -> int:
        """Write title and newest values into at most ``most`` rows from the top; returns how many it took."""
        title = self.title + (" (log)" if self._log else "")
        self._write(0, 0, fit(title, width), _TITLE)
        row, column = 0, len(title) + 2
        alone = len(self._series) == 1
        for one, name in zip(self._series, distinct([one.name for one in self._series]), strict=True):
            value = "–" if one.last is None else self._say(one.last)
            mark = (DOT if one.dotted else MARKS[one.look % MOST]) + " " if self._uses_marks else ""
            words = value if alone else f"{mark}{fit(name, max(width // 3, 8))} {value}"
            if column + len(words) > width and row + 1 < most and column > 0:
                row, column = row + 1, 0
            if column + len(words) > width:
                words = value  # the number alone, where the name does not fit
            if column + len(words) > width:
                break
            self._write(row, column, words, _FIRST_SERIES + one.look % MOST)
            column += len(words) + 2
        return row + 1

    def _write(self, row: int, column: int, text: str, style: int) -> None:
        codes = _codes("".join(c if cell_len(c) == 1 else "\ufffd" for c in literal(text)))
        codes = codes[: max(self.size.width - column, 0)]
        self._codes[row, column : column + len(codes)] = codes
        self._styles[row, column : column + len(codes)] = style


def _text(codes: Int[ndarray, " n"]) -> str:
    return np.ascontiguousarray(codes, "<u4").tobytes().decode("utf-32-le")


def _codes(text: str) -> Int[ndarray, " n"]:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")
