import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.metrics.bootstrap import bootstrap
from engine.metrics.recovery import recovery
from engine.metrics.results import Interval

SHARE = (0.0, 1.0)


def some(seed: int, n: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(rng.random(n) < p).astype(float) for p in (0.9, 0.7, 0.2)]


def naive(u: list[float], x: list[float], a: list[float]) -> tuple[float, list[float]]:
    """The recovered share by its definition, and by the jackknife what each unit adds to it."""

    def share(left_out: int | None = None) -> float:
        kept = [i for i in range(len(u)) if i != left_out]
        return sum(x[i] - a[i] for i in kept) / sum(u[i] - a[i] for i in kept)

    n, whole = len(u), share()
    return whole, [n * whole - (n - 1) * share(i) for i in range(n)]


def test_it_is_what_the_formula_says():
    u, x, a = some(0)
    found = recovery(u, x, a, SHARE, seed=2)
    share, pseudo = naive(u.tolist(), x.tolist(), a.tolist())
    assert found.recovered.mean == pytest.approx(share)
    assert (found.untouched, found.spliced, found.ablated) == tuple(bootstrap(one, SHARE, 2) for one in (u, x, a))
    assert found.lost == bootstrap(u - x, (-1, 1), 2) and found.gained == bootstrap(x - a, (-1, 1), 2)
    # The jackknife's pseudo-values are those of the linearised ratio but for terms of 1 / n.
    around = bootstrap(np.array(pseudo), (-math.inf, math.inf), 2)
    assert found.recovered.low == pytest.approx(around.low, abs=0.02)
    assert found.recovered.high == pytest.approx(around.high, abs=0.02)


def test_what_is_1_by_definition_has_no_spread_and_units_without_a_value_do_not_count():
    _, x, a = some(1)
    found = recovery(1.0, x, a, SHARE)
    assert found.untouched == Interval(40, 1.0, 1.0, 1.0)
    assert found.recovered.mean == pytest.approx((x.mean() - a.mean()) / (1 - a.mean()))
    assert recovery(1.0, np.append(x, np.nan), np.append(a, 0.5), SHARE) == found


def test_less_may_be_better():
    """KL: the untouched model has 0, and what is lost is what is added."""
    rng = np.random.default_rng(0)
    x, a = rng.exponential(0.5, 60), rng.exponential(3, 60)
    found = recovery(0.0, x, a, (0.0, math.inf), lower=True)
    assert found.recovered.mean == pytest.approx(1 - x.mean() / a.mean())
    assert found.lost.mean == pytest.approx(x.mean()) and found.gained.mean == pytest.approx((a - x).mean())
    assert found.recovered.low < found.recovered.mean < found.recovered.high


@pytest.mark.parametrize("n", [0, 1, 12])
def test_of_nothing_no_share_is_told(n):
    u, x, a = some(3, n)
    assert recovery(a, x, a, SHARE).recovered == Interval(n, None, None, None)
    assert recovery(a, x, u, SHARE).recovered.mean is None, "ablated is better"


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.25, 1.0]))
def test_its_ends_are_0_and_1(seed, share):
    """Values that lie by a share between ablated and untouched recover that share, whatever the units are."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(0, 0.5, 30)
    u = a + rng.uniform(0, 0.5, 30)
    assume(u.mean() - a.mean() > 0.1)
    found = recovery(u, a + share * (u - a), a, SHARE).recovered
    assert found.mean == pytest.approx(share)


@pytest.mark.slow
def test_its_interval_covers():
    rng, true = np.random.default_rng(0), (0.7 - 0.2) / (0.9 - 0.2)
    inside = 0
    for _ in range(400):
        skill = rng.normal(0, 0.15, 80)
        u, x, a = ((rng.random(80) < np.clip(p + skill, 0, 1)).astype(float) for p in (0.9, 0.7, 0.2))
        found = recovery(u, x, a, SHARE).recovered
        inside += found.low <= true + 0.02 and found.high >= true - 0.02
    assert inside >= 0.92 * 400
