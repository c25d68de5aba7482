"""What is written, read by a terminal of a few lines, against everything painted in full."""

import re
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from saetui.terminal.canvas import Canvas

WIDTH, HEIGHT = 12, 3
CONSOLE = Console(file=StringIO(), color_system="truecolor")
_TOKENS = re.compile(r"\x1b\[(?P<at>\d+;\d+)H|\x1b\[(?P<sgr>[\d;]*)m|(?P<text>[^\x1b])")
styles = st.sampled_from(
    [None, *map(Style.parse, ["#102030 on #405060", "on #405060", "#405060 on #102030", "bold #102030", "reverse"])]
)
segments = st.tuples(st.sampled_from(["a", " ", "▀▀", "▄", "字", "ab c", "▚▀"]), styles)


class Terminal:
    """The characters and colours of each cell, of a terminal that knows what we write."""

    def __init__(self) -> None:
        self.cells = {(x, y): ("", "") for x in range(WIDTH) for y in range(HEIGHT)}
        self.x = self.y = 0
        self.ink = self.ground = self.rest = ""

    def read(self, text: str) -> None:
        assert "".join(found[0] for found in _TOKENS.finditer(text)) == text
        for found in _TOKENS.finditer(text):
            if found["at"]:
                self.y, self.x = (int(part) - 1 for part in found["at"].split(";"))
            elif found["text"]:
                self._put(found["text"])
            else:
                self._style(found["sgr"])

    def _style(self, codes: str) -> None:
        for code in re.findall(r"[34]8;2;\d+;\d+;\d+|\d+|^$", codes):
            if code in ("", "0"):
                self.ink = self.ground = self.rest = ""
            elif code.startswith("38"):
                self.ink = code[3:]
            elif code.startswith("48"):
                self.ground = code[3:]
            else:
                self.rest += code

    def _put(self, character: str) -> None:
        if character == "▄" and not self.rest:  # as its counterpart looks
            shown = ("▀", self.ground, self.ink, "")
        else:
            ink = "" if character == " " and not self.rest else self.ink
            shown = (character, ink, self.ground, self.rest)
        for part in range(cell_len(character)):
            self.cells[self.x, self.y] = (*shown, str(part))
            self.x += 1


def line(runs: list[tuple[str, Style | None]], width: int) -> Strip:
    strip = Strip([Segment(text, style) for text, style in runs])
    return strip.adjust_cell_length(width)


@st.composite
def updates(draw: st.DrawFn) -> LayoutUpdate | ChopsUpdate:
    def painted(width: int) -> Strip:
        return line(draw(st.lists(segments, max_size=5)), width)

    cuts = [[0, *draw(st.sampled_from([[], [5], [3, 9]])), WIDTH] for _ in range(HEIGHT)]
    chops = [{a: painted(b - a) for a, b in pairwise(cut)} for cut in cuts]
    if draw(st.booleans()):
        return LayoutUpdate([chop.values() for chop in chops], Region(0, 0, WIDTH, HEIGHT))
    y = draw(st.integers(0, HEIGHT - 1))
    first, *_, last = cuts[y]
    return ChopsUpdate(chops, [(y, first, draw(st.sampled_from([cuts[y][1], last])))], [cut[1:] for cut in cuts])


@given(st.lists(st.tuples(updates(), st.booleans()), max_size=8))
def test_the_terminal_shows_what_was_painted(given_updates: list) -> None:
    canvas, ours, full = Canvas(), Terminal(), Terminal()
    for update, closely in given_updates:
        ours.read(canvas.paint(update, CONSOLE, closely))
        full.read(update.render_segments(CONSOLE).replace("\n", ""))
        assert ours.cells == full.cells


def screen(text: str) -> LayoutUpdate:
    return LayoutUpdate([[line([(text, None)], WIDTH)] for _ in range(HEIGHT)], Region(0, 0, WIDTH, HEIGHT))


@pytest.mark.parametrize("closely", [True, False])
def test_what_is_shown_is_not_written_again(closely: bool) -> None:
    canvas = Canvas()
    assert canvas.paint(screen("one"), CONSOLE, closely)
    assert canvas.paint(screen("one"), CONSOLE, closely) == ""
    canvas.forget()
    assert "one" in canvas.paint(screen("one"), CONSOLE, closely)


def test_only_the_cells_that_changed_are_written() -> None:
    canvas = Canvas()
    canvas.paint(screen("one and two"), CONSOLE)
    assert canvas.paint(screen("one and six"), CONSOLE).count("six") == HEIGHT
    assert "and" not in canvas.paint(screen("one and two"), CONSOLE)


def test_a_colour_is_named_where_it_changes() -> None:
    ink = [Style.parse(f"#{np.uint8(value):02x}0000 on #ffffff") for value in range(WIDTH)]
    update = LayoutUpdate([[line([("▀", style) for style in ink], WIDTH)]], Region(0, 0, WIDTH, 1))
    written = Canvas().paint(update, CONSOLE)
    assert written.count("48;2;255;255;255") == 1 and written.count("38;2;") == WIDTH
    assert Strip.render_ansi(ink[0], ColorSystem.TRUECOLOR) in written
