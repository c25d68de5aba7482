"""Uniqueness: do two latents show the same images? Jaccard index of their sets of top images, over all pairs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from engine.metrics.results import Overlap

_BLOCK_PAIRS = 1 << 22  # pairs that share an image, held together


@dataclass(frozen=True)
class Uniqueness:
    latents: int  #: with at least one top image
    above_zero: int  #: pairs that share an image
    above_half: int  #: pairs with a Jaccard index above 0.5
    partner: Int[np.ndarray, " w"]  #: the latent with the largest Jaccard index (lowest number of equals); -1: none
    jaccard: Float[np.ndarray, " w"]  #: that index, 0 without a partner

    def summary(self) -> Overlap:
        return Overlap(self.latents, self.latents * (self.latents - 1) // 2, self.above_zero, self.above_half)


def uniqueness(top_images: Int[np.ndarray, "w top"], n_images: int) -> Uniqueness:
    """|A & B| / |A | B| of the top images (padded with -1) of every pair of latents.

    Through the inverted index, image -> latents: only pairs that share an image are ever looked at, and these in
    blocks. The paper's count of pairs (arXiv 2504.02821) is over latents that fire, as here.
    """
    w = len(top_images)
    latent, place = np.nonzero(top_images >= 0)
    images = top_images[latent, place]
    sets = sparse.csr_array((np.ones(len(images), np.int32), (latent, images)), shape=(w, n_images))
    index = sparse.csr_array(sets.T)
    sizes = np.bincount(latent, minlength=w)
    sharing = np.diff(index.indptr)  # latents that show each image
    work = np.concatenate([[0], np.cumsum(sets @ sharing)])
    partner, best = np.full(w, -1, np.int64), np.zeros(w)
    above_zero = above_half = start = 0
    while start < w:
        stop = max(start + 1, int(np.searchsorted(work, work[start] + _BLOCK_PAIRS, side="right")) - 1)
        common = (sets[start:stop] @ index).tocoo()
        one, other, shared = common.row + start, common.col, common.data
        distinct = one != other
        one, other, shared = one[distinct], other[distinct], shared[distinct]
        jaccard = shared / (sizes[one] + sizes[other] - shared)
        above_zero += int((one < other).sum())
        above_half += int(((one < other) & (jaccard > 0.5)).sum())
        order = np.lexsort((other, -jaccard, one))
        rows, first = np.unique(one[order], return_index=True)
        partner[rows], best[rows] = other[order][first], jaccard[order][first]
        start = stop
    return Uniqueness(int((sizes > 0).sum()), above_zero, above_half, partner, best)
