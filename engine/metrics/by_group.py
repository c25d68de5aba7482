"""MS of the latents of each Matryoshka group, beside the matched raw neurons of the same latents.

Intervals are of 95 %, over latents as of latents like these, the images as they are: of a mean, mean ± Student's t x
standard error, within [-1, 1]; of the share that beats its control, Wilson's (Journal of the American Statistical
Association 22, 1927).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from engine.metrics.agreement import wilson
from engine.metrics.hierarchy import group_of
from engine.metrics.means import mean_of
from engine.metrics.results import GroupMS, Interval


def mean_ms(values: Float[np.ndarray, " n"]) -> tuple[Interval, float | None]:
    """Mean of MS over the latents that have one (others: NaN), with its interval; and their standard deviation
    (n - 1). None, as the ends, for fewer than two."""
    found, known = mean_of(values), values[~np.isnan(values)]
    if found.low is None or found.high is None:
        return found, None
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0)), float(known.std(ddof=1))


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
