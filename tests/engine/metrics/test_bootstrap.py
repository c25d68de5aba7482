import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.metrics.bootstrap import bootstrap
from engine.metrics.results import Interval

SHARE = (0.0, 1.0)


def naive(values, bounds, seed, level, resamples):
    """From the formula, one draw at a time, of the same units."""
    n = len(values)
    mean = sum(values) / n
    rng = np.random.default_rng(seed)

    def error(some):
        middle = sum(some) / n
        return math.sqrt(sum((one - middle) ** 2 for one in some) / (n - 1)) / math.sqrt(n)

    found = []
    for places in rng.integers(0, n, (resamples, n)):
        drawn = [values[place] for place in places]
        away = sum(drawn) / n - mean
        if len(set(drawn)) == 1:
            found.append(math.copysign(math.inf, away))
        else:
            found.append(away / error(drawn))
    found.sort()
    tail = (1 - level) / 2
    least, most = (found[round(q * resamples) - 1] for q in (tail, 1 - tail))
    bounded = (bounds[1] - bounds[0]) * math.sqrt(math.log(1 / tail) / (2 * n))
    low = mean - min(most * error(values), bounded)
    high = mean + min(-least * error(values), bounded)
    return max(low, bounds[0]), min(high, bounds[1])


@pytest.mark.parametrize("n", [4, 9, 30])
def test_it_is_what_the_formula_says(n):
    values = np.random.default_rng(n).choice([0, 0.1, 0.4, 1], n)
    found = bootstrap(values, SHARE, seed=3, level=0.9, resamples=400)
    low, high = naive(values.tolist(), SHARE, 3, 0.9, 400)
    assert (found.n, found.mean) == (n, pytest.approx(values.mean()))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_undefined_units_do_not_count_and_too_few_have_no_interval():
    values = np.array([0.2, np.nan, 0.6, np.nan, 0.7])
    assert bootstrap(values, SHARE) == bootstrap(values[[0, 2, 4]], SHARE)
    assert bootstrap(np.array([np.nan, 0.3]), SHARE) == Interval(1, 0.3, None, None)
    assert bootstrap(np.array([]), SHARE) == Interval(0, None, None, None)
    assert bootstrap(np.array([0.0, 5.0]), (-math.inf, math.inf)).low is None, "two units tell no ends"


def test_draws_without_spread_leave_hoeffdings_end():
    """Of 35 units three have a little: a draw of none of them tells nothing of how much there may be."""
    values = np.zeros(35)
    values[[1, 12, 30]] = 0.1
    assert bootstrap(values, SHARE).high == pytest.approx(values.mean() + math.sqrt(math.log(40) / 70))
    assert bootstrap(1 - values, SHARE).low == pytest.approx(1 - values.mean() - math.sqrt(math.log(40) / 70))


def test_draws_with_hardly_any_spread_leave_hoeffdings_end():
    """Nineteen of 23 concepts always appear, one nearly: draws of those alone tell nothing of how seldom others do."""
    values = np.array([1.0] * 19 + [0.9, 0.1, 0.0, 0.0])
    found = bootstrap(values, SHARE)
    assert found.low == pytest.approx(values.mean() - math.sqrt(math.log(40) / 46)), "it was 0"
    assert found.high < 1


def test_units_that_are_all_at_a_bound_have_the_exact_interval():
    """That of Clopper and Pearson for 0 of 20: 0 to 16.8 %."""
    found = bootstrap(np.zeros(20), SHARE)
    assert (found.low, found.high) == (0, pytest.approx(0.1684, abs=1e-4))
    other = bootstrap(np.ones(20), SHARE)
    assert (other.low, other.high) == (pytest.approx(1 - 0.1684, abs=1e-4), 1)
    between = bootstrap(np.full(20, 0.25), SHARE)
    assert (between.low, between.high) == (0, pytest.approx(0.25 + math.sqrt(math.log(40) / 40)))


@given(arrays(np.float64, st.integers(2, 40), elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0])))
def test_the_mean_is_in_its_interval_which_is_in_the_bounds(values):
    found = bootstrap(values, SHARE, resamples=200)
    assert 0 <= found.low <= found.mean + 1e-9 and found.mean - 1e-9 <= found.high <= 1


def coverage(n: int, a: float, b: float, times: int, resamples: int) -> float:
    """How often the interval has the true mean: ten verdicts each of ``n`` latents, that differ as Beta(a, b)."""
    rng = np.random.default_rng(n)
    hits = 0
    for time in range(times):
        found = bootstrap(rng.binomial(10, rng.beta(a, b, n)) / 10, SHARE, seed=time, resamples=resamples)
        hits += found.low <= a / (a + b) <= found.high
    return hits / times


def test_it_covers_about_as_often_as_it_says():
    assert 0.92 <= coverage(30, 0.6, 0.9, times=400, resamples=400) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize(("a", "b"), [(0.6, 0.9), (2, 2), (0.3, 2), (4, 1)])
def test_it_covers_from_93_to_97_of_100(n, a, b):
    """Shares that are spread, even, near 0 and near 1."""
    assert 0.93 <= coverage(n, a, b, times=3000, resamples=2000) <= 0.97
