"""ASCII alone: whatever else would be painted is replaced at the very end, one cell for one."""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

STAND_INS = str.maketrans(
    {
        **dict.fromkeys("─━═╌╍┄┅–—−", "-"),
        **dict.fromkeys("│┃║╎╏▏▎▍▌▋▊▉▐▕", "|"),
        **dict.fromkeys("┌┐└┘╭╮╰╯┏┓┗┛├┤┬┴┼╋╔╗╚╝", "+"),
        **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*#@", strict=True)),
        **dict(zip("▀▔░▒▓■●○★▸▾▴✓✗Ⅱ", "''.+##*o*>v^vx=", strict=True)),
        **dict(zip("‹›←→↑↓·…×±", "<><>^v.~x~", strict=True)),
    }
)


@lru_cache(4096)
def plain(text: str) -> str:
    """``text`` in ASCII, as many cells wide: accents are taken off, what has no likeness is question marks."""
    return "".join(map(_plain, text.translate(STAND_INS)))


def _plain(character: str) -> str:
    width = cell_len(character)
    likeness = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return likeness if len(likeness) == width else "?" * width


class Ascii(LineFilter):
    """Over every line of the app."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.text.isascii() else Segment(plain(segment.text), segment.style, segment.control)
            for segment in segments
        ]
