"""Cells as the shortest text that a terminal draws them from: words line by line, then pictures colour by colour.

A colour costs as many bytes as fifteen spaces, to go elsewhere costs four to eight. Words come first, so that a slow
line shows them before the pictures, and of those the large areas before the details.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from rich.cells import cell_len

_RESET = "\x1b[m"
_ERASED = 10  # spaces from which on it is shorter to erase cells and to go on behind them
BLOCKS = "▀▄▌▐▚▞▘▟▝▙▖▜▗▛"
TURNED = str.maketrans(BLOCKS, "▄▀▐▌▞▚▟▘▙▝▜▖▛▗")
"""The same with its two colours exchanged."""
_NOWHERE = (-1, -1)


class Paint(NamedTuple):
    """How a cell looks, as the parameters of escape sequences; empty: as the terminal likes."""

    ink: str = ""
    ground: str = ""
    rest: str = ""
    """Bold, underline, ..."""
    link: str = ""


class Piece(NamedTuple):
    """Neighbours that look alike."""

    text: str
    paint: Paint
    width: int
    """Terminal cells."""


Run = tuple[int, int, list[Piece]]
"""Column, line, and what is written from there on."""


def written(runs: Iterable[Run], erases: bool = False) -> str:
    """What to write so that the terminal shows ``runs``. ``erases``: it erases cells in the colour that is in force."""
    words: list[Run] = []
    pictures: list[Run] = []
    for run in runs:
        (pictures if _is_picture(run[2]) else words).append(run)
    edge = max((x + sum(piece.width for piece in pieces) for x, _, pieces in (*words, *pictures)), default=0)
    in_lines, by_colour = _Pen(erases, edge), _Pen(erases, edge)
    for pen in (in_lines, by_colour):
        pen.write(words)
    in_lines.write(pictures)
    by_colour.write(_by_colour(pictures))
    return min(in_lines.text(), by_colour.text(), key=len)


def _is_picture(pieces: list[Piece]) -> bool:
    blank = [not paint.ink and text.isspace() for text, paint, _ in pieces]
    known = all(empty or not text.strip(BLOCKS) for empty, (text, _, _) in zip(blank, pieces, strict=True))
    return known and not all(blank) and all(_is_plain(paint) for _, paint, _ in pieces)


def _is_plain(paint: Paint) -> bool:
    """Whether its colours are two of many: those of ink begin with 38, those of ground with 48, and end alike."""
    return not (paint.rest or paint.link) and paint.ground[:3] == "48;" and paint.ink[:3] in ("", "38;")


def _by_colour(pictures: list[Run]) -> Iterator[Run]:
    """The same cells, those of two colours together, and one after the other those that share a colour."""
    plain: defaultdict[str, list[Run]] = defaultdict(list)
    mixed: defaultdict[str, dict[str, list[Run]]] = defaultdict(dict)
    for x, y, pieces in pictures:
        for piece in pieces:
            ink, ground = piece.paint.ink[1:], piece.paint.ground[1:]
            if ink:
                cells = mixed[ground].setdefault(ink, [])
                mixed[ink].setdefault(ground, cells).append((x, y, [piece]))
            else:
                plain[ground].append((x, y, [piece]))
            x += piece.width
    for ink, ground in _walk(mixed, plain):
        yield from plain.pop(ground, ())
        yield from ((x, y, [_in(piece, ink, ground)]) for x, y, (piece,) in mixed[ground][ink])
    for cells in plain.values():
        yield from cells


def _walk(mixed: Mapping[str, Iterable[str]], plain: Container[str]) -> Iterator[tuple[str, str]]:
    """Every two colours that meet, once: as ink and ground, of which one is also in the next two wherever it can be.

    What is about to be left with nobody to meet goes first, and a colour of plain cells is the ground.
    """
    left = {colour: set(others) for colour, others in mixed.items()}

    def take(colour: str) -> str:
        other = min(left[colour], key=lambda other: (len(left[other]), other))
        left[colour].discard(other)
        left[other].discard(colour)
        return other

    for start in sorted(left, key=lambda colour: (colour not in plain, -len(left[colour]), colour)):
        while left[start]:
            ground, ink = start, take(start)
            yield ink, ground
            while left[ground] or left[ink]:
                if left[ground] and not 0 < len(left[ink]) < len(left[ground]):
                    ink = take(ground)
                else:
                    ground = take(ink)
                yield ink, ground


def _in(piece: Piece, ink: str, ground: str) -> Piece:
    """``piece`` in its own two colours, exchanged if they have to be."""
    text = piece.text if piece.paint.ink[1:] == ink else piece.text.translate(TURNED)
    return Piece(text, Paint(f"3{ink}", f"4{ground}"), piece.width)


def _steps(count: int, forth: str, back: str) -> str:
    way = forth if count > 0 else back
    return f"\x1b[{abs(count)}{way}" if abs(count) > 1 else f"\x1b[{way}" if count else ""


class _Pen:
    """Writes at places, in colours; what is in force already is not said again.

    A block is turned over, its colours exchanged, where one of them is then in force already.
    """

    def __init__(self, erases: bool, edge: int):
        """``edge``: behind the last column, where terminals do not agree on where the cursor is."""
        self._erases, self._edge = erases, edge
        self._written: list[str] = []
        self._paint = Paint()
        self._at = _NOWHERE
        """Where it stands: column and line."""

    def text(self) -> str:
        end = "\x1b]8;;\x1b\\" if self._paint.link else ""
        return "".join(self._written) + end + _RESET if self._written else ""

    def write(self, runs: Iterable[Run]) -> None:
        for x, y, pieces in runs:
            for text, paint, width in pieces:
                self._go(x, y)
                self._put(text, paint, width)
                x += width

    def _go(self, x: int, y: int) -> None:
        if self._at == (x, y):
            return
        ways = [f"\x1b[{y + 1};{x + 1}H"]
        if self._at != _NOWHERE:
            right, down = x - self._at[0], y - self._at[1]
            ways.append(_steps(down, "B", "A") + ("\b" * -right if -4 < right < 0 else _steps(right, "C", "D")))
        self._written.append(min(ways, key=len))
        self._at = (x, y)

    def _put(self, text: str, paint: Paint, width: int) -> None:
        if self._erases and width >= _ERASED and text.isspace() and not paint.rest and not paint.link:
            self._style(text, paint)
            self._written.append(f"\x1b[{width}X")
            return
        self._written.append(self._style(text, paint))
        x = self._at[0] + width
        # Nor do terminals agree on the width of all that is not one cell a character.
        narrow = len(text) == width and (text.isascii() or cell_len(text) == width)
        self._at = (x, self._at[1]) if x < self._edge and narrow else _NOWHERE

    def _style(self, text: str, paint: Paint) -> str:
        """``text``, perhaps turned over, for the colours that are then in force."""
        ink, ground, rest, link = self._paint
        i, g, r, link_now = paint
        if link_now != link:
            self._written.append(f"\x1b]8;;{link_now}\x1b\\")
        is_known = i != ink and g != ground and (i[1:] == ground[1:] or g[1:] == ink[1:])
        if is_known and i and _is_plain(paint) and not text.strip(BLOCKS):
            i, g, text = f"3{g[1:]}", f"4{i[1:]}", text.translate(TURNED)
        if r != rest or (ground and not g) or (ink and not i and (r or not text.isspace())):
            self._written.append(f"\x1b[{';'.join(filter(None, ('0', r, i, g)))}m")
            ink, ground, rest = i, g, r
        elif i and i != ink:
            self._written.append(f"\x1b[{i};{g}m" if g != ground else f"\x1b[{i}m")
            ink, ground = i, g
        elif g != ground:
            self._written.append(f"\x1b[{g}m")
            ground = g
        self._paint = Paint(ink, ground, rest, link_now)
        return text
