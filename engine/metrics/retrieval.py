"""Whether what belongs together is found by cosine: images by their captions, captions by their images."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

_SAME = 1e-6  # between two cosines of float32 embeddings that are one
_BLOCK = 1024  # queries at a time


def recall(
    queries: Float[np.ndarray, "Q D"],
    things: Float[np.ndarray, "T D"],
    own: Sequence[Int[np.ndarray, " _"]],
    ks: Sequence[int],
) -> Float[np.ndarray, "k Q"]:
    """Whether one of its ``own`` things (their numbers) is among the k that are nearest to each query, for each of
    ``ks``; NaN for a query that has none. Rows are unit vectors; nearness is their cosine.

    Things that are equally near come in no order, so that they count with the probability of any order: with g things
    nearer than the nearest own, t as near, m of these its own, and r = min(max(k - g, 0), t) of the t among the k, it
    is 1 - C(t - m, r) / C(t, r). Without that, embeddings that are all the same would find everything.
    """
    found = np.full((len(ks), len(queries)), np.nan)
    for start in range(0, len(queries), _BLOCK):
        cosines = queries[start : start + _BLOCK] @ things.T
        for q, row in enumerate(cosines, start):
            if not len(own[q]):
                continue
            best = row[own[q]].max()
            nearer = int((row > best + _SAME).sum())
            tied = int((np.abs(row - best) <= _SAME).sum())
            of_own = int((np.abs(row[own[q]] - best) <= _SAME).sum())
            for place, k in enumerate(ks):
                r = min(max(k - nearer, 0), tied)
                found[place, q] = 1 - math.comb(tied - of_own, r) / math.comb(tied, r)
    return found
