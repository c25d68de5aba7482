"""Heat maps against the same map laid on pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import ndarray

from saetui.formatting import number
from saetui.terminal.heat import CIVIDIS, LUMA, PICTURE, legend, overlay

maps = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1, 12))
)
images = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, (*shape, 3), elements=st.integers(0, 255))
)


def naive(pixels: ndarray, heat: ndarray, maximum: float, colours: bool) -> ndarray:
    height, width, _ = pixels.shape
    out = np.empty_like(pixels)
    for y in range(height):
        for x in range(width):
            patch = heat[int((y + 0.5) * heat.shape[0] / height), int((x + 0.5) * heat.shape[1] / width)]
            step = round(255 * min(max(patch / maximum, 0), 1))
            tint = CIVIDIS[step] if colours else np.full(3, step)
            grey = float(np.dot(pixels[y, x], LUMA))
            out[y, x] = np.round(PICTURE * grey + (1 - PICTURE) * tint)
    return out


@given(images, maps, st.booleans())
def test_every_pixel_has_the_heat_of_its_patch(pixels: ndarray, heat: ndarray, colours: bool) -> None:
    laid = overlay(pixels, heat, 10.0, colours=colours)
    assert np.abs(laid.astype(int) - naive(pixels, heat, 10.0, colours)).max() <= 1  # rounding of x.5


@given(images)
def test_hotter_is_always_brighter(pixels: ndarray) -> None:
    brightness = [overlay(pixels, np.array([[h]]), 1.0) @ LUMA for h in np.linspace(0, 1, 9)]
    assert (np.diff(brightness, axis=0) > 0).all()


@pytest.mark.parametrize("colours", [True, False])
def test_the_hottest_patch_outshines_any_picture_elsewhere(colours: bool) -> None:
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    hot, cold = overlay(pixels, np.array([[1.0, 0.0]]), 1.0, colours=colours)[0] @ LUMA
    assert hot > cold


def test_nothing_is_hot_where_nothing_fires() -> None:
    pixels = np.full((4, 4, 3), 100, dtype=np.uint8)
    nothing = overlay(pixels, np.zeros((2, 2)), 1.0)
    np.testing.assert_array_equal(overlay(pixels, np.zeros((2, 2)), 0.0), nothing)
    np.testing.assert_array_equal(overlay(pixels, np.full((2, 2), np.nan), 1.0), nothing)


def test_cividis_is_even_in_brightness() -> None:
    assert CIVIDIS.shape == (256, 3)
    assert tuple(CIVIDIS[0]) == (0, 34, 78) and tuple(CIVIDIS[255]) == (254, 232, 56)
    steps = np.diff(CIVIDIS @ LUMA)
    assert (steps >= 0).all() and steps.max() < 2


@given(st.floats(0, 1e4), st.integers(16, 60), st.booleans())
def test_the_legend_says_its_numbers(maximum: float, width: int, colours: bool) -> None:
    text = legend(maximum, width, colours=colours)
    assert text.cell_len == width
    assert text.plain.startswith("0 ") and text.plain.endswith(f" {number(maximum)}")
    assert colours or text.plain.isascii()
