"""How often and how strongly latents fire: statistics of one pooled activation per image and latent.

``activations`` (N images, w latents), sparse, none below 0; a latent fires on an image where it is above 0.
"""

import numpy as np
from jaxtyping import Float, UInt32
from scipy import sparse

BINS = 24  # of a latent's histogram
_HISTOGRAM_COLUMNS = 4096


def image_frequency(activations: sparse.csc_array) -> Float[np.ndarray, " w"]:
    """Share of the images on which each latent fires."""
    return np.diff(activations.indptr) / activations.shape[0]


def mean_activation(activations: sparse.csc_array) -> Float[np.ndarray, " w"]:
    """Mean over the images on which a latent fires, float32; 0 where it fires on none."""
    images = np.diff(activations.indptr)
    mean, fires = np.zeros(len(images), np.float32), images > 0
    starts = activations.indptr[:-1][fires]
    mean[fires] = np.add.reduceat(activations.data, starts, dtype=np.float64) / images[fires]
    return mean


def histograms(activations: sparse.csc_array, maximum: Float[np.ndarray, " w"]) -> UInt32[np.ndarray, "w bins"]:
    """How many images fall into each of ``BINS`` equal bins between 0 and the latent's maximum.

    Bin b holds the activations in (b, b + 1] / BINS x maximum.
    """
    w = activations.shape[1]
    counts = np.zeros((w, BINS), np.uint32)
    for start in range(0, w, _HISTOGRAM_COLUMNS):
        stop = min(start + _HISTOGRAM_COLUMNS, w)
        part = slice(activations.indptr[start], activations.indptr[stop])
        latent = np.repeat(np.arange(stop - start), np.diff(activations.indptr[start : stop + 1]))
        share = activations.data[part].astype(np.float64) / maximum[start:stop].astype(np.float64)[latent]
        bins = np.clip(np.ceil(share * BINS).astype(np.int64) - 1, 0, BINS - 1)
        flat = np.bincount(latent * BINS + bins, minlength=(stop - start) * BINS)
        counts[start:stop] = flat.reshape(-1, BINS)
    return counts
