"""How well single latents tell a labelled concept: AUROC of a latent's value per image against a label per image."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

if TYPE_CHECKING:
    from engine.activations.store import Store
    from engine.sae.model import SAE


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


def pooled_latents(
    sae: "SAE", store: "Store", rows: int = 16_384
) -> tuple[Int[np.ndarray, " image"], Float[np.ndarray, "image latent"]]:
    """Largest activation of every latent over the tokens of every image in ``store``.

    Returns the indices into ``store.images`` and a dense float32 matrix: for image sets that fit in memory.
    """
    import torch

    indices = np.unique(store.image)
    pooled = np.zeros((len(indices), sae.config.w), np.float32)
    place = np.searchsorted(indices, store.image)
    with torch.inference_mode():
        for start in range(0, store.rows, rows):
            a = sae.encode(torch.from_numpy(store.read(start, min(start + rows, store.rows)))).numpy()
            at = place[start : start + rows]
            begins = np.flatnonzero(np.r_[True, at[1:] != at[:-1]])
            seen = at[begins]
            pooled[seen] = np.maximum(pooled[seen], np.maximum.reduceat(a, begins, axis=0))
    return indices, pooled
