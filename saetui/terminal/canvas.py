"""What the terminal shows is not sent again."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any

from rich.cells import get_character_cell_size
from rich.color import Color, ColorSystem
from rich.console import Console, ConsoleOptions
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

from saetui.terminal.writing import Paint, Piece, Run, written

_NEAR = 4  # equal cells between two changes that are sent: to pass over them takes as many bytes


Cell = tuple[str, Paint]
"""Characters and their paint; the second cell of a wide character has no character."""
Painted = tuple[int, int, Strip]
"""Column, line, and what is painted from there on."""
PLAIN = Paint()
UNKNOWN: Cell = ("", PLAIN)


class Canvas:
    """The screen of the terminal, as far as it is known."""

    def __init__(self, erases: bool = False) -> None:
        """``erases``: the terminal erases cells in the colour that is in force."""
        self._erases = erases
        self._lines: defaultdict[int, dict[int, Strip]] = defaultdict(dict)
        """Of each line, what was painted from a column on; they do not overlap."""

    def forget(self) -> None:
        """The terminal was resized, or others wrote on it."""
        self._lines.clear()

    def paint(self, update: LayoutUpdate | ChopsUpdate, console: Console, closely: bool = True) -> str:
        """What to write so that the terminal shows ``update``: of it what is new.

        ``closely``: cell by cell. Else what has changed in part is sent whole, which takes less time.
        """
        colours = console._color_system or ColorSystem.TRUECOLOR
        pieces = _whole(update) if isinstance(update, LayoutUpdate) else _parts(update)
        new = [(piece, self._replace(*piece)) for piece in pieces if not self._shows(*piece)]
        if not closely:
            return "".join(f"\x1b[{y + 1};{x + 1}H{strip.render(console)}" for (x, y, strip), _ in new)
        return written((run for piece, before in new for run in _news(piece, before, colours)), self._erases)

    def _shows(self, x: int, y: int, strip: Strip) -> bool:
        return self._lines[y].get(x) == strip

    def _replace(self, x: int, y: int, strip: Strip) -> list[tuple[int, Strip]]:
        """Put ``strip`` there; what was there, whole, and from which column on."""
        line, end = self._lines[y], x + strip.cell_length
        before = [(left, old) for left, old in line.items() if left < end and left + old.cell_length > x]
        for left, old in before:
            del line[left]
            if (
                len(old.text) != old.cell_length
            ):  # half of a wide character may be left, which terminals show as they like
                continue
            if left < x:
                line[left] = old.crop(0, x - left)
            if left + old.cell_length > end:
                line[end] = old.crop(end - left)
        line[x] = strip
        return before


class Changes(CompositorUpdate):
    """An update that is compared with what the terminal shows at the moment when it is written."""

    def __init__(self, update: LayoutUpdate | ChopsUpdate, canvas: Canvas, closely: bool):
        self._update, self._canvas, self._closely = update, canvas, closely

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Any]:
        yield from self._update.__rich_console__(console, options)

    def render_segments(self, console: Console) -> str:
        return self._canvas.paint(self._update, console, self._closely)


def _whole(update: LayoutUpdate) -> Iterator[Painted]:
    for y, strips in enumerate(update.strips, update.region.y):
        x = update.region.x
        for strip in strips:
            yield x, y, strip
            x += strip.cell_length


def _parts(update: ChopsUpdate) -> Iterator[Painted]:
    """The strips of a partial update, cut as it cuts them."""
    for y, start, end in update.spans:
        for stop, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < end and stop > start:
                yield x, y, strip if start <= x and stop <= end else strip.crop(0, min(stop, end) - x)


def _news(piece: Painted, before: list[tuple[int, Strip]], colours: ColorSystem) -> Iterator[Run]:
    """The runs of cells in ``piece`` that differ from those ``before``."""
    x, y, strip = piece
    now = _cells(strip, colours)
    was = [UNKNOWN] * len(now)
    for left, old in before:
        cells, skipped = _cells(old, colours), max(x - left, 0)
        was[left + skipped - x : left - x + len(cells)] = cells[skipped:]
    for first, last in _changes(was[: len(now)], now):
        yield x + first, y, _joined(now[first:last])


def _changes(was: list[Cell], now: list[Cell]) -> list[tuple[int, int]]:
    """Spans of ``now`` that are to be sent."""
    spans: list[tuple[int, int]] = []
    for x, (one, other) in enumerate(zip(was, now, strict=True)):
        if one != other:
            near = spans and x - spans[-1][1] <= _NEAR
            spans.append((spans.pop()[0] if near else x, x + 1))
    return spans


def _cells(strip: Strip, colours: ColorSystem) -> list[Cell]:
    cells: list[Cell] = []
    for text, paint in _runs(strip, colours):
        if text.isascii():
            cells.extend(zip(text, repeat(paint)))
            continue
        for character in text:
            width = get_character_cell_size(character)
            if width:
                cells += [(character, paint), ("", paint)][:width]
            elif cells:  # it is drawn on the one before
                cells[-1] = (cells[-1][0] + character, paint)
    return cells


def _joined(cells: list[Cell]) -> list[Piece]:
    alike = [(paint, [character for character, _ in run]) for paint, run in groupby(cells, itemgetter(1))]
    return [Piece("".join(characters), paint, len(characters)) for paint, characters in alike]


def _runs(strip: Strip, colours: ColorSystem) -> Iterator[Cell]:
    for text, style, control in strip:
        if text and not control:
            paint = PLAIN if style is None else _paint(style, colours)
            # The ink of a space is not seen.
            yield text, paint._replace(ink="") if paint.ink and not paint.rest and text.isspace() else paint


@lru_cache(16_384)
def _paint(style: Style, colours: ColorSystem) -> Paint:
    ink, ground = style.color, style.bgcolor
    return Paint(
        _code(ink, colours, True) if ink else "",
        _code(ground, colours, False) if ground else "",
        Strip.render_ansi(style.without_color, colours) if style._attributes else "",
        style.link or "",
    )


@lru_cache(16_384)
def _code(colour: Color, colours: ColorSystem, is_ink: bool) -> str:
    return ";".join(colour.downgrade(colours).get_ansi_codes(is_ink))
