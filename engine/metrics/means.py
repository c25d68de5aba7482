"""Means over units (latents, concepts) with intervals of Student's t: as if units were drawn from many, each alone."""

import math

import numpy as np
from jaxtyping import Float

from engine.metrics.results import Interval


def mean_of(values: Float[np.ndarray, " n"]) -> Interval:
    """Their mean with its 95 % interval, mean -/+ t s / sqrt(n): t the 97.5 % point of Student's distribution with
    n - 1 degrees of freedom, s their standard deviation. NaN are left out."""
    known = _known(values)
    n = len(known)
    mean = float(known.mean()) if n else None
    if mean is None or n < 2:
        return Interval(n, mean, None, None)
    return _about(mean, known.std(ddof=1) / math.sqrt(n), n - 1, n)


def difference_of(ours: Float[np.ndarray, " n1"], theirs: Float[np.ndarray, " n2"]) -> Interval:
    """The mean of ``ours`` less that of ``theirs``, of units that are not pairs, with its 95 % interval (Welch,
    Biometrika 34, 1947): with the squared standard errors e = s^2 / n of the two means, difference -/+ t sqrt(e1 + e2),
    t with (e1 + e2)^2 / (e1^2 / (n1 - 1) + e2^2 / (n2 - 1)) degrees of freedom. n: the smaller number of units."""
    first, second = _known(ours), _known(theirs)
    n = min(len(first), len(second))
    if n == 0:
        return Interval(n, None, None, None)
    mean = float(first.mean() - second.mean())
    if n < 2:
        return Interval(n, mean, None, None)
    e1, e2 = (one.var(ddof=1) / len(one) for one in (first, second))
    spread = e1**2 / (len(first) - 1) + e2**2 / (len(second) - 1)
    return _about(mean, math.sqrt(e1 + e2), (e1 + e2) ** 2 / spread if spread else n - 1, n)


def _known(values: np.ndarray) -> np.ndarray:
    known = np.asarray(values, np.float64)
    return known[~np.isnan(known)]


def _about(mean: float, error: float, freedom: float, n: int) -> Interval:
    from scipy import special

    half = float(special.stdtrit(freedom, 0.975) * error)
    return Interval(n, mean, mean - half, mean + half)
