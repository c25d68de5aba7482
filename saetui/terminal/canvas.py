"""What the terminal shows is not sent again, and of what is sent no colour twice in a row."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any, NamedTuple

from rich.cells import get_character_cell_size
from rich.color import Color, ColorSystem
from rich.console import Console, ConsoleOptions
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

_NEAR = 4  # equal cells between two changes that are sent: to pass over them takes as many bytes
_RESET = "\x1b[m"


class Paint(NamedTuple):
    """How a cell looks, as the parameters of escape sequences; empty: as the terminal likes."""

    ink: str = ""
    ground: str = ""
    rest: str = ""
    """Bold, underline, ..."""
    link: str = ""


Cell = tuple[str, Paint]
"""Characters and their paint; the second cell of a wide character has no character."""
Piece = tuple[int, int, Strip]
"""Column, line, and what is painted from there on."""
PLAIN = Paint()
TURNED = str.maketrans("▀▄", "▄▀")
UNKNOWN: Cell = ("", PLAIN)


class Canvas:
    """The screen of the terminal, as far as it is known."""

    def __init__(self) -> None:
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
            return "".join(f"{_at(x, y)}{strip.render(console)}" for (x, y, strip), _ in new)
        return _written(run for piece, before in new for run in _news(piece, before, colours))

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


def _whole(update: LayoutUpdate) -> Iterator[Piece]:
    for y, strips in enumerate(update.strips, update.region.y):
        x = update.region.x
        for strip in strips:
            yield x, y, strip
            x += strip.cell_length


def _parts(update: ChopsUpdate) -> Iterator[Piece]:
    """The strips of a partial update, cut as it cuts them."""
    for y, start, end in update.spans:
        for stop, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < end and stop > start:
                yield x, y, strip if start <= x and stop <= end else strip.crop(0, min(stop, end) - x)


def _news(
    piece: Piece, before: list[tuple[int, Strip]], colours: ColorSystem
) -> Iterator[tuple[int, int, Iterator[Cell]]]:
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


def _joined(cells: list[Cell]) -> Iterator[Cell]:
    for paint, run in groupby(cells, itemgetter(1)):
        yield "".join(character for character, _ in run), paint


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


def _at(x: int, y: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H"


def _written(pieces: Iterable[tuple[int, int, Iterable[Cell]]]) -> str:
    """Runs at their places; a colour is named only where it changes.

    A half block is turned over, its colours exchanged, where one of them is then in force already.
    """
    written: list[str] = []
    ink, ground, rest, link = PLAIN
    for x, y, runs in pieces:
        written.append(_at(x, y))
        for text, (i, g, r, link_now) in runs:
            if link_now != link:
                link = link_now
                written.append(f"\x1b]8;;{link}\x1b\\")
            if (i == ground or g == ink) and i != ink and g != ground and i and g and not text.strip("▀▄"):
                i, g, text = g, i, text.translate(TURNED)
            if r != rest or (ground and not g) or (ink and not i and (r or not text.isspace())):
                written.append(f"\x1b[{';'.join(filter(None, ('0', r, i, g)))}m")
                ink, ground, rest = i, g, r
            elif i and i != ink:
                written.append(f"\x1b[{i};{g}m" if g != ground else f"\x1b[{i}m")
                ink, ground = i, g
            elif g != ground:
                written.append(f"\x1b[{g}m")
                ground = g
            written.append(text)
    if link:
        written.append("\x1b]8;;\x1b\\")
    return "".join(written) + _RESET if written else ""
