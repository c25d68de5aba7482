"""Does a score of latents agree with people? Of two latents, people chose one; the score is for the larger one.

Agreement: share of the pairs in which the latent with the larger score is the one that was chosen; equal scores are
half a right choice. By distance |score of x - score of y|, in bins of a tenth, as in arXiv 2504.02821, whose headline
is the mean over bins that have pairs, however many; *weighted* is over pairs. Intervals are of 95 %, over pairs as if
these were drawn independently: Wilson's for a share (Journal of the American Statistical Association 22, 1927), a
bootstrap for the mean over bins. Pairs that share a latent are not independent, so they are a little too narrow.
"""

import numpy as np
from jaxtyping import Bool, Float

from engine.metrics.results import Agreement, AgreementBin

BINS = 10
_REPEATS = 1000
_Z = 1.959964  # 97.5 % point of the normal distribution


def agreement(
    x: Float[np.ndarray, " pair"], y: Float[np.ndarray, " pair"], first: Bool[np.ndarray, " pair"], seed: int = 0
) -> Agreement:
    """Of pairs with scores ``x`` and ``y``, of which people chose x where ``first``. Others are left out."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y, first = x[known], y[known], first[known]
    right = np.where(x == y, 0.5, (x > y) == first)
    place = np.clip((np.abs(x - y) * BINS + 1e-9).astype(np.int64), 0, BINS - 1)  # .3 - .2 is below .1 by rounding
    drawn = np.random.default_rng(seed).integers(0, max(len(x), 1), (_REPEATS, len(x)))
    means = [_over_bins(right[again], place[again]) for again in drawn] if len(x) else []
    low, high = np.quantile(means, [0.025, 0.975]).tolist() if means else (None, None)
    bins = tuple(_bin(b, right[place == b]) for b in range(BINS))
    weighted = _bin(0, right)
    return Agreement(
        pairs=len(x),
        left_out=int((~known).sum()),
        weighted=weighted.agreement,
        weighted_low=weighted.low,
        weighted_high=weighted.high,
        mean=_over_bins(right, place) if len(x) else None,
        mean_low=low,
        mean_high=high,
        bins=bins,
    )


def _over_bins(right: np.ndarray, place: np.ndarray) -> float:
    pairs = np.bincount(place, minlength=BINS)
    shares = np.bincount(place, right, BINS)[pairs > 0] / pairs[pairs > 0]
    return float(shares.mean())


def _bin(number: int, right: np.ndarray) -> AgreementBin:
    n = len(right)
    if not n:
        return AgreementBin(number / BINS, 0, None, None, None)
    low, high = wilson(float(right.sum()), n)
    return AgreementBin(number / BINS, n, float(right.mean()), low, high)


def wilson(right: float, n: int) -> tuple[float, float]:
    """Interval of 95 % of a share of ``n`` > 0 trials: those shares that are less than 1.96 deviations of their own
    from the one found."""
    share, scale = right / n, 1 + _Z**2 / n
    centre = (share + _Z**2 / (2 * n)) / scale
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / scale
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
