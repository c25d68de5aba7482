"""Raw neurons beside the latents: does a score need the SAE, or only sparsity?

A raw neuron is a coordinate of the model's own activations. Three baselines:

- *raw*: coordinates as they are. Min-max normalisation gives every image a weight of about one half, so this comes
  close to the mean cosine of all images (the "No SAE" row of arXiv 2504.02821).
- *rectified*: relu(v) and relu(-v) of every coordinate v.
- *matched*: for each latent that fires on n images, one coordinate v and one sign s, both drawn at random, rectified
  above a threshold: relu(s v - t), with t the (n + 1)-th largest value of s v over the images, so that exactly n
  fire. Where the n-th and the (n + 1)-th are equal no threshold does that, and another coordinate is drawn. Sparsity
  alone raises MS; what a latent has over its matched neuron is what the SAE adds.

An image's value of s v is pooled over its tokens like a latent's: ``up`` pools v, ``down`` pools -v.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from engine.metrics.by_group import ms_of
from engine.metrics.monosemanticity import MS
from engine.metrics.parts import ms_of_units
from engine.metrics.results import AgainstMatched

_DRAWS = 8
_BLOCK_NONZEROS = 1 << 24


def rectified_ms(
    up: Float[np.ndarray, "N d"],
    down: Float[np.ndarray, "N d"],
    E: Float[np.ndarray, "N D"],
    min_support: int = 2,
    image: Int[np.ndarray, " N"] | None = None,
) -> MS:
    """MS of relu(v) and relu(-v): the first d columns, and the others. ``image``: see engine.metrics.parts."""
    return ms_of_units(np.maximum(np.concatenate([up, down], axis=1), 0), E, image, min_support, interval=False)


def matched_ms(
    up: Float[np.ndarray, "N d"],
    down: Float[np.ndarray, "N d"],
    E: Float[np.ndarray, "N D"],
    support: Int[np.ndarray, " w"],
    min_support: int = 2,
    seed: int = 0,
    image: Int[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, " w"]:
    """MS of one matched raw neuron per latent, which fires on as many units: images, or the parts of each ``image``
    (engine.metrics.parts). NaN for latents that fire on fewer than ``min_support`` images, or all,
    and where ``_DRAWS`` neurons had ties at the threshold."""
    choice, wanted = _drawn(up, down, support, min_support, seed)
    scores = np.full(len(support), np.nan)
    ends = np.cumsum(support[wanted])
    for block in np.split(wanted, np.searchsorted(ends, np.arange(_BLOCK_NONZEROS, ends[-1:].sum(), _BLOCK_NONZEROS))):
        if len(block):
            A = matched_activations(up, down, choice[block], support[block])
            scores[block] = ms_of_units(A, E, image, min_support, interval=False).ms
    return scores


def matched_columns(
    up: Float[np.ndarray, "N d"], down: Float[np.ndarray, "N d"], support: Int[np.ndarray, " w"], seed: int = 0
) -> sparse.csc_array:
    """One matched raw neuron per latent, (N, w); without images where :func:`matched_ms` finds none."""
    choice, wanted = _drawn(up, down, support, 1, seed)
    found = matched_activations(up, down, choice[wanted], support[wanted])
    counts = np.zeros(len(support), np.int64)
    counts[wanted] = support[wanted]
    return sparse.csc_array((found.data, found.indices, np.append(0, np.cumsum(counts))), shape=(len(up), len(support)))


def _drawn(
    up: np.ndarray, down: np.ndarray, support: np.ndarray, min_support: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The neuron of each latent, and the latents that have one."""
    N, d = up.shape
    draws = np.random.default_rng(seed).integers(0, 2 * d, (len(support), _DRAWS))
    wanted = np.flatnonzero((support >= min_support) & (support < N))
    choice = _without_ties(up, down, draws, support, wanted)
    return choice, wanted[choice[wanted] >= 0]


def against(ms: Float[np.ndarray, " w"], matched: Float[np.ndarray, " w"]) -> AgainstMatched:
    """MS of w latents against that of their matched raw neurons; None where no latent has both."""
    found = ms_of(ms, matched)
    mean, share = found.matched, found.beaten
    return AgainstMatched(
        mean.mean,
        share.mean,
        share.n,
        std=found.matched_std,
        low=mean.low,
        high=mean.high,
        share_low=share.low,
        share_high=share.high,
    )


def matched_activations(
    up: Float[np.ndarray, "N d"],
    down: Float[np.ndarray, "N d"],
    choice: Int[np.ndarray, " w"],
    support: Int[np.ndarray, " w"],
) -> sparse.csc_array:
    """Columns relu(s v - t). ``choice``: coordinate of ``up`` (s = 1), or d + coordinate of ``down`` (s = -1)."""
    indptr = np.concatenate([[0], np.cumsum(support)])
    values, rows = np.empty(indptr[-1]), np.empty(indptr[-1], np.int32)
    for which, columns in _by_choice(choice):
        v, order = _sorted(up, down, which)
        for k in columns:
            n, part = support[k], slice(indptr[k], indptr[k + 1])
            values[part], rows[part] = v[:n] - v[n], order[:n]
    return sparse.csc_array((values, rows, indptr), shape=(len(up), len(choice)))


def _without_ties(
    up: np.ndarray, down: np.ndarray, draws: np.ndarray, support: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """For each latent the first of its draws whose n-th and (n + 1)-th values differ; -1 where none does."""
    choice = np.full(len(support), -1)
    for draw in range(draws.shape[1]):
        left = wanted[choice[wanted] < 0]
        for which, places in _by_choice(draws[left, draw]):
            v, _ = _sorted(up, down, which)
            latents = left[places]
            n = support[latents]
            distinct = v[n - 1] > v[n]
            choice[latents[distinct]] = which
    return choice


def _by_choice(choice: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each neuron that was chosen, with the places that chose it."""
    order = np.argsort(choice, kind="stable")
    chosen, first = np.unique(choice[order], return_index=True)
    return list(zip(chosen.tolist(), np.split(order, first[1:]), strict=True)) if len(chosen) else []


def _sorted(up: np.ndarray, down: np.ndarray, which: int) -> tuple[np.ndarray, np.ndarray]:
    """A neuron's values in falling order (float64), and whose they are."""
    d = up.shape[1]
    v = (up[:, which] if which < d else down[:, which - d]).astype(np.float64)
    order = np.argsort(-v, kind="stable")
    return v[order], order
