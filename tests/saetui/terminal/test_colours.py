"""Lines for terminals with fewer colours."""

from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from saetui.terminal.cells import XTERM
from saetui.terminal.colours import WithoutColour, Xterm
from saetui.themes import THEMES

channels = st.integers(0, 255)
colours = st.tuples(channels, channels, channels)


def styled(ink, ground, **more) -> Style:
    return Style(color="#{:02x}{:02x}{:02x}".format(*ink), bgcolor="#{:02x}{:02x}{:02x}".format(*ground), **more)


def passed(filter, text, style) -> Segment:
    (segment,) = filter.apply([Segment(text, style)], Color(0, 0, 0))
    return segment


@given(colours, colours)
def test_every_colour_is_the_nearest_of_xterms(ink, ground):
    style = passed(Xterm(), "x", styled(ink, ground, bold=True)).style
    assert style.bold
    for given_, found in ((ink, style.color), (ground, style.bgcolor)):
        assert found.type == ColorType.EIGHT_BIT and found.number >= 16
        distances = ((XTERM.astype(int) - given_) ** 2).sum(axis=1)
        assert distances[found.number - 16] == distances.min()


@given(colours, colours)
def test_without_colour_nothing_but_bold_reverse_and_underline_is_left(ink, ground):
    given_ = styled(ink, ground, bold=True, italic=True, dim=True, underline=True)
    style = passed(WithoutColour("#16181c"), "x", given_).style
    assert style in (Style(bold=True, underline=True), Style(bold=True, underline=True, reverse=True))


def test_without_colour_a_selection_is_reversed_and_a_panel_is_not():
    for theme in THEMES.values():
        accent, background = Color.parse(theme.accent), Color.parse(theme.background)
        selected = background.blend(accent, 0.3)
        for ground, reverse in ((selected, True), (Color.parse(theme.panel), None), (background, None)):
            style = passed(WithoutColour(theme.background), "x", styled((9, 9, 9), ground.rgb)).style
            assert style == Style(reverse=reverse)
