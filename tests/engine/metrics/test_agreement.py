import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.metrics.agreement import agreement, wilson


def one_by_one(x, y, first):
    """Each pair in turn: whether the larger score was chosen, by tenths of distance."""
    bins = {}
    for a, b, chosen in zip(x, y, first, strict=True):
        right = 0.5 if a == b else float((a > b) == chosen)
        bins.setdefault(min(int(abs(a - b) * 10 + 1e-9), 9), []).append(right)
    return bins


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_agreement_counts_pairs(n, seed):
    rng = np.random.default_rng(seed)
    x, y = np.round(rng.random((2, n)), 1)
    first = rng.random(n) < 0.5
    found, bins = agreement(x, y, first), one_by_one(x, y, first)
    assert found.weighted == pytest.approx(np.mean([right for one in bins.values() for right in one]))
    assert found.mean == pytest.approx(np.mean([np.mean(one) for one in bins.values()]))
    assert [one.pairs for one in found.bins] == [len(bins.get(b, [])) for b in range(10)]
    assert [one.agreement for one in found.bins] == [
        pytest.approx(np.mean(bins[b])) if b in bins else None for b in range(10)
    ]
    assert found.mean_low <= found.mean_high and 0 <= found.weighted_low <= found.weighted <= found.weighted_high <= 1


def test_people_who_choose_by_the_score_more_surely_the_farther_apart():
    """If the larger is chosen with chance 1/2 + d / 2 at distance d, bins hold 1/2 + d / 2 about their middle."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 40_000))
    first = (x > y) == (rng.random(40_000) < 0.5 + np.abs(x - y) / 2)
    found = agreement(x, y, first)
    for b, one in enumerate(found.bins[:8]):
        assert one.agreement == pytest.approx(0.5 + (b / 10 + 0.05) / 2, abs=0.03)
        assert one.low < one.agreement < one.high
    assert found.weighted == pytest.approx(0.5 + 1 / 6, abs=0.01)  # |x - y| is a third on average
    assert found.mean > found.weighted + 0.05  # as bins far apart have few pairs


def test_without_scores_there_is_nothing_to_agree():
    found = agreement(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), np.array([True, False]))
    assert (found.pairs, found.left_out, found.weighted, found.mean, found.mean_low) == (0, 2, None, None, None)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (7, 20), (99, 200)])
def test_wilson_is_where_a_share_is_196_deviations_away(right, n):
    low, high = wilson(right, n)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(right / n - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n), rel=1e-6)
    assert low <= right / n <= high
