"""Line filters for terminals with fewer colours than the workbench uses."""

from functools import lru_cache

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.color import Color as Shade
from textual.filter import LineFilter

_HIGHLIGHT = 60  # distance in RGB from the theme's background: that of panels is less, that of selections more


class WithoutColour(LineFilter):
    """Bold, reverse and underline only. Text that a theme highlights by its background is shown in reverse."""

    def __init__(self, ground: str):
        """``ground``: the theme's background."""
        super().__init__()
        self._ground = Shade.parse(ground)

    def apply(self, segments: list[Segment], background: Shade) -> list[Segment]:
        return [Segment(text, style and _without_colour(style, self._ground), rest) for text, style, rest in segments]


class Xterm(LineFilter):
    """Every colour as the nearest of xterm's 240 fixed colours."""

    def apply(self, segments: list[Segment], background: Shade) -> list[Segment]:
        return [Segment(text, style and _in_xterm(style), control) for text, style, control in segments]


@lru_cache(4096)
def _without_colour(style: Style, ground: Shade) -> Style:
    reverse = bool(style.reverse)
    if style.bgcolor is not None and style.bgcolor.triplet is not None:
        reverse |= _distance(Shade(*style.bgcolor.triplet), ground) > _HIGHLIGHT
    return Style(bold=style.bold or None, underline=style.underline or None, reverse=reverse or None)


def _distance(one: Shade, other: Shade) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one.rgb, other.rgb, strict=True)) ** 0.5)


@lru_cache(4096)
def _in_xterm(style: Style) -> Style:
    return style + Style.from_color(_nearest(style.color), _nearest(style.bgcolor))


def _nearest(colour: Color | None) -> Color | None:
    if colour is None or colour.triplet is None:
        return colour
    import numpy as np

    from saetui.terminal.cells import nearest_xterm, numbered

    return numbered(int(nearest_xterm(np.array([colour.triplet], np.uint8))[0]))
