"""Latents whose top images are copies of one another, or blank: their MS is high, and there is nothing to see."""

import numpy as np
from jaxtyping import Bool, Float, Int, Num

COPY = 0.97
"""Cosine of two embeddings of the judge above which the images count as copies. With the demo's judge, drawn images
that were saved as JPEG, halved, doubled, made 5 % darker or noisy stay above .974 of what they were, and blank ones of
one colour above .987 of one another; of 2,400 drawn images with an object, 18 have another one so near."""
_BLOCK_BYTES = 1 << 27  # of embeddings of top images, gathered together


def distinct(
    top_images: Int[np.ndarray, "w top"], embeddings: Float[np.ndarray, "N D"], copy: float = COPY
) -> Int[np.ndarray, " w"]:
    """How many of a latent's top images are no copies of one above them that counts.

    Gone through from the largest activation: an image counts unless its cosine with one that counts is above ``copy``
    (leader clustering, Hartigan, Clustering Algorithms, 1975, 3). ``top_images``: numbers of images, largest activation
    first, -1 pads; ``embeddings``: of the judge, one row an image.
    """
    counts = np.zeros(len(top_images), np.int64)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(lengths > 0, lengths, 1)
    step = max(_BLOCK_BYTES // max(top_images.shape[1] * unit.shape[1] * unit.itemsize, 1), 1)
    for begin in range(0, len(top_images), step):
        block = slice(begin, begin + step)
        counts[block] = _leaders(top_images[block], unit, copy)
    return counts


def _leaders(top_images: np.ndarray, unit: np.ndarray, copy: float) -> np.ndarray:
    shown = top_images >= 0
    seen = unit[np.maximum(top_images, 0)]
    alike = seen @ seen.transpose(0, 2, 1) > copy
    leads = shown.copy()
    for place in range(1, top_images.shape[1]):
        leads[:, place] &= ~(alike[:, place, :place] & leads[:, :place]).any(axis=1)
    return leads.sum(axis=1)


def copies(top_images: Int[np.ndarray, "w top"], distinct: Num[np.ndarray, " w"]) -> Bool[np.ndarray, " w"]:
    """Whether at least half of a latent's top images, of two or more, are copies of others; not where ``distinct`` is
    NaN. On the demo such latents have one distinct image of 16, all others more than half."""
    shown = (top_images >= 0).sum(axis=1)
    return (shown > 1) & (2 * distinct <= shown)
