"""Cells against a naive reading of what they mean: which colour every pixel of every cell has in the end."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import ndarray
from rich.color import Color
from rich.style import Style
from textual.strip import Strip

from saetui.terminal.cells import (
    ASCII_RAMP,
    RAMP,
    SPLITS,
    STYLES,
    XTERM,
    Look,
    _truecolor,
    draw,
    fitted,
    glyphs,
    half_blocks,
    nearest_xterm,
    quadrants,
)

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5))
levels = st.sampled_from([0, 1, 40, 95, 96, 128, 200, 254, 255])


def pictures(down: int, across: int, values: st.SearchStrategy[int] = levels) -> st.SearchStrategy[ndarray]:
    """Pixels of 1 to 4 x 1 to 5 cells; few values, so that neighbours are often equal."""
    shapes = sizes.map(lambda size: (size[0] * down, size[1] * across, 3))
    return shapes.flatmap(lambda shape: arrays(np.uint8, shape, elements=values))


def shown(strips: list[Strip]) -> list[list[tuple[str, tuple[int, ...] | None, tuple[int, ...] | None]]]:
    """Glyph, ink and ground of every cell."""
    cells = []
    for strip in strips:
        row = []
        for text, style, _ in strip:
            colours = [tuple(c.get_truecolor()) if c else None for c in (style.color, style.bgcolor)] if style else []
            row += [(glyph, *(colours or (None, None))) for glyph in text]
        assert strip.cell_length == len(row)
        cells.append(row)
    return cells


def painted(cell: tuple) -> ndarray:
    """The four pixels that a cell shows, in reading order."""
    glyph, ink, ground = cell
    return np.array([ink if inside else ground for inside in SPLITS[glyph]])


def nearest(pixel: ndarray) -> ndarray:
    """The xterm colour nearest to ``pixel``, by trying all that are not the user's own."""
    steps = [0, 95, 135, 175, 215, 255]
    known = [*product(steps, steps, steps), *((8 + 10 * i,) * 3 for i in range(24))]
    return np.array(min(known, key=lambda colour: sum((int(a) - b) ** 2 for a, b in zip(pixel, colour, strict=True))))


def error(pixels: ndarray, inside: tuple[int, ...]) -> float:
    """Squared error of four pixels about the means of the two groups."""
    total = 0.0
    for side in (0, 1):
        group = pixels[[i for i in range(4) if inside[i] == side]].astype(float)
        total += ((group - group.mean(axis=0)) ** 2).sum() if len(group) else 0.0
    return total


@given(pictures(2, 1))
def test_a_half_block_shows_two_pixels(pixels: ndarray) -> None:
    for y, row in enumerate(shown(half_blocks(pixels))):
        for x, cell in enumerate(row):
            four = painted(cell)
            assert (four[0] == four[1]).all() and (four[2] == four[3]).all()
            np.testing.assert_array_equal(four[[0, 2]], pixels[2 * y : 2 * y + 2, x])


@given(pictures(2, 2, st.integers(0, 255)))
def test_a_quadrant_shows_the_best_of_all_sixteen_splits(pixels: ndarray) -> None:
    for y, row in enumerate(shown(quadrants(pixels))):
        for x, cell in enumerate(row):
            four = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(4, 3)
            best = min(error(four, split) for split in product((0, 1), repeat=4))
            inside = SPLITS[cell[0]]
            assert error(four, inside) <= best + 1e-6
            for side in (0, 1):
                group = [i for i in range(4) if inside[i] == side]
                if group:
                    assert np.abs(painted(cell)[group] - four[group].mean(axis=0)).max() <= 0.5


@given(pictures(2, 2, st.sampled_from([7, 250])))
def test_two_colours_in_a_cell_are_kept_exactly_where_a_channel_is_shared(pixels: ndarray) -> None:
    pixels = pixels[:, :, :1].repeat(3, axis=2)  # two greys: every cell has a split without error
    for y, row in enumerate(shown(quadrants(pixels))):
        for x, cell in enumerate(row):
            np.testing.assert_array_equal(painted(cell), pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(4, 3))


def test_a_plain_picture_is_one_segment_a_line() -> None:
    pixels = np.full((8, 40, 3), 90, dtype=np.uint8)
    for strips in (half_blocks(pixels), quadrants(pixels)):
        assert [len(strip) for strip in strips] == [1] * 4
        assert all(set(strip.text) == {" "} for strip in strips)


@given(arrays(np.uint8, (3, 4, 3), elements=st.integers(0, 255)))
def test_the_nearest_of_256_colours(pixels: ndarray) -> None:
    found = XTERM[nearest_xterm(pixels) - 16].astype(int)
    for pixel, colour in zip(pixels.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        best = nearest(pixel)
        assert ((pixel - colour) ** 2).sum() == ((pixel - best) ** 2).sum()


def test_every_xterm_colour_is_nearest_to_itself() -> None:
    np.testing.assert_array_equal(XTERM[nearest_xterm(XTERM) - 16], XTERM)


@given(pictures(2, 1))
def test_256_colours_are_emitted_by_number(pixels: ndarray) -> None:
    for strip in half_blocks(pixels, "256"):
        for _, style, _ in strip:
            assert style is not None and style.bgcolor is not None
            for colour in filter(None, (style.color, style.bgcolor)):
                assert colour.number is not None and colour.number >= 16
                assert colour.triplet == tuple(XTERM[colour.number - 16])
                assert colour.get_ansi_codes() == ("38", "5", str(colour.number))


@given(arrays(np.uint8, (2, 6, 3), elements=st.integers(0, 255)), st.booleans(), st.booleans())
def test_glyphs_are_denser_where_it_is_brighter(pixels: ndarray, ascii: bool, light: bool) -> None:
    ramp = ASCII_RAMP if ascii else RAMP
    strips = glyphs(pixels, ascii=ascii, light=light)
    ink = [ramp.index(glyph) for strip in strips for glyph in strip.text]
    brightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in pixels.reshape(-1, 3)]
    order = np.argsort(brightness, kind="stable")
    steps = np.diff(np.array(ink)[order]) * (-1 if light else 1)
    assert (steps >= 0).all()
    assert not ascii or all(strip.text.isascii() for strip in strips)
    assert all(style is None for strip in strips for _, style, _ in strip)


def test_glyphs_use_the_whole_ramp() -> None:
    grey = np.linspace(0, 255, 60).astype(np.uint8)[None, :, None].repeat(3, axis=2)
    assert "".join(dict.fromkeys(glyphs(grey)[0].text)) == RAMP
    assert "".join(dict.fromkeys(glyphs(grey, ascii=True, light=True)[0].text)) == ASCII_RAMP[::-1]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 90), st.integers(1, 60), st.sampled_from([1.6, 2.0]))
def test_a_picture_fits_and_keeps_its_proportions(
    width: int, height: int, columns: int, rows: int, ratio: float
) -> None:
    wide, high = fitted(width, height, columns, rows, ratio)
    assert 1 <= wide <= columns and 1 <= high <= rows
    assert wide == columns or high == rows
    scale = min(columns / width, rows * ratio / height)
    assert abs(wide - max(width * scale, 1)) <= 0.5 + 1e-9
    assert abs(high - max(height * scale / ratio, 1)) <= 0.5 + 1e-9


@pytest.mark.parametrize("style", ["half", "quadrant"])
def test_a_picture_is_drawn_in_the_mean_light_of_what_a_cell_covers(style) -> None:
    y, x = np.indices((64, 64))
    fine = ((x + y) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    assert {cell for row in shown(draw(fine, 8, 4, Look(style))) for cell in row} == {(" ", None, (188,) * 3)}


def test_slanting_stripes_are_no_chessboard_at_18_cells() -> None:
    y, x = np.indices((64, 64))
    stripes = np.where(((x + y) % 7 < 3.5)[..., None], (120, 30, 170), (216, 180, 236)).astype(np.uint8)
    cells = shown(draw(stripes, 18, 9, Look("half")))
    pixels = np.array([[cell[1] or cell[2] for cell in row] for row in cells], float)[1:-1, 1:-1]
    assert np.abs(np.diff(pixels, axis=1)).max() < 30  # the stripes differ by 150


@settings(max_examples=30)
@given(
    st.integers(1, 30),
    st.integers(1, 20),
    st.sampled_from(["half", "quadrant", "glyph"]),
    st.sampled_from(["truecolor", "256", "16", "mono"]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_a_drawing_fills_its_cells_and_leaves_the_rest_blank(columns, rows, style, colours, size) -> None:
    image = np.full((*size, 3), 255, dtype=np.uint8)
    strips = draw(image, columns, rows, Look(style, colours))
    assert [strip.cell_length for strip in strips] == [columns] * rows
    wide, high = fitted(size[1], size[0], columns, rows)
    glyph = style == "glyph" or colours in ("16", "mono")
    cells = shown(strips)
    inked = [(y, x) for y in range(rows) for x in range(columns) if cells[y][x] != (" ", None, None)]
    top, left = (rows - high) // 2, (columns - wide) // 2
    assert inked == [(y, x) for y in range(top, top + high) for x in range(left, left + wide)]
    assert all((cells[y][x][2] is None) == glyph for y, x in inked)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_colours_are_those_that_rich_makes(red: int, green: int, blue: int) -> None:
    key = (red << 40) + (green << 32) + (blue << 24) + (blue << 16) + (red << 8) + green
    ink, ground = Color.from_rgb(red, green, blue), Color.from_rgb(blue, red, green)
    assert _truecolor(key) == Style.from_color(ink if ink != ground else None, ground)


def test_kept_styles_are_bounded() -> None:
    rng = np.random.default_rng(0)
    half_blocks(rng.integers(0, 256, (300, 120, 3), dtype=np.uint8))
    assert _truecolor.cache_info().currsize <= STYLES


@pytest.mark.parametrize("colours", ["16", "mono"])
def test_few_colours_are_glyphs_whatever_the_style(colours: str) -> None:
    strips = draw(np.full((4, 4, 3), 200, dtype=np.uint8), 4, 2, Look("quadrant", colours, ascii=True))
    assert {strip.text for strip in strips} == {ASCII_RAMP[7] * 4}
