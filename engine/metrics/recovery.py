"""How much of a quantity survives a change to a model, between the untouched model and one whose part is taken out."""

import math

import numpy as np
from jaxtyping import Float

from engine.metrics.bootstrap import RESAMPLES, bootstrap
from engine.metrics.results import Interval, Recovery

_DRAWN = 1 << 24  # units that are drawn in all: with many of them, fewer draws tell the same
_FEWEST = 1000


def recovery(
    untouched: Float[np.ndarray, " unit"] | float,
    spliced: Float[np.ndarray, " unit"],
    ablated: Float[np.ndarray, " unit"],
    bounds: tuple[float, float],
    seed: int = 0,
    lower: bool = False,
) -> Recovery:
    """Means u, x and a of a quantity over the same units under three conditions, their differences, and what is
    recovered: r = (x - a) / (u - a), as "loss recovered" of the literature on SAEs (arXiv 2404.16014).

    ``untouched``: one value where it is that of every unit by definition, as the cosine of a thing with itself.
    ``bounds``: of what a value can be. ``lower``: less is better. Units that have no value (NaN) under one condition
    count under none.

    1 means that nothing is lost, 0 that the mean would have served as well; it can be below 0. Undefined unless the
    interval of u - a lies above 0: of next to nothing no share can be told. Its interval is that of the mean of
    r + ((x_i - a_i) - r (u_i - a_i)) / (u - a) over the units i, which is r, and has its spread to first order (the
    linearised ratio; Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6).
    """
    sign = -1.0 if lower else 1.0
    given = [np.broadcast_to(np.asarray(one, np.float64), np.shape(spliced)) for one in (untouched, spliced, ablated)]
    known = ~np.isnan(given).any(axis=0)
    u, x, a = (one[known] for one in given)
    width = bounds[1] - bounds[0]

    def mean(values: np.ndarray, low: float, high: float) -> Interval:
        draws = min(RESAMPLES, max(_FEWEST, _DRAWN // max(len(values), 1)))
        return bootstrap(values, (low, high), seed, resamples=draws)

    effect = mean(sign * (u - a), -width, width)
    if effect.low is not None and effect.mean is not None and effect.low > 0:
        r = float((sign * (x - a)).mean() / effect.mean)
        recovered = mean(r + sign * ((x - a) - r * (u - a)) / effect.mean, -math.inf, math.inf)
    else:
        recovered = Interval(len(u), None, None, None)
    by_definition = isinstance(untouched, float) and len(u) > 0
    return Recovery(
        untouched=Interval(len(u), float(u[0]), float(u[0]), float(u[0])) if by_definition else mean(u, *bounds),
        spliced=mean(x, *bounds),
        ablated=mean(a, *bounds),
        lost=mean(sign * (u - x), -width, width),
        gained=mean(sign * (x - a), -width, width),
        recovered=recovered,
    )
