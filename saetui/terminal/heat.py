"""Heat maps over pictures: where in the image a latent is active, told by brightness alone."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from rich.color import Color
from rich.style import Style
from rich.text import Text

from saetui.formatting import number

LEGEND = ".:-=+*#%@"  # the scale without colours
LUMA = np.array([0.2126, 0.7152, 0.0722])  # brightness of red, green and blue, ITU-R BT.709
WHITE, BLACK = np.full(3, 255.0), np.zeros(3)


class Fade(NamedTuple):
    """How far what does not fire fades."""

    faint: float
    """What stays of its contrast to the ground: the picture is still seen."""
    lift: float
    """Of the way from any colour to the one farthest from the ground: black on black would not be seen to fire."""


COLOURS = Fade(0.3, 0.2)
GLYPHS = Fade(0.15, 0.4)  # few steps of brightness: what fires at the maximum outshines all that does not

Box = tuple[slice, slice]
"""Rows and columns of pixels."""
Part = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, as shares of its width and height."""
Colour = tuple[int, int, int]


def faded(
    pixels: UInt8[ndarray, "height width 3"],
    heat: Float[ndarray, "y x"],
    maximum: float,
    ground: Colour,
    fade: Fade = COLOURS,
) -> UInt8[ndarray, "height width 3"]:
    """``pixels`` where ``heat`` is ``maximum``; towards 0 they fade into ``ground``, the colour behind the picture.

    out = ground + (faint + (1 - faint) h) (lifted - ground), with h the share of the maximum on the pixel's patch and
    lifted = pixel + lift (far - pixel), far being white on a dark ground and black on a light one. Hues stay, and what
    fires more is farther from the ground in brightness: colours need not be told apart.
    """
    far = WHITE if np.array(ground) @ LUMA < 128 else BLACK
    share = fade.faint + (1 - fade.faint) * _on_pixels(_shares(heat, maximum), pixels.shape[0], pixels.shape[1])
    lifted = pixels + fade.lift * (far - pixels)
    return np.round(ground + share[..., None] * (lifted - ground)).astype(np.uint8)


def strongest(heat: Float[ndarray, "y x"]) -> tuple[int, int] | None:
    """Row and column of the patch that fires most; None when none does."""
    known = np.nan_to_num(heat, nan=0.0)
    row, column = divmod(int(known.argmax()), known.shape[1])
    return (row, column) if known[row, column] > 0 else None


def box(patch: tuple[int, int], grid: tuple[int, int], height: int, width: int) -> Box:
    """The pixels of a patch, of a picture of ``height`` x ``width``: those whose centres it contains, else one."""
    rows, columns = (_span(*one) for one in zip(patch, grid, (height, width), strict=True))
    return rows, columns


def part(of: Part, height: int, width: int) -> Box:
    """The same of a part of a picture."""
    left, top, right, bottom = of
    rows, columns = (_between(*ends) for ends in ((top, bottom, height), (left, right, width)))
    return rows, columns


def _between(start: float, stop: float, pixels: int) -> slice:
    first, last = (math.ceil(edge * pixels - 0.5) for edge in (start, stop))
    if first < last:
        return slice(first, last)
    middle = min(int((start + stop) / 2 * pixels), pixels - 1)
    return slice(middle, middle + 1)


def _span(place: int, count: int, pixels: int) -> slice:
    start, stop = (-((count - 2 * edge * pixels) // (2 * count)) for edge in (place, place + 1))
    if start < stop:
        return slice(start, stop)
    middle = (2 * place + 1) * pixels // (2 * count)
    return slice(middle, middle + 1)


def ring(inner: Box, height: int, width: int) -> Bool[ndarray, "{height} {width}"]:
    """The pixels around a box, as far as the picture goes."""
    around = np.zeros((height, width), bool)
    rows, columns = inner
    around[max(rows.start - 1, 0) : rows.stop + 1, max(columns.start - 1, 0) : columns.stop + 1] = True
    around[inner] = False
    return around


def outlined(
    pixels: UInt8[ndarray, "height width 3"], inner: Box, accent: Colour, ground: Colour
) -> UInt8[ndarray, "height width 3"]:
    """``pixels`` with a line around a box: in ``accent``, or where that is as bright as the box or what the line
    covers, far from ground, or near it."""
    far, near = (WHITE, BLACK) if np.array(ground) @ LUMA < 128 else (BLACK, WHITE)
    line, brightness = ring(inner, *pixels.shape[:2]), pixels @ LUMA
    beside = [float(one.mean()) for one in (brightness[inner], brightness[line]) if one.size]
    colour = max((np.array(accent), far, near), key=lambda one: min(60, *(abs(one @ LUMA - it) for it in beside)))
    framed = pixels.copy()
    framed[line] = colour
    return framed


def legend(maximum: float, width: int, ground: Colour, *, colours: bool = True) -> Text:
    """``0 ▇▇▇▇▇▇ 9.81`` in ``width`` cells: the scale of a heat map. Without ``colours`` in ASCII."""
    ends = "0 ", f" {number(maximum)}"
    bar = max(width - len(ends[0]) - len(ends[1]), 1)
    text = Text(ends[0])
    if colours:
        far = 255 if np.array(ground) @ LUMA < 128 else 0
        white = np.full((1, bar, 3), far, np.uint8)
        for colour in faded(white, np.linspace(0, 1, bar)[None], 1.0, ground)[0].tolist():
            text.append(" ", Style.from_color(bgcolor=Color.from_rgb(*colour)))
    else:
        text.append("".join(LEGEND[step * len(LEGEND) // bar] for step in range(bar)))
    return text.append(ends[1])


def _shares(heat: Float[ndarray, "y x"], maximum: float) -> Float[ndarray, "y x"]:
    return (np.nan_to_num(heat / maximum) if maximum > 0 else np.zeros(heat.shape)).clip(0, 1)


def _on_pixels(patches: Float[ndarray, "y x"], height: int, width: int) -> Float[ndarray, "{height} {width}"]:
    """At every pixel the value of the patch that contains its centre."""
    y = (2 * np.arange(height) + 1) * patches.shape[0] // (2 * height)
    x = (2 * np.arange(width) + 1) * patches.shape[1] // (2 * width)
    return patches[y[:, None], x]
