"""Output in ASCII only: a last filter replaces every other character, cell for cell."""

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
        **dict(zip("‹›←→↑↓·…×±⏎", "<><>^v.~x~/", strict=True)),
    }
)


@lru_cache(4096)
def plain(text: str) -> str:
    """``text`` in ASCII, as many cells wide: accents are removed, and what has no equivalent becomes question marks."""
    return "".join(map(_plain, text.translate(STAND_INS)))


def _plain(character: str) -> str:
    width = cell_len(character)
    equivalent = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return equivalent if len(equivalent) == width else "?" * width


class Ascii(LineFilter):
    """Applies ``plain`` to every line of the app."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment if segment.text.isascii() else Segment(plain(segment.text), segment.style, segment.control)
            for segment in segments
        ]
