"""Intervals of means over units (latents, images) by the bootstrap."""

import math

import numpy as np
from jaxtyping import Float

from engine.metrics.results import Interval

RESAMPLES = 10_000
_AT_ONCE = 1 << 22  # numbers that are drawn together


def bootstrap(
    values: Float[np.ndarray, " unit"],
    bounds: tuple[float, float],
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean m of ``values``, one a unit, NaN where undefined, and its bootstrap-t interval within ``bounds``.

    Units are drawn with replacement, n at a time, ``resamples`` times; each draw has a mean m* and a standard error s*
    (of its own spread, over sqrt(n)), and so t* = (m* - m) / s*. With s of the units themselves and a = 1 - ``level``,
    the interval is m - s t*(1 - a / 2) to m - s t*(a / 2), the quantiles of t*. Plain percentiles of m* are too narrow
    where units are few and lopsided, as shares near 0 are. (Efron, The Jackknife, the Bootstrap and Other Resampling
    Plans, 1982, section 10.10; Hesterberg, The American Statistician 69, 2015, 5.4.)

    A draw without spread has t* = +-inf, and one with hardly any a t* so large that it says no more. So no end lies
    beyond that of Hoeffding's inequality, m +- R sqrt(ln(2 / a) / 2n), R between the bounds, which holds whatever the
    values are. (Journal of the American Statistical Association 58, 1963.)

    Units that are all at one of the ``bounds`` of what values can be have no spread, which says nothing. Values of mean
    M between the bounds 0 and 1 are all 0 with a probability of (1 - M)^n at most: the other end is the M at which that
    is a / 2. (The exact interval of Clopper and Pearson, Biometrika 26, 1934, where values are 0 or 1.) Of units that
    are all the same elsewhere, both ends are Hoeffding's.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    n = len(known)
    if n < 2:
        return Interval(n, float(known[0]) if n else None, None, None)
    mean, tail = float(known.mean()), (1 - level) / 2
    reach = (bounds[1] - bounds[0]) * math.sqrt(-math.log(tail) / (2 * n))
    if (known == known[0]).all():
        exact = (bounds[1] - bounds[0]) * (1 - tail ** (1 / n))
        down, up = (exact if known[0] in bounds else reach,) * 2
    else:
        t = _studentised(known, np.random.default_rng(seed), resamples)
        least, most = np.quantile(t, [tail, 1 - tail], method="closest_observation")  # others average infinities
        error = known.std(ddof=1) / math.sqrt(n)
        down, up = (min(error * one, reach) for one in (most, -least))
    low, high = max(mean - down, bounds[0]), min(mean + up, bounds[1])
    return Interval(n, mean, *(float(end) if math.isfinite(end) else None for end in (low, high)))


def _studentised(values: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """t* of each draw."""
    n, mean, found = len(values), values.mean(), []
    step = max(_AT_ONCE // n, 1)
    for done in range(0, resamples, step):
        drawn = values[rng.integers(0, n, (min(step, resamples - done), n))]
        away, error = drawn.mean(1) - mean, drawn.std(1, ddof=1) / math.sqrt(n)
        flat = (drawn == drawn[:, :1]).all(1)
        endless = np.where(away, np.copysign(np.inf, away), 0.0)
        found.append(np.where(flat, endless, away / np.where(flat, 1, error)))
    return np.concatenate(found)
