"""Does the interval of MS hold the MS of all images that might have been drawn?

The images of a latent are drawn from a model whose population MS is known by formula. One is of class k with chance
p_k; its embedding is cos(t) c_k + sin(t) v, where the c_k are orthonormal, v is a unit vector at random at right angles
to c_k, and cos(t) is uniform on r -/+ .15; its activation is scale_k times a positive draw x. So E e = r c_k, and

    population MS = |E a e|^2 / (E a)^2 = r^2 sum_k (p_k scale_k)^2 / (sum_k p_k scale_k)^2

as x cancels. The n images that fire stand among others that do not, whose embeddings have no part in it.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse

from engine.metrics.intervals import PAIRED, interval, paired
from engine.metrics.monosemanticity import monosemanticity

CLASSES, D, SPREAD = 20, 32, 0.15


def chances(*first):
    rest = CLASSES - len(first)
    return np.array([*first, *[(1 - sum(first)) / rest] * rest])


def exponential(rng, n):
    return rng.exponential(size=n)


def lognormal(rng, n):
    return rng.lognormal(0, 1.5, n)


def nearly_equal(rng, n):
    return rng.uniform(0.95, 1.05, n)


@dataclass(frozen=True)
class Shape:
    p: np.ndarray
    scale: tuple[float, ...] = ()
    r: float = 0.6
    draw: object = exponential

    @property
    def scales(self):
        return np.array([*self.scale, *[1.0] * (CLASSES - len(self.scale))])

    @property
    def population(self):
        weights = self.p * self.scales
        return self.r**2 * (weights**2).sum() / weights.sum() ** 2

    def cosines(self, rng, n):
        return self.r + SPREAD * rng.uniform(-1, 1, n)

    def images(self, rng, n):
        kind = rng.choice(CLASSES, n, p=self.p)
        cosine = self.cosines(rng, n)
        centre = np.eye(D)[kind]
        v = rng.normal(size=(n, D))
        v[np.arange(n), kind] = 0
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        return self.draw(rng, n) * self.scales[kind], cosine[:, None] * centre + np.sqrt(1 - cosine**2)[:, None] * v


SHAPES = {
    "clustered": Shape(chances(0.8), (2,)),
    "two clusters": Shape(chances(0.5, 0.5)),
    "lopsided": Shape(chances(0.6), (3,), draw=lognormal),
    "nearly equal": Shape(chances(1.0), r=0.85, draw=nearly_equal),
    "mixture": Shape(chances(0.5, 0.2, 0.1), (2, 1, 0.5)),
    "unspecific": Shape(chances()),
    "one in twenty apart": Shape(chances(0.95), r=0.85),
}


def covered(shape, n, repeats, seed=0):
    """Share of the samples whose interval holds the population MS. Many latents are scored in one call, each with
    images of its own."""
    rng, held = np.random.default_rng(seed), []
    together = max(1, min(repeats, 20_000 // n))
    for _ in range(-(-repeats // together)):
        drawn = [shape.images(rng, n) for _ in range(together)]
        a, E = np.concatenate([one for one, _ in drawn]), np.concatenate([one for _, one in drawn])
        start = np.arange(together + 1) * n
        A = sparse.csc_array((a, np.arange(len(a)), start), shape=(len(a) + 1, together))
        found = monosemanticity(A, np.vstack([E, np.eye(D)[:1]]))
        held.append((found.low <= shape.population) & (shape.population <= found.high))
    return np.concatenate(held).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_population_ms_is_what_a_huge_sample_scores(shape):
    a, E = SHAPES[shape].images(np.random.default_rng(1), 20_000)
    assert monosemanticity(np.append(a, 0)[:, None], np.vstack([E, np.eye(D)[:1]])).ms[0] == pytest.approx(
        SHAPES[shape].population, abs=0.02
    )


@pytest.mark.parametrize("shape", ["clustered", "lopsided", "nearly equal", "mixture"])
@pytest.mark.parametrize("n", [7, 20])
def test_interval_holds_the_population_value(shape, n):
    assert 0.93 <= covered(SHAPES[shape], n, 1000) <= 0.985  # of 1,000 samples, 95 % is .95 -/+ .014


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 7, 10, 20, 50, 200, 1000, 5000])
@pytest.mark.parametrize("shape", SHAPES)
def test_interval_covers_at_every_support(shape, n):
    share = covered(SHAPES[shape], n, 6000 if n <= 50 else 2000 if n <= 200 else 500)
    print(f"{shape:>20} {n:5} {share:.3f}")
    most = 0.98 if n >= 7 else 1.0
    least = 0.875 if shape == "one in twenty apart" and n >= 20 else 0.925
    assert least <= share <= most


def pairs_one_by_one(a, E, mean, denominator):
    n = len(a)
    return sum(
        (a[i] * a[j] * ((E[i] - mean) @ (E[j] - mean)) / denominator) ** 2 for i in range(n) for j in range(n) if i != j
    )


def test_pairs_are_counted_exactly_where_they_are_few_and_nearly_where_they_are_many():
    rng = np.random.default_rng(0)
    counts = np.array([0, 1, 2, 5, PAIRED, 0, 100, 3, 0])
    start = np.append(0, np.cumsum(counts))
    a, images = rng.uniform(0.5, 1, start[-1]), rng.integers(0, 200, start[-1])
    E = rng.normal(size=(200, 12))
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    means, denominator = 0.1 * rng.normal(size=(len(counts), 12)), rng.uniform(1, 5, len(counts))
    found = paired(a, images, start, E, means, denominator)
    for k, n in enumerate(counts):
        part = slice(start[k], start[k + 1])
        expected = pairs_one_by_one(a[part], E[images[part]], means[k], denominator[k])
        assert found[k] == pytest.approx(expected, rel=1e-10 if n <= PAIRED else 0.35)


def test_interval_stays_in_range_and_ends_where_nothing_varies():
    ms = np.array([1.0, 1.0, -1.0, 0.4, 0.4, np.nan, 0.999])
    variance = np.array([0.0, 1e-3, 1e-3, np.nan, 1e6, 0.1, 1e-3])
    low, high = interval(ms, variance, np.full(7, 9), np.full(7, 8.0))
    np.testing.assert_array_equal(np.isnan(low), [False, False, False, True, False, True, False])
    np.testing.assert_array_equal(np.isnan(high), np.isnan(low))
    assert (low[0], high[0]) == (1, 1)
    assert (low[4], high[4]) == (-1, 1)
    known = ~np.isnan(low)
    assert (low[known] >= -1).all() and (high[known] <= 1).all() and (low[known] <= high[known]).all()


def test_a_few_strong_activations_leave_the_interval_wide():
    """A hundred faint images beside three strong ones do not make their score surer than the three."""
    rng = np.random.default_rng(0)
    E, A = rng.normal(size=(200, 8)) + 0.5, np.zeros((200, 2))
    A[:3, 0] = A[:3, 1] = 1
    A[3:103, 1] = 1e-6
    found = monosemanticity(A, E)
    assert found.effective_support[1] == pytest.approx(3, rel=1e-3)
    assert found.high[1] - found.low[1] == pytest.approx(found.high[0] - found.low[0], rel=0.3)
