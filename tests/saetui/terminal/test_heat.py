"""Heat maps against the same map laid on pixel by pixel."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import ndarray

from saetui.formatting import number
from saetui.terminal.cells import Look, draw
from saetui.terminal.heat import COLOURS, GLYPHS, LUMA, Fade, box, faded, legend, outlined, part, strongest

DARK, LIGHT = (22, 24, 28), (250, 248, 243)
ACCENT = (224, 178, 76)
maps = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1, 12))
)
images = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, (*shape, 3), elements=st.integers(0, 255))
)
grounds = st.sampled_from([DARK, LIGHT])
fades = st.sampled_from([COLOURS, GLYPHS])


def naive(pixels: ndarray, heat: ndarray, maximum: float, ground: tuple[int, int, int], fade: Fade) -> ndarray:
    height, width, _ = pixels.shape
    out = np.empty(pixels.shape)
    far = 255 if ground == DARK else 0
    for y, x, c in np.ndindex(height, width, 3):
        patch = heat[int((y + 0.5) * heat.shape[0] / height), int((x + 0.5) * heat.shape[1] / width)]
        share = fade.faint + (1 - fade.faint) * min(max(patch / maximum, 0), 1)
        lifted = (1 - fade.lift) * float(pixels[y, x, c]) + fade.lift * far
        out[y, x, c] = (1 - share) * ground[c] + share * lifted
    return out


@given(images, maps, grounds, fades)
def test_every_pixel_fades_by_the_heat_of_its_patch(pixels, heat, ground, fade) -> None:
    laid = faded(pixels, heat, 10.0, ground, fade)
    assert np.abs(laid - naive(pixels, heat, 10.0, ground, fade)).max() <= 0.51


@given(images, grounds, fades)
def test_hotter_is_always_farther_from_the_ground_in_brightness(pixels, ground, fade) -> None:
    brightness = [faded(pixels, np.array([[h]]), 1.0, ground, fade) @ LUMA for h in np.linspace(0, 1, 5)]
    assert ((np.diff(brightness, axis=0) if ground == DARK else -np.diff(brightness, axis=0)) > 0).all()


def test_of_glyphs_the_hottest_outshine_any_picture_elsewhere() -> None:
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    for ground, sign in ((DARK, 1), (LIGHT, -1)):
        for image in (pixels, pixels[:, ::-1]):
            hot, cold = sign * (faded(image, np.array([[1.0, 0.0]]), 1.0, ground, GLYPHS)[0] @ LUMA)
            assert hot > cold


def test_colours_stay_where_it_fires_and_are_seen_elsewhere() -> None:
    red = np.array([[[200, 20, 30], [200, 20, 30]]], dtype=np.uint8)
    hot, cold = faded(red, np.array([[1.0, 0.0]]), 1.0, DARK)[0].astype(int)
    hues = [colorsys.rgb_to_hsv(*(colour / 255))[0] for colour in (red[0, 0], hot)]
    assert hues[0] == pytest.approx(hues[1], abs=0.01)
    assert cold[0] > max(cold[1:]) + 20 and np.abs(cold - DARK).max() < np.abs(hot - DARK).max() / 2


def test_nothing_is_hot_where_nothing_fires() -> None:
    pixels = np.full((4, 4, 3), 100, dtype=np.uint8)
    nothing = faded(pixels, np.zeros((2, 2)), 1.0, DARK)
    np.testing.assert_array_equal(faded(pixels, np.zeros((2, 2)), 0.0, DARK), nothing)
    np.testing.assert_array_equal(faded(pixels, np.full((2, 2), np.nan), 1.0, DARK), nothing)
    assert strongest(np.zeros((2, 2))) is None and strongest(np.full((2, 2), np.nan)) is None
    assert strongest(np.array([[np.nan, 1.0], [3.0, 2.0]])) == (1, 0)


@given(st.integers(1, 7), st.integers(1, 30), st.data())
def test_a_box_holds_the_pixels_whose_centres_are_in_the_patch(count: int, pixels: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, count - 1))
    inside = [y for y in range(pixels) if (2 * y + 1) * count // (2 * pixels) == place]
    rows, columns = box((place, 0), (count, 1), pixels, 5)
    assert list(range(rows.start, rows.stop)) == (inside or [(2 * place + 1) * pixels // (2 * count)])
    assert columns == slice(0, 5)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 30))
def test_a_part_holds_the_pixels_whose_centres_are_in_it(one: float, other: float, pixels: int) -> None:
    start, stop = min(one, other), max(one, other)
    inside = [y for y in range(pixels) if start * pixels <= y + 0.5 < stop * pixels]
    rows, columns = part((0.0, start, 1.0, stop), pixels, 5)
    found = list(range(rows.start, rows.stop))
    assert found == inside if inside else len(found) == 1 and abs(found[0] + 0.5 - start * pixels) <= 1
    assert columns == slice(0, 5)


@given(images, grounds)
def test_the_outline_is_seen_around_any_box(pixels: ndarray, ground) -> None:
    pixels = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
    inner = tuple(slice(2, length - 2) for length in pixels.shape[:2])
    framed = outlined(pixels, inner, ACCENT, ground)
    np.testing.assert_array_equal(framed[inner], pixels[inner])
    line = framed[1, 1:-1]
    assert (line == framed[1, 1]).all() and (framed[1:-1, -2] == framed[1, 1]).all()
    assert abs(line[0] @ LUMA - (pixels[inner] @ LUMA).mean()) > 30
    np.testing.assert_array_equal(framed[0], pixels[0])


@given(images, grounds, st.integers(0, 255))
def test_the_outline_is_seen_on_what_lies_around_the_box(pixels: ndarray, ground, around: int) -> None:
    pixels = np.pad(pixels, ((2, 2), (2, 2), (0, 0)), constant_values=around)
    inner = tuple(slice(2, length - 2) for length in pixels.shape[:2])
    line = outlined(pixels, inner, ACCENT, ground)[1, 1] @ LUMA
    assert abs(line - around) > 30 and abs(line - (pixels[inner] @ LUMA).mean()) > 30


@pytest.mark.parametrize(("ascii", "corner"), [(False, "┌"), (True, "+")])
def test_glyphs_have_a_line_around_the_strongest_patch(ascii: bool, corner: str) -> None:
    pixels = np.full((64, 64, 3), 30, np.uint8)
    heat = np.zeros((4, 4))
    heat[1, 2] = 5.0
    lines = [strip.text for strip in draw(pixels, 16, 8, Look("glyph", "mono", ascii=ascii), heat, 5.0)]
    assert lines[1][7] == corner and lines[4][12] == (corner if ascii else "┘")
    inside, outside = lines[2][8:12], lines[0]
    assert len(set(inside)) == 1 and set(inside) != set(outside)


@given(st.floats(0, 1e4), st.integers(16, 60), st.booleans())
def test_the_legend_says_its_numbers(maximum: float, width: int, colours: bool) -> None:
    text = legend(maximum, width, DARK, colours=colours)
    assert text.cell_len == width
    assert text.plain.startswith("0 ") and text.plain.endswith(f" {number(maximum)}")
    assert colours or text.plain.isascii()


def test_a_frame_stands_in_place_of_the_strongest_patch() -> None:
    pixels, heat = np.full((64, 64, 3), 30, np.uint8), np.zeros((4, 4))
    heat[0, 0] = 5.0
    look = Look("glyph", "mono")
    lines = [strip.text for strip in draw(pixels, 16, 8, look, heat, 5.0, frame=(0.25, 0.25, 0.75, 0.75))]
    assert [lines[y][3] + lines[y][12] for y in (1, 6)] == ["┌┐", "└┘"]
    assert sum(line.count("┐") for line in lines) == 1
    assert lines != [strip.text for strip in draw(pixels, 16, 8, look, heat, 5.0)]
