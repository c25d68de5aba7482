"""How well single latents tell a labelled concept: AUROC of a latent's value per image against a label per image."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats


def auroc(
    values: Float[np.ndarray, "image latent"], labels: Bool[np.ndarray, "image concept"]
) -> Float[np.ndarray, "latent concept"]:
    """P(value of an image with the concept > value of one without) + P(equal) / 2, for every latent and concept.

    From the Mann-Whitney rank sum: (sum of ranks of the positives - P (P + 1) / 2) / (P (N - P)), ties at their mean
    rank. NaN for a concept that every image has, or none.
    """
    positives = labels.sum(0).astype(np.float64)
    ranks = stats.rankdata(values, axis=0)
    sums = ranks.T @ labels.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums - positives * (positives + 1) / 2) / (positives * (len(labels) - positives))
