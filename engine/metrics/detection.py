"""How well single latents tell a labelled concept: a latent's value per image against a label per image.

AUROC is the chance that an image with the concept has the larger value, AP the mean precision over the recall that each
threshold adds, F1 the harmonic mean of precision and recall at one threshold. Equal values are one threshold.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse, stats

REPEATS = 200
"""Of a bootstrap."""


def auroc(
    values: Float[np.ndarray, "image latent"], labels: Bool[np.ndarray, "image concept"]
) -> Float[np.ndarray, "latent concept"]:
    """P(value of an image with the concept > value of one without) + P(equal) / 2, for every latent and concept.

    From the Mann-Whitney rank sum: (sum of ranks of the positives - P (P + 1) / 2) / (P (N - P)), ties at their mean
    rank. NaN for a concept that every image has, or none.
    """
    return _from_ranks(stats.rankdata(values, axis=0).T @ labels.astype(np.float64), labels)


def sparse_auroc(
    activations: sparse.csc_array, labels: Bool[np.ndarray, "image concept"]
) -> Float[np.ndarray, "latent concept"]:
    """:func:`auroc` of activations >= 0 (N images, w latents), at the cost of those above 0."""
    N, w = activations.shape
    counts = np.diff(activations.indptr)
    latent = np.repeat(np.arange(w), counts)
    order = np.lexsort((activations.data, latent))
    values, of = activations.data[order], latent[order]
    begins = np.flatnonzero(np.append(True, (values[1:] != values[:-1]) | (of[1:] != of[:-1])) if len(values) else [])
    ends = np.append(begins[1:], len(values)) if len(begins) else begins
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((begins + ends + 1) / 2, ends - begins) - activations.indptr[of]
    zeros = N - counts  # these share the lowest ranks
    at_zero = (zeros + 1) / 2
    above = ranks + (zeros - at_zero)[latent]
    raised = sparse.csc_array((above, activations.indices, activations.indptr), shape=activations.shape)
    return _from_ranks(times(raised.T, labels) + np.outer(at_zero, labels.sum(0)), labels)


def times(values: sparse.sparray, labels: Bool[np.ndarray, "image concept"]) -> Float[np.ndarray, "latent concept"]:
    """The product of (latent, image) and labels, of which an image has few."""
    return (values @ sparse.csc_array(labels, dtype=np.float64)).toarray()


def _from_ranks(sums: np.ndarray, labels: np.ndarray) -> np.ndarray:
    positives = labels.sum(0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))


class Found(NamedTuple):
    """How well one latent tells one concept. One value, or one for each resampling."""

    auroc: Float[np.ndarray, " repeats"]
    ap: Float[np.ndarray, " repeats"]
    f1: Float[np.ndarray, " repeats"]


def detection(
    values: Float[np.ndarray, " image"],
    labels: Bool[np.ndarray, " image"],
    threshold: float,
    repeats: int = 0,
    seed: int = 0,
) -> Found:
    """AUROC, AP, and F1 of ``values >= threshold``; NaN without images of both kinds.

    ``repeats``: instead of the one result of these images, those of as many Poisson bootstraps over them (each image
    counts as often as a draw of Poisson(1) says; Hanley and MacGibbon, 2006), whose sums over equal values are drawn.
    """
    distinct, group = np.unique(-values, return_inverse=True)
    positive = np.bincount(group, labels, len(distinct))[None]
    negative = np.bincount(group, ~labels, len(distinct))[None]
    if repeats:
        rng = np.random.default_rng(seed)
        positive, negative = (rng.poisson(one[0], (repeats, len(distinct))) for one in (positive, negative))
    hits, false = positive.cumsum(1), negative.cumsum(1)
    P, N = hits[:, -1], false[:, -1]
    called = int((-distinct >= threshold).sum())
    true_called, false_called = (one[:, called - 1] if called else np.zeros(len(one)) for one in (hits, false))
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (positive * (N[:, None] - false + negative / 2)).sum(1) / (P * N)
        precision = np.nan_to_num(hits / (hits + false))
        return Found(
            np.where(P * N > 0, area, np.nan),
            np.where(P * N > 0, (positive * precision).sum(1) / P, np.nan),
            np.where(P * N > 0, 2 * true_called / (true_called + false_called + P), np.nan),
        )


def best_threshold(values: Float[np.ndarray, " image"], labels: Bool[np.ndarray, " image"]) -> float:
    """The threshold whose ``values >= threshold`` have the largest F1, the largest of equals."""
    distinct, group = np.unique(-values, return_inverse=True)
    hits = np.bincount(group, labels, len(distinct)).cumsum()
    false = np.bincount(group, ~labels, len(distinct)).cumsum()
    return float(-distinct[(2 * hits / (hits + false + labels.sum())).argmax()])


def probed(
    train: Float[np.ndarray, "image k"],
    labels: Bool[np.ndarray, " image"],
    test: Float[np.ndarray, "image_ k"],
    decay: float = 1e-3,
) -> tuple[Float[np.ndarray, " image"], Float[np.ndarray, " image_"]]:
    """Log odds of a logistic regression on k columns, of the images it is fitted to and of others.

    Minimises mean log(1 + exp(-y z)) + decay / 2 |weights|^2, z = <weights, x> + bias, y = -1, 1, columns divided by
    their deviation over ``train``; by L-BFGS. Sparse probing: Gurnee et al., arXiv 2305.01610.
    """
    from scipy import optimize  # slow to import

    mean, deviation = train.mean(0), train.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    X, sign = (train - mean) / deviation, np.where(labels, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (X @ w[1:] + w[0])
        slope = -sign / (1 + np.exp(np.clip(margin, -500, 500))) / len(X)
        value = np.logaddexp(0, -margin).mean() + decay / 2 * w[1:] @ w[1:]
        return float(value), np.append(slope.sum(), X.T @ slope + decay * w[1:])

    w = optimize.minimize(loss, np.zeros(X.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return X @ w[1:] + w[0], (test - mean) / deviation @ w[1:] + w[0]
