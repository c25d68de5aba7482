"""Smaller pictures against the mean light of every pixel, added up one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import ndarray

from engine.images.shrinking import LIGHT, _means, area_mean, fitting, to_srgb, unchecked_mean

pictures = st.tuples(st.integers(1, 9), st.integers(1, 40)).flatmap(lambda size: arrays(np.uint8, (*size, 3)))


def light(value: float) -> float:
    srgb = value / 255
    return srgb / 12.92 if srgb <= 0.04045 else ((srgb + 0.055) / 1.055) ** 2.4


def srgb(light: float) -> float:
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def share(old: int, new: int, pixel: int, place: int) -> float:
    """How much of the new pixel at ``place`` an old one covers."""
    start, end = place * old / new, (place + 1) * old / new
    return max(min(pixel + 1, end) - max(pixel, start), 0) * new / old


def naive(image: ndarray, width: int, height: int) -> ndarray:
    rows, columns, _ = image.shape
    out = np.zeros((height, width, 3))
    for y, x, c in np.ndindex(height, width, 3):
        mean = sum(
            share(rows, height, i, y) * share(columns, width, j, x) * light(int(image[i, j, c]))
            for i in range(rows)
            for j in range(columns)
        )
        out[y, x, c] = srgb(mean)
    return out


@given(pictures, st.integers(1, 5), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_each_pixel_is_the_mean_light_of_the_area_that_it_covers(image: ndarray, width: int, height: int) -> None:
    assert np.abs(area_mean(image, width, height) - naive(image, width, height)).max() <= 0.51


def test_large_pictures_are_made_in_bands_without_seams() -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 3, 3), dtype=np.uint8)
    assert np.abs(area_mean(image, 1, 37) - naive(image, 1, 37)).max() <= 0.51


def test_values_come_back_from_light() -> None:
    np.testing.assert_array_equal(to_srgb(LIGHT), np.arange(256))
    np.testing.assert_allclose(LIGHT, [light(value) for value in range(256)], atol=1e-6)


def test_black_and_white_mix_to_half_the_light() -> None:
    fine = np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2 * np.uint8(255)
    assert set(area_mean(fine.astype(np.uint8), 16, 16).ravel()) == {188}  # the mean of the values would be 128


def slanting(period: float, side: int = 64) -> ndarray:
    """Stripes at 45 degrees, dark and light, ``period`` pixels from one to the next along a row."""
    y, x = np.indices((side, side))
    return np.where(((x + y) % period < period / 2)[..., None], (120, 30, 170), (216, 180, 236)).astype(np.uint8)


def chess(pixels: ndarray) -> float:
    """How much neighbours differ in both directions at once, in sRGB values."""
    inner = pixels.astype(float)[1:-1, 1:-1]
    return float(np.abs(np.diff(np.diff(inner, axis=0), axis=1)).mean())


@pytest.mark.parametrize("period", [5.0, 6.0, 7.0, 7.5])
def test_fine_slanting_stripes_do_not_become_a_chessboard(period: float) -> None:
    stripes = slanting(period)
    small = unchecked_mean(stripes, 18, 18)
    assert chess(small) < 8  # of means alone up to 70
    whole = to_srgb(LIGHT[stripes].mean((0, 1)))
    assert np.abs(to_srgb(LIGHT[small].mean((0, 1))).astype(int) - whole).max() <= 4  # as much light as before


def test_edges_and_upright_stripes_stay_as_they_are() -> None:
    columns = np.repeat(np.arange(20)[None] % 2 * 255, 20, axis=0).repeat(4, 0).repeat(4, 1)
    upright = columns[..., None].repeat(3, 2).astype(np.uint8)
    np.testing.assert_array_equal(unchecked_mean(upright, 20, 20), upright[::4, ::4])


def test_what_is_not_made_smaller_keeps_its_chessboard() -> None:
    board = (np.indices((8, 8)).sum(0)[..., None].repeat(3, 2) % 2 * 255).astype(np.uint8)
    np.testing.assert_array_equal(unchecked_mean(board, 8, 8), board)
    np.testing.assert_array_equal(unchecked_mean(board, 16, 16)[::2, ::2], board)


def test_proportions_are_kept() -> None:
    assert fitting(400, 200, 100) == (100, 50)
    assert fitting(40, 20, 100) == (40, 20)
    assert fitting(1000, 1, 100) == (100, 1)


def test_the_table_of_light_is_its_formula():
    levels = np.linspace(0, 1, 200_003)
    exact = 255 * np.where(levels <= 0.0031308, 12.92 * levels, 1.055 * np.maximum(levels, 1e-9) ** (1 / 2.4) - 0.055)
    assert np.abs(to_srgb(levels.astype(np.float32)) - exact).max() <= 0.51


@pytest.mark.parametrize(("side", "new"), [(160, 18), (160, 40), (1000, 160)])
def test_no_product_is_so_large_that_threads_are_started_for_it(side: int, new: int) -> None:
    read: list[int] = []

    def counted(pixels: ndarray) -> ndarray:
        read.append(pixels.size)
        return LIGHT[pixels]

    _means(np.zeros((side, side, 3), np.uint8), new, counted)
    rows = -(-new // len(read))
    assert max(read) * rows <= 1 << 18, "OpenBLAS divides what is larger between all cores"
