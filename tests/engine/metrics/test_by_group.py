"""MS of Matryoshka groups beside their controls, against the formulas written out latent by latent."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.metrics.by_group import beaten, mean_ms, ms_by_group

SCORES = st.lists(st.one_of(st.floats(-1, 1), st.just(math.nan)), min_size=1, max_size=30)


def by_hand(values: list[float]) -> tuple[int, float | None, float | None, float | None, float | None]:
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return len(known), known[0] if known else None, None, None, None
    mean, std = statistics.fmean(known), statistics.stdev(known)
    half = stats.t.ppf(0.975, len(known) - 1) * std / math.sqrt(len(known))
    return len(known), mean, max(mean - half, -1), min(mean + half, 1), std


@given(SCORES, st.randoms(use_true_random=False))
def test_each_group_is_scored_as_by_hand(scores, random):
    matched = [math.nan if random.random() < 0.2 else random.uniform(-1, 1) for _ in scores]
    cut = random.randint(1, len(scores))
    groups = (cut, len(scores)) if cut < len(scores) else (cut,)
    found = ms_by_group(np.array(scores), np.array(matched), groups)
    assert len(found) == len(groups)
    for start, stop, one in zip((0, *groups), groups, found, strict=False):
        both = [(a, b) for a, b in zip(scores[start:stop], matched[start:stop], strict=True) if a == a and b == b]
        assert one.latents == stop - start
        for interval, std, values in (
            (one.ms, one.std, scores[start:stop]),
            (one.matched, one.matched_std, [b for _, b in both]),
        ):
            n, mean, low, high, spread = by_hand(values)
            assert interval.n == n
            assert (interval.mean, interval.low, interval.high, std) == pytest.approx((mean, low, high, spread))
        assert one.beaten.n == len(both)
        assert one.beaten.mean == (pytest.approx(sum(a > b for a, b in both) / len(both)) if both else None)


def test_the_share_has_the_interval_of_wilson():
    ms, matched = np.arange(12.0) / 12, np.full(12, 0.3)
    found = stats.binomtest(int((ms > matched).sum()), 12).proportion_ci(method="wilson")
    assert (beaten(ms, matched).low, beaten(ms, matched).high) == pytest.approx((found.low, found.high))


def test_nothing_is_said_where_nothing_is_known():
    nothing = np.full(3, np.nan)
    assert mean_ms(nothing)[0].mean is None and beaten(nothing, nothing).mean is None
    assert ms_by_group(nothing, nothing) == ()
