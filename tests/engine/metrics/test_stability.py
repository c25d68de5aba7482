"""Nearest directions and matchings, against loops over all pairs and all permutations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.metrics import stability
from engine.metrics.stability import compared, matching, mean_of, nearest, random_directions


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    length = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(a * a for a in v))
    return sum(a * b for a, b in zip(u, v, strict=True)) / length if length else 0.0


def every(u: np.ndarray, v: np.ndarray) -> list[list[float]]:
    return [[cosine(one, other) for other in v] for one in u]


def naive_matching(u: np.ndarray, v: np.ndarray) -> float:
    """The largest sum of cosines over all ways to give each of the fewer ones a partner of its own."""
    if len(u) > len(v):
        u, v = v, u
    ways = itertools.permutations(range(len(v)), len(u))
    return max(sum(cosine(u[i], v[j]) for i, j in enumerate(way)) for way in ways)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), w1=st.integers(1, 5), w2=st.integers(1, 6), d=st.integers(1, 4), block=st.integers(1, 9)
)
def test_both_are_those_of_the_loops(seed: int, w1: int, w2: int, d: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    u, v = rng.normal(size=(w1, d)), rng.normal(size=(w2, d))
    if seed % 5 == 0:
        u[0] = 0
    before, stability._BLOCK = stability._BLOCK, block
    try:
        found = compared(torch.from_numpy(u), torch.from_numpy(v))
        near = compared(torch.from_numpy(u), torch.from_numpy(v), exact=0)
    finally:
        stability._BLOCK = before
    for one, (a, b) in ((found.there, (u, v)), (found.back, (v, u))):
        assert one.cosine == pytest.approx([max(row) for row in every(a, b)], abs=1e-5)
        assert [cosine(a[i], b[j]) for i, j in enumerate(one.latent)] == pytest.approx(one.cosine, abs=1e-5)
    for one in (found, near):  # so few that all are among the nearest
        pairs = one.matching
        assert len(pairs.first) == min(w1, w2) == len(set(pairs.first)) == len(set(pairs.second))
        assert pairs.cosine.sum() == pytest.approx(naive_matching(u, v), abs=1e-5)
        for i, j, value in zip(pairs.first, pairs.second, pairs.cosine, strict=True):
            assert value == pytest.approx(cosine(u[i], v[j]), abs=1e-5)
    assert found.matching.exact and not near.matching.exact


def test_a_dictionary_in_another_order_is_found_again() -> None:
    u = random_directions(300, 12, 0)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    for exact in (stability.EXACT, 0):
        found = compared(u, 5 * u[order], exact)
        assert found.there.cosine == pytest.approx(1) and found.matching.cosine == pytest.approx(1)
        assert np.array_equal(order.numpy()[found.matching.second], found.matching.first)
    summary = found.summary(compared(random_directions(300, 12, 1), random_directions(300, 12, 2)))
    assert summary.there.mean == pytest.approx(1) and summary.there.n == 300
    assert 0.5 < summary.random_there.mean < 0.9 and summary.random_matched.mean < summary.random_there.mean


def test_beyond_the_limit_the_sum_is_a_bound_that_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a hundredth below the best, where every latent is offered a twentieth of the others."""
    u, v = random_directions(700, 16, 3), random_directions(640, 16, 4)
    best = matching(u, v)
    near = matching(u, v, exact=0)
    assert (best.exact, near.exact) == (True, False) and len(near.first) == 640 == len(set(near.second))
    assert best.cosine.sum() * 0.99 < near.cosine.sum() <= best.cosine.sum() + 1e-6
    upper = nearest(v, u).cosine.mean()
    assert best.cosine.mean() <= upper
    monkeypatch.setattr(stability, "NEAREST", 1)
    few = matching(u, v, exact=0)
    assert len(few.first) == 640 and few.cosine.sum() < near.cosine.sum()


def test_random_directions_have_the_largest_cosines_that_theory_gives() -> None:
    """In d dimensions a cosine c of random directions has (c + 1) / 2 ~ Beta((d - 1) / 2, (d - 1) / 2), and the largest
    of w of them the w-th power of that distribution function."""
    d, w = 24, 400
    level = (np.arange(10_000) + 0.5) / 10_000
    expected = 2 * stats.beta((d - 1) / 2, (d - 1) / 2).ppf(level ** (1 / w)) - 1
    found = compared(random_directions(w, d, 0), random_directions(w, d, 1)).there.cosine
    assert found.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert found.std() == pytest.approx(expected.std(), abs=0.01)
    assert not torch.equal(random_directions(3, 4, 0), random_directions(3, 4, 1))


def test_a_mean_has_the_interval_of_student() -> None:
    values = np.random.default_rng(0).normal(size=9)
    low, high = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    found = mean_of(values)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((values.mean(), low, high, 9))
    assert (mean_of(values[:1]).low, mean_of(values[:1]).n) == (None, 1)
