"""MS of the latents of each Matryoshka group, beside the matched raw neurons of the same latents.

Intervals are of 95 %, over latents as of latents like these, the images as they are: of a mean, mean ± Student's t x
standard error, within [-1, 1]; of the share that beats its control, Wilson's (Journal of the American Statistical
Association 22, 1927).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from engine.metrics.agreement import wilson
from engine.metrics.hierarchy import group_of
from engine.metrics.results import GroupMS, Interval


def mean_ms(values: Float[np.ndarray, " n"]) -> tuple[Interval, float | None]:
    """Mean of MS over the latents that have one (others: NaN), with its interval; and their standard deviation
    (n - 1). None, as the ends, for fewer than two."""
    known = values[~np.isnan(values)]
    n = len(known)
    if n < 2:
        return Interval(n, float(known[0]) if n else None, None, None), None
    from scipy import special

    mean, std = float(known.mean()), float(known.std(ddof=1))
    half = float(special.stdtrit(n - 1, 0.975)) * std / np.sqrt(n)
    return Interval(n, mean, max(mean - half, -1.0), min(mean + half, 1.0)), std


def beaten(ms: Float[np.ndarray, " w"], matched: Float[np.ndarray, " w"]) -> Interval:
    """Share of the latents whose MS is above that of their matched neuron, of those for which both have one."""
    both = ~np.isnan(ms) & ~np.isnan(matched)
    n, above = int(both.sum()), int((ms[both] > matched[both]).sum())
    return Interval(n, above / n, *wilson(above, n)) if n else Interval(0, None, None, None)


def ms_by_group(
    ms: Float[np.ndarray, " w"], matched: Float[np.ndarray, " w"], groups: Sequence[int] = ()
) -> tuple[GroupMS, ...]:
    """The groups, the coarsest first; ``groups``: cumulative counts of their latents. None without groups."""
    group = group_of(groups, len(ms))
    return tuple(ms_of(ms[group == g], matched[group == g]) for g in range(len(groups)))


def ms_of(ms: Float[np.ndarray, " n"], matched: Float[np.ndarray, " n"]) -> GroupMS:
    """Of some latents. Their control is of those that have both."""
    (mean, std), control = mean_ms(ms), np.where(np.isnan(ms), np.nan, matched)
    beside, spread = mean_ms(control)
    return GroupMS(len(ms), mean, std, beside, spread, beaten(ms, matched))
