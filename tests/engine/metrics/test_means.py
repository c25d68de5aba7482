"""Intervals of means and of differences of means, against their formulas, and against what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engine.metrics.means import difference_of, mean_of
from engine.metrics.results import Interval

VALUES = st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=2, max_size=12)


def naive_moments(values: list[float]) -> tuple[float, float]:
    """Mean, and squared standard error of it."""
    mean = sum(values) / len(values)
    return mean, sum((one - mean) ** 2 for one in values) / (len(values) - 1) / len(values)


@given(VALUES, VALUES)
def test_a_difference_is_as_welch_has_it(ours: list[float], theirs: list[float]) -> None:
    (m1, e1), (m2, e2) = naive_moments(ours), naive_moments(theirs)
    found = difference_of(np.array([*ours, np.nan]), np.array(theirs))
    freedom = (e1 + e2) ** 2 / (e1**2 / (len(ours) - 1) + e2**2 / (len(theirs) - 1)) if e1 + e2 > 1e-20 else 1
    half = stats.t.ppf(0.975, freedom) * math.sqrt(e1 + e2)
    assert found.n == min(len(ours), len(theirs))
    assert [found.mean, found.low, found.high] == pytest.approx([m1 - m2, m1 - m2 - half, m1 - m2 + half], abs=1e-9)
    back = difference_of(np.array(theirs), np.array(ours))
    assert [back.mean, back.low] == pytest.approx([-m1 + m2, -found.high], abs=1e-9)


@given(VALUES)
def test_a_mean_is_as_student_has_it(values: list[float]) -> None:
    mean, error = naive_moments(values)
    half = stats.t.ppf(0.975, len(values) - 1) * math.sqrt(error)
    found = mean_of(np.array([np.nan, *values]))
    assert [found.n, found.mean, found.low, found.high] == pytest.approx(
        [len(values), mean, mean - half, mean + half], abs=1e-9
    )


def test_of_few_units_there_is_no_interval() -> None:
    one, none = np.array([0.5, np.nan]), np.array([np.nan])
    assert mean_of(one) == Interval(1, 0.5, None, None) and mean_of(none) == Interval(0, None, None, None)
    assert difference_of(one, np.array([0.25, 0.75])) == Interval(1, 0.0, None, None)
    assert difference_of(one, none) == Interval(0, None, None, None)


def test_the_interval_holds_the_difference_of_the_populations() -> None:
    random = np.random.default_rng(0)
    found = [difference_of(random.exponential(0.3, 40), random.normal(0.1, 0.05, 300)) for _ in range(1000)]
    assert 0.92 < np.mean([one.low <= 0.2 <= one.high for one in found]) < 0.97
