"""Pixels as terminal cells: half blocks, quadrants or glyphs by brightness, in the colours that the terminal has.

A cell shows at most two colours and is about twice as high as wide. A half block shows two pixels, one above the
other; a quadrant block four, in two colours; a glyph one, without colour.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer, UInt8
from numpy import ndarray
from rich.color import Color, ColorTriplet, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engine.images.shrinking import unchecked_mean
from saetui.terminal.heat import COLOURS, GLYPHS, LUMA, Box, Colour, Part, box, faded, outlined, part, ring, strongest
from saetui.terminal.merging import merged
from saetui.terminal.probe import Colours

PictureStyle = Literal["quadrant", "half", "glyph"]

RAMP = " ░▒▓█"
ASCII_RAMP = " .:-=+*#%@"
STYLES = 16_384  # cached: enough for two screens of photographs; a drawn picture needs a few dozen

# A cell's four pixels in reading order, and the eight ways to split them between two colours (the other eight are
# these with the colours exchanged). The plain cell is first, so that it wins a tie.
SPLITS = {
    " ": (0, 0, 0, 0),
    "▀": (1, 1, 0, 0),
    "▌": (1, 0, 1, 0),
    "▚": (1, 0, 0, 1),
    "▘": (1, 0, 0, 0),
    "▝": (0, 1, 0, 0),
    "▖": (0, 0, 1, 0),
    "▗": (0, 0, 0, 1),
}
_GLYPHS = np.array(list(SPLITS))
_MEMBERS = np.array(list(SPLITS.values()), dtype=np.int32)
_INSIDE = np.maximum(_MEMBERS.sum(axis=1), 1)  # pixels of the first colour; 1 for the plain cell, whose sum is 0
_OUTSIDE = 4 - _MEMBERS.sum(axis=1)
_CUBE = np.array([0, 95, 135, 175, 215, 255])  # levels of xterm's 6x6x6 cube, colours 16 to 231
_NEAREST_LEVEL = np.abs(np.arange(256)[:, None] - _CUBE).argmin(axis=1)
_GREYS = 24  # colours 232 to 255: 8, 18, ... 238
XTERM = np.concatenate(
    [
        np.stack(np.meshgrid(_CUBE, _CUBE, _CUBE, indexing="ij"), axis=-1).reshape(-1, 3),
        (8 + 10 * np.arange(_GREYS))[:, None].repeat(3, axis=1),
    ]
).astype(np.uint8)  # RGB of colours 16 to 255; the first 16 depend on the user's settings


@dataclass(frozen=True)
class Look:
    """How this terminal draws pictures."""

    style: PictureStyle = "half"
    colours: Colours = "truecolor"
    ratio: float = 2.0  # height over width of a cell
    ascii: bool = False  # ASCII glyphs only
    ground: Colour = (22, 24, 28)  # behind pictures: what a heat map fades into
    accent: Colour = (224, 178, 76)  # of the line around its strongest patch
    step: float = 0.0  # of brightness, in 24-bit colour: what differs less may be drawn alike; 0: nothing may

    @property
    def light(self) -> bool:
        """Whether glyphs are dark on light: ink stands for darkness."""
        return float(np.array(self.ground) @ LUMA) >= 128

    @property
    def pixels(self) -> tuple[int, int]:
        """Pixels of a cell: rows, columns."""
        if self.in_glyphs:
            return 1, 1
        return (2, 2) if self.style == "quadrant" else (2, 1)

    @property
    def in_glyphs(self) -> bool:
        """Whether pictures are glyphs. With 16 colours too: they are few, and their RGB values are unknown."""
        return self.style == "glyph" or self.colours in ("16", "mono")


def draw(
    image: UInt8[ndarray, "height width 3"],
    columns: int,
    rows: int,
    look: Look,
    heat: Float[ndarray, "y x"] | None = None,
    maximum: float = 1.0,
    mark: tuple[int, int, int, int] | None = None,
    frame: Part | None = None,
) -> list[Strip]:
    """``image`` centred in ``columns`` x ``rows`` cells, as large as its proportions allow.

    ``heat``, from 0 to ``maximum`` per patch, is laid over it, and its strongest patch outlined. ``mark``: a patch of
    a grid (row, column; rows, columns) that is outlined in its place; ``frame``: a part of the picture that is. Cells
    around the picture have no style.
    """
    wide, high = fitted(image.shape[1], image.shape[0], columns, rows, look.ratio)
    down, across = look.pixels
    pixels = unchecked_mean(image, wide * across, high * down)
    outlines = []
    if heat is not None:
        pixels = faded(pixels, heat, maximum, look.ground, GLYPHS if look.in_glyphs else COLOURS)
        if mark is None and (peak := strongest(heat)):
            mark = (*peak, *heat.shape)
    if frame is not None:
        outlines = [part(frame, *pixels.shape[:2])]
    elif mark is not None:
        outlines = [box(mark[:2], mark[2:], *pixels.shape[:2])]
    if look.in_glyphs:
        return _centred(_framed(_cells(pixels, look), outlines, look.ascii), wide, columns, rows)
    if look.step and look.colours == "truecolor":
        pixels = merged(pixels, look.step)
    for inner in outlines:
        pixels = outlined(pixels, inner, look.accent, look.ground)
    return _centred(_cells(pixels, look), wide, columns, rows)


def fitted(width: int, height: int, columns: int, rows: int, ratio: float = 2.0) -> tuple[int, int]:
    """Columns and rows of the largest picture of ``width`` x ``height`` pixels in ``columns`` x ``rows`` cells.

    ``ratio`` is the height of a cell over its width. Both are rounded to whole cells, at least one, so proportions are
    kept to within half a cell.
    """
    scale = min(columns / width, rows * ratio / height)
    return min(max(round(width * scale), 1), columns), min(max(round(height * scale / ratio), 1), rows)


def half_blocks(pixels: UInt8[ndarray, "two_rows columns 3"], colours: Colours = "truecolor") -> list[Strip]:
    """Two pixels per cell: the upper in the foreground colour, the lower in the background colour."""
    above, below = _codes(pixels[0::2], colours), _codes(pixels[1::2], colours)
    glyphs = np.where(above == below, " ", "▀")
    return _strips(glyphs, above, below, colours)


def quadrants(pixels: UInt8[ndarray, "two_rows two_columns 3"], colours: Colours = "truecolor") -> list[Strip]:
    """Four pixels per cell, in the two colours and the split with the least squared error."""
    rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
    cells = pixels.reshape(rows, 2, columns, 2, 3).swapaxes(1, 2).reshape(rows, columns, 4, 3).astype(np.int32)
    inside = np.einsum("sp,rcpk->rcsk", _MEMBERS, cells)
    outside = cells.sum(axis=2, keepdims=True) - inside
    # The squared error about the means is a constant minus, for each group, squared sum / count. Times 12, which every
    # count divides, this is exact in integers.
    explained = (12 // _INSIDE) * (inside**2).sum(axis=3) + (12 // _OUTSIDE) * (outside**2).sum(axis=3)
    split = explained.argmax(axis=2)
    ground = _mean(outside, _OUTSIDE, split)
    ink = np.where(split[..., None] == 0, ground, _mean(inside, _INSIDE, split))
    above, below = _codes(ink, colours), _codes(ground, colours)
    return _strips(np.where(above == below, " ", _GLYPHS[split]), above, below, colours)


def glyphs(pixels: UInt8[ndarray, "rows columns 3"], *, ascii: bool = False, light: bool = False) -> list[Strip]:
    """One pixel per cell: a glyph with more ink the brighter the pixel (the darker, on a ``light`` background)."""
    ramp = np.array(list(ASCII_RAMP if ascii else RAMP))
    brightness = pixels @ LUMA / 255
    level = (np.abs(light - brightness) * len(ramp)).astype(int).clip(0, len(ramp) - 1)
    return [Strip([Segment("".join(line))], len(line)) for line in ramp[level].tolist()]


def nearest_xterm(pixels: UInt8[ndarray, "*shape 3"]) -> Integer[ndarray, "*shape"]:
    """The number, 16 to 255, of the xterm colour at the least squared distance in RGB.

    In the cube that is the nearest level of each channel, among the greys the nearest to the channels' mean.
    """
    level = _NEAREST_LEVEL[pixels]
    cube = 16 + level @ np.array([36, 6, 1])
    grey = 232 + ((pixels.sum(axis=-1, dtype=np.int64) - 9) // 30).clip(0, _GREYS - 1)
    return np.where(_distance(pixels, grey) < _distance(pixels, cube), grey, cube)


def _distance(pixels: UInt8[ndarray, "*shape 3"], xterm: Integer[ndarray, "*shape"]) -> Integer[ndarray, "*shape"]:
    return ((pixels.astype(np.int32) - XTERM[xterm - 16]) ** 2).sum(axis=-1)


def _cells(pixels: UInt8[ndarray, "height width 3"], look: Look) -> list[Strip]:
    if look.in_glyphs:
        return glyphs(pixels, ascii=look.ascii, light=look.light)
    return (quadrants if look.style == "quadrant" else half_blocks)(pixels, look.colours)


def _framed(strips: list[Strip], outlines: list[Box], ascii: bool) -> list[Strip]:
    """Glyphs with lines around boxes."""
    text = np.array([list(strip.text) for strip in strips])
    for inner in outlines:
        rows, columns = inner
        for y, x in np.argwhere(ring(inner, *text.shape)):
            below, behind = y >= rows.stop, x >= columns.stop
            beside, outside = behind or x < columns.start, below or y < rows.start
            corner = "+" if ascii else "┌┐└┘"[2 * below + behind]
            text[y, x] = corner if beside and outside else "|│"[not ascii] if beside else "-─"[not ascii]
    return [Strip([Segment("".join(line))], len(line)) for line in text.tolist()]


def _mean(
    sums: Integer[ndarray, "rows columns split 3"],
    count: Integer[ndarray, " split"],
    split: Integer[ndarray, "rows columns"],
) -> UInt8[ndarray, "rows columns 3"]:
    """The mean colour of one side of each cell's ``split``, rounded."""
    chosen = np.take_along_axis(sums, split[..., None, None], axis=2)[:, :, 0]
    of = count[split][..., None]
    return ((2 * chosen + of) // (2 * of)).astype(np.uint8)


def _codes(pixels: UInt8[ndarray, "rows columns 3"], colours: Colours) -> Integer[ndarray, "rows columns"]:
    """Colours as numbers: 0xRRGGBB, or xterm's."""
    if colours == "truecolor":
        return pixels @ np.array([1 << 16, 1 << 8, 1])
    return nearest_xterm(pixels)


def _strips(
    glyphs: ndarray, ink: Integer[ndarray, "rows columns"], ground: Integer[ndarray, "rows columns"], colours: Colours
) -> list[Strip]:
    """Cells as strips; neighbours with the same two colours share a segment."""
    styled = _truecolor if colours == "truecolor" else _xterm
    rows, columns = glyphs.shape
    keys = (ink << 24) + ground
    starts = np.ones((rows, columns + 1), dtype=bool)
    starts[:, 1:-1] = keys[:, 1:] != keys[:, :-1]
    strips = []
    for line, row, key in zip(glyphs.tolist(), starts, keys.tolist(), strict=True):
        text, edges = "".join(line), np.flatnonzero(row).tolist()
        runs = [Segment(text[a:b], styled(key[a])) for a, b in pairwise(edges)]
        strips.append(Strip(runs, columns))
    return strips


@lru_cache(STYLES)
def _truecolor(key: int) -> Style:
    return _style(key >> 24, key & 0xFFFFFF, _rgb)


@lru_cache(STYLES)
def _xterm(key: int) -> Style:
    return _style(key >> 24, key & 0xFFFFFF, numbered)


def _style(ink: int, ground: int, colour: Callable[[int], Color]) -> Style:
    """Without a foreground for a plain cell, which saves bytes."""
    return Style.from_color(colour(ink) if ink != ground else None, colour(ground))


@lru_cache(STYLES)
def _rgb(code: int) -> Color:
    """As ``Color.from_rgb`` in half the time, which is most of the time that a new photograph takes."""
    return Color(f"#{code:06x}", ColorType.TRUECOLOR, None, ColorTriplet(code >> 16, code >> 8 & 255, code & 255))


@lru_cache(256)
def numbered(code: int) -> Color:
    """An xterm colour with its RGB values: Textual would turn one without them into truecolor."""
    red, green, blue = XTERM[code - 16].tolist()
    return Color(f"color({code})", ColorType.EIGHT_BIT, code, ColorTriplet(red, green, blue))


def _centred(strips: list[Strip], wide: int, columns: int, rows: int) -> list[Strip]:
    left, over = (columns - wide) // 2, (rows - len(strips)) // 2
    right, under = columns - wide - left, rows - len(strips) - over
    lines = [Strip([*_blank(left), *strip, *_blank(right)], columns) for strip in strips]
    return [*([Strip.blank(columns)] * over), *lines, *([Strip.blank(columns)] * under)]


def _blank(width: int) -> list[Segment]:
    return [Segment(" " * width)] if width else []
