"""Screens as text files: ``snapshots/NAME.txt`` holds the characters, the styles, and which cell has which.

``pytest tests/saetui/test_snapshots.py --update-snapshots`` rewrites them; git diff then shows what changed.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path

from rich.color import Color, ColorType
from rich.segment import Segment
from rich.style import Style

FOLDER = Path(__file__).parents[1] / "saetui" / "snapshots"
# Letters for styles in the order of appearance: ASCII, then other alphabets, all one cell wide.
_ALPHABETS = (0xC0, 0x24F), (0x391, 0x3FF), (0x400, 0x52F), (0x1200, 0x135A), (0x1401, 0x166C)
_LETTERS = [
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    *(chr(c) for first, last in _ALPHABETS for c in range(first, last + 1)),
]
LETTERS = [letter for letter in _LETTERS if letter.isalnum()]
PLAIN = "."  # no style
ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse", "strike", "blink", "overline")


def cells(lines: Iterable[Iterable[Segment]]) -> list[list[tuple[str, str]]]:
    """For each line, its characters, each with its style in words."""
    return [[(character, words(style)) for text, style, _ in line for character in text] for line in lines]


def words(style: Style | None) -> str:
    """A style in words, ``bold #e0b24c on #16181c``; empty without a style."""
    if style is None:
        return ""
    parts = [name for name in ATTRIBUTES if getattr(style, name)]
    parts += [_colour(style.color)] if style.color else []
    parts += [f"on {_colour(style.bgcolor)}"] if style.bgcolor else []
    return " ".join(parts)


def _colour(colour: Color) -> str:
    if colour.type == ColorType.TRUECOLOR and colour.triplet:
        return colour.triplet.hex
    return f"{colour.number}" if colour.number is not None else colour.name


def snapshot(screen: list[list[tuple[str, str]]]) -> str:
    """The lines of characters; the palette; then lines with a letter per cell, without trailing plain cells."""
    styles = dict.fromkeys(style for line in screen for _, style in line if style)
    letters = dict(zip(styles, LETTERS[: len(styles)], strict=True)) | {"": PLAIN}
    return "\n".join(
        [
            *(f"|{''.join(character for character, _ in line)}|" for line in screen),
            "",
            *(f"{letters[style]} {style}" for style in styles),
            "",
            *("|" + "".join(letters[style] for _, style in line).rstrip(PLAIN) for line in screen),
            "",
        ]
    )


class Snapshots:
    """Compares screens with their files and collects the ``differences`` of all."""

    def __init__(self, update: bool):
        self.update = update
        self.differences: list[str] = []

    def check(self, name: str, screen: list[list[tuple[str, str]]]) -> None:
        path, now = FOLDER / f"{name}.txt", snapshot(screen)
        if self.update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(now, encoding="utf-8")
            return
        kept = path.read_text(encoding="utf-8") if path.is_file() else ""
        if kept != now:
            self.differences += difflib.unified_diff(
                kept.splitlines(), now.splitlines(), f"{name} (kept)", f"{name} (now)", lineterm="", n=1
            )
