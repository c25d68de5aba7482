import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.metrics.localisation import localisation

VALUES = st.sampled_from([0.0, 0.5, 1.0, 4.0])


def patch_by_patch(maps, cover):
    """The four figures from their definition, in ordinary numbers."""
    figures = []
    for values, shares in zip(maps.tolist(), cover.tolist(), strict=True):
        on = [share > 0.25 for share in shares]
        strongest = [one for value, one in zip(values, on, strict=True) if value == max(values)]
        on_it = sum(value * share for value, share in zip(values, shares, strict=True))
        chance = (sum(on) / len(on), sum(shares) / len(shares))
        figures.append((sum(strongest) / len(strongest), on_it / sum(values), *chance))
    return [sum(column) / len(figures) for column in zip(*figures, strict=True)]


@settings(max_examples=50)
@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_localisation_is_its_definition(images, patches, data):
    maps = data.draw(arrays(np.float32, (images, patches), elements=VALUES))
    maps[:, 0] += 0.5
    cover = data.draw(arrays(np.float64, (images, patches), elements=st.floats(0, 1)))
    found = localisation(maps, cover)
    assert list(vars(found).values()) == pytest.approx(patch_by_patch(maps, cover), abs=1e-9)


def test_a_map_that_is_the_object_and_one_that_is_everywhere():
    cover = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    right = localisation(cover, cover)
    assert (right.peak, right.mass, right.chance_peak, right.chance_mass) == (1, 1, 0.375, 0.375)
    blind = localisation(np.full((2, 4), 0.3, np.float16), cover)
    assert (blind.peak, blind.mass) == pytest.approx((0.375, 0.375))
    beside = localisation(1 - cover, cover)
    assert (beside.peak, beside.mass) == (0, 0)


def test_the_edge_of_an_object_counts_by_its_share():
    half = localisation(np.array([[3.0, 1.0]]), np.array([[0.2, 1.0]]))
    assert (half.peak, half.mass, half.chance_peak, half.chance_mass) == pytest.approx((0, 0.4, 0.5, 0.6))


def test_there_is_nothing_to_say_without_maps():
    assert localisation(np.zeros((0, 4)), np.zeros((0, 4))) is None
