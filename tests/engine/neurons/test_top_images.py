import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.neurons.top_images import TopImages


def top_by_sorting(column, top):
    """The definition: sort all images by activation, ties by number; never one that is zero."""
    order = sorted(range(len(column)), key=lambda i: (-column[i], i))
    images = [i for i in order if column[i] > 0][:top]
    return images + [-1] * (top - len(images)), [float(column[i]) for i in images] + [0.0] * (top - len(images))


def streamed(A, top, maps=None):
    kept = TopImages(A.shape[1], top, None if maps is None else maps.shape[2:])
    for image, row in enumerate(A):
        fired = np.flatnonzero(row)
        kept.add(image, fired, row[fired], lambda entered, i=image: maps[i][entered].reshape(len(entered), -1))
    return kept.sorted()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
def test_one_pass_equals_sorting(seed, N, w, top):
    rng = np.random.default_rng(seed)
    A = (rng.integers(0, 4, (N, w)) * (rng.random((N, w)) < 0.7)).astype(np.float32)  # many ties
    images, values, maps = streamed(A, top)
    assert maps is None
    for k in range(w):
        expected = top_by_sorting(A[:, k], top)
        assert (images[k].tolist(), values[k].tolist()) == expected


def test_maps_follow_their_images():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(30, 5, 2, 3)), 0).astype(np.float16).astype(np.float32)
    images, values, kept = streamed(maps.max(axis=(2, 3)), 4, maps)
    assert kept.shape == (5, 4, 2, 3) and kept.dtype == np.float16
    for k in range(5):
        np.testing.assert_array_equal(kept[k], maps[images[k], k])
        assert kept[k].max(axis=(1, 2)).tolist() == values[k].tolist()


def test_whoever_asks_again_is_given_the_same():
    rng = np.random.default_rng(1)
    maps = np.maximum(rng.normal(size=(20, 3, 2, 2)), 0)
    kept = TopImages(3, 5, (2, 2))
    for image in range(20):
        values = maps[image].max(axis=(1, 2)).astype(np.float32)
        kept.add(image, np.arange(3), values, lambda entered, i=image: maps[i][entered].reshape(len(entered), -1))
    first = [np.copy(one) for one in kept.sorted()]
    for before, after in zip(first, kept.sorted(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.filterwarnings("error")
def test_maps_beyond_float16_are_cut_not_infinite():
    maps = np.full((1, 1, 1, 2), 1e6, np.float32)
    _, values, kept = streamed(maps.max(axis=(2, 3)), 2, maps)
    assert values[0, 0] == 1e6
    assert kept[0, 0].tolist() == [[65504.0, 65504.0]] and not kept[0, 1].any()
