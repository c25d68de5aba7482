"""Merged colours: how far they are from their pixels, and what is left as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import ndarray

from saetui.terminal.cells import Look, draw
from saetui.terminal.heat import LUMA
from saetui.terminal.merging import merged

pictures = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(lambda size: arrays(np.uint8, (*size, 3)))
steps = st.sampled_from([2.0, 4.0, 8.0])


def colours(pixels: ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))


@given(pictures, steps)
def test_no_pixel_is_farther_than_a_step_in_brightness(pixels: ndarray, step: float) -> None:
    found = merged(pixels, step)
    assert np.abs(found @ LUMA - pixels @ LUMA).max() <= step + 1e-3
    assert np.abs(found.astype(float) - pixels).max() <= 6 * step, "Cb and Cr by two steps are blue and red by four"
    assert colours(found) <= colours(pixels)


@given(pictures, steps)
def test_the_commonest_colour_stays_and_draws_to_it_what_differs_by_less_than_half_a_step(
    pixels: ndarray, step: float
) -> None:
    plain = np.concatenate([pixels.reshape(-1, 3), np.full((65, 3), 200, np.uint8), [[200, 201, 200]]])[None]
    found = merged(plain.astype(np.uint8), step)[0]
    assert (found[-66:] == 200).all()


def test_a_smooth_picture_has_few_colours_and_its_steps_are_even() -> None:
    grey = np.linspace(0, 255, 256).astype(np.uint8)[None, :, None].repeat(3, axis=2)
    found = merged(grey, 8.0)
    assert 30 <= len(colours(found)) <= 34
    assert (np.diff(found[0, :, 0].astype(int)) >= 0).all()


@pytest.mark.parametrize("style", ["half", "quadrant"])
def test_only_who_asks_gets_merged_colours_and_not_in_few_colours(style) -> None:
    noise = np.random.default_rng(0).integers(120, 140, (36, 36, 3), dtype=np.uint8)

    def styles(look: Look) -> int:
        return len({segment.style for strip in draw(noise, 18, 9, look) for segment in strip})

    assert styles(Look(style, step=8.0)) < styles(Look(style)) / 3
    assert styles(Look(style, "256", step=8.0)) == styles(Look(style, "256"))


def test_the_line_around_a_patch_keeps_its_colour() -> None:
    grey = np.full((64, 64, 3), 60, np.uint8)
    heat = np.zeros((4, 4))
    heat[1, 1] = 1.0
    look = Look("half", accent=(224, 178, 76), step=8.0)
    inks = {segment.style.bgcolor.triplet for strip in draw(grey, 18, 9, look, heat) for segment in strip}
    assert (224, 178, 76) in inks
