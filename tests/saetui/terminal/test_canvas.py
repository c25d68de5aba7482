"""What is written, read by a terminal of a few lines, against everything painted in full."""

import re
from io import StringIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
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
from saetui.terminal.writing import BLOCKS, TURNED

WIDTH, HEIGHT = 24, 3
CONSOLE = Console(file=StringIO(), color_system="truecolor")
_TOKENS = re.compile(
    r"\x1b\[(?P<at>\d+;\d+)H|\x1b\[(?P<sgr>[\d;]*)m|\x1b\[(?P<steps>\d*)(?P<way>[ABCD])|\x1b\[(?P<erased>\d+)X"
    r"|(?P<text>[^\x1b])"
)
_WAYS = {"A": (0, -1), "B": (0, 1), "C": (1, 0), "D": (-1, 0)}
colours = ["#102030", "#405060", "#708090", "#a0b0c0"]
pairs = [f"{ink} on {ground}" for ink in colours for ground in colours if ink != ground]
styles = st.sampled_from(
    [
        None,
        *map(Style.parse, [*pairs, "on #405060", "on #708090", "bold #102030", "bold #102030 on #405060", "reverse"]),
    ]
)
texts = ["a", " ", "▀▀", "▄", "字", "ab c", "▚▀", "▛▗", "▀ ", "░▀", " " * 11]
segments = st.tuples(st.sampled_from(texts), styles)


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
            elif found["way"] or found["text"] == "\b":
                assert self.x < WIDTH, "where the cursor is behind the last column depends on the terminal"
                right, down = _WAYS[found["way"] or "D"]
                self.x += right * int(found["steps"] or 1)
                self.y += down * int(found["steps"] or 1)
                assert 0 <= self.x < WIDTH and 0 <= self.y < HEIGHT
            elif found["erased"]:
                for x in range(self.x, self.x + int(found["erased"])):
                    self.cells[x, self.y] = (" ", "", self.ground, "", "0")
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
        if character in BLOCKS[1::2] and not self.rest:  # as its counterpart looks
            shown = (character.translate(TURNED), self.ground, self.ink, "")
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
        return line(draw(st.lists(segments, max_size=9)), width)

    cuts = [[0, *draw(st.sampled_from([[], [5], [3, 9], [12]])), WIDTH] for _ in range(HEIGHT)]
    chops = [{a: painted(b - a) for a, b in pairwise(cut)} for cut in cuts]
    if draw(st.booleans()):
        return LayoutUpdate([chop.values() for chop in chops], Region(0, 0, WIDTH, HEIGHT))
    y = draw(st.integers(0, HEIGHT - 1))
    first, *_, last = cuts[y]
    return ChopsUpdate(chops, [(y, first, draw(st.sampled_from([cuts[y][1], last])))], [cut[1:] for cut in cuts])


@settings(max_examples=300)
@given(st.lists(st.tuples(updates(), st.booleans()), max_size=8), st.booleans())
def test_the_terminal_shows_what_was_painted(given_updates: list, erases: bool) -> None:
    canvas, ours, full = Canvas(erases), Terminal(), Terminal()
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


def test_words_come_before_pictures() -> None:
    picture, words = Style.parse("#102030 on #405060"), Style.parse("#708090 on #405060")
    lines = [[Strip([Segment("▀▄" * (WIDTH // 2), picture)])], [line([("words", words)], WIDTH)]]
    written = Canvas().paint(LayoutUpdate(lines, Region(0, 0, WIDTH, HEIGHT)), CONSOLE)
    assert written.index("words") < written.index("▀")


def test_two_colours_that_alternate_are_named_once() -> None:
    one, other = Style.parse("#102030 on #405060"), Style.parse("#708090 on #a0b0c0")
    update = LayoutUpdate([[line([("▀", one), ("▀", other)] * 12, WIDTH)]] * HEIGHT, Region(0, 0, WIDTH, HEIGHT))
    written = Canvas().paint(update, CONSOLE)
    assert written.count("38;2;") == written.count("48;2;") == 2


def test_a_picture_whose_colours_are_all_others_is_written_in_lines() -> None:
    styles = [[Style.parse(f"#{x:02x}{y:02x}00 on #{x:02x}{y:02x}ff") for x in range(WIDTH)] for y in range(HEIGHT)]
    update = LayoutUpdate(
        [[line([("▀", style) for style in row], WIDTH)] for row in styles], Region(0, 0, WIDTH, HEIGHT)
    )
    written = Canvas().paint(update, CONSOLE)
    assert len(re.findall(r"\x1b\[\d+;\d+H", written)) == HEIGHT


def test_blank_cells_are_erased_where_the_terminal_can() -> None:
    update = LayoutUpdate([[line([("a" + " " * 20, Style.parse("on #405060"))], WIDTH)]], Region(0, 0, WIDTH, HEIGHT))
    canvas = Canvas(erases=True)
    canvas.paint(screen("b" * WIDTH), CONSOLE)
    assert "\x1b[20X" in canvas.paint(
        LayoutUpdate([[line([(" " * 20, Style.parse("on #405060"))], 20)]], Region(2, 0, 20, 1)), CONSOLE
    )
    assert " " * 20 in Canvas().paint(update, CONSOLE)
