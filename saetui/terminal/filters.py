"""What every line of the screen passes through where the terminal has fewer colours or characters than we draw with."""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.color import Color as Shade
from textual.filter import LineFilter

_STANDS_OUT = 60  # distance in RGB from the theme's background, beyond that of its panels, that means a selection

_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("─━┄┈╌═▔▁⎺⎽╴╶", "-"),
        **dict.fromkeys("│┃┆┊╎║▏▎▍▌▐▕╵╷", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛╔╗╚╝╋", "+"),
        **dict(zip("▂▃▄▅▆▇█", ".:-=+*#", strict=True)),
        **dict(zip("░▒▓", ".:#", strict=True)),
        **dict.fromkeys("▊▋▉", "#"),
        **dict.fromkeys("▀▘▝▖▗▚▞▙▛▜▟", "#"),
        **dict(zip("←→↑↓", "<>^v", strict=True)),
        **dict(zip("‹›«»▸▾▴◂", "<><>>v^<", strict=True)),
        **dict(zip("●○■✓✗Ⅱ★☆·•…–—×±−°", "*o#vx=*o..~--x~-o", strict=True)),
        **dict(zip("‘’‚“”„′″µ", "'','\"\"'\"u", strict=True)),
        "�": "?",
        "\u00a0": " ",
    }
)


class WithoutColour(LineFilter):
    """Bold, reverse and underline alone. What a theme lifts off its background by colour is shown in reverse."""

    def __init__(self, ground: str):
        """``ground``: the theme's background."""
        super().__init__()
        self._ground = Shade.parse(ground)

    def apply(self, segments: list[Segment], background: Shade) -> list[Segment]:
        return [Segment(text, style and _without_colour(style, self._ground), rest) for text, style, rest in segments]


class InXterm(LineFilter):
    """Every colour as the nearest of xterm's 240 that no user can have changed."""

    def apply(self, segments: list[Segment], background: Shade) -> list[Segment]:
        return [Segment(text, style and _in_xterm(style), control) for text, style, control in segments]


class InASCII(LineFilter):
    """Every character as one of ASCII's in as many cells: a lookalike, the letter without its accent, or ``?``."""

    def apply(self, segments: list[Segment], background: Shade) -> list[Segment]:
        return [Segment(in_ascii(text), style, control) for text, style, control in segments]


def in_ascii(text: str) -> str:
    """``text`` in ASCII, as wide on the terminal as it was."""
    if text.isascii():
        return text
    return "".join(map(_ascii_character, text))


@lru_cache(4096)
def _ascii_character(character: str) -> str:
    if character.isascii():
        return character
    found = character.translate(_LOOKALIKES)
    if not found.isascii():
        if 0x2800 <= ord(character) <= 0x28FF:  # braille
            found = ":" if character > "\u2800" else " "
        else:
            found = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    width = cell_len(character)
    return found if len(found) == width else "?" * width


@lru_cache(4096)
def _without_colour(style: Style, ground: Shade) -> Style:
    reverse = bool(style.reverse)
    if style.bgcolor is not None and style.bgcolor.triplet is not None:
        reverse |= _distance(Shade(*style.bgcolor.triplet), ground) > _STANDS_OUT
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
