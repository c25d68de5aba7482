"""Latents of two results that show the same images: for looking at two SAEs side by side. Costs no torch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from engine.neurons.results import ScoredImage


class TopSets:
    """The sets of top images of w latents, pictures told apart by content hash, else by path.

    A picture that lies in a folder twice is one picture.
    """

    def __init__(self, top_images: Int[np.ndarray, "w top"], images: Sequence[ScoredImage]):
        self.numbers: dict[str, int] = {}  #: of the pictures
        keys = [image.sha256 or image.path for image in images]
        picture = np.array([self.numbers.setdefault(key, len(self.numbers)) for key in keys], np.int64)
        latent, place = np.nonzero(top_images >= 0)
        n = max(len(self.numbers), 1)
        pairs = np.unique(latent * n + picture[top_images[latent, place]])  # of latent and picture, each once
        latent, pictures = pairs // n, pairs % n
        self._pictures = pictures.astype(np.int32)
        self._start = np.searchsorted(latent, np.arange(len(top_images) + 1))
        self.sizes = np.diff(self._start)
        by_picture = np.argsort(pictures, kind="stable")
        self._latents = latent[by_picture].astype(np.int32)
        self._start_of_picture = np.searchsorted(pictures[by_picture], np.arange(n + 1))

    def numbers_in(self, other: "TopSets") -> Int[np.ndarray, " pictures"]:
        """The number that each picture has in ``other``; -1 where it is not."""
        return np.array([other.numbers.get(key, -1) for key in self.numbers], np.int64)

    def pictures(self, latent: int) -> Int[np.ndarray, " shown"]:
        return self._pictures[self._start[latent] : self._start[latent + 1]]

    def similar(self, pictures: Int[np.ndarray, " shown"], n: int) -> list[tuple[int, float]]:
        """The ``n`` latents whose sets are most like ``pictures`` (each once; -1: not here), with |A & B| / |A | B|.

        Only latents that share a picture; of equals the lower number first.
        """
        known = pictures[pictures >= 0]
        parts = [slice(self._start_of_picture[p], self._start_of_picture[p + 1]) for p in known.tolist()]
        sharing = [self._latents[part] for part in parts]
        if not sharing:
            return []
        latents, shared = np.unique(np.concatenate(sharing), return_counts=True)
        jaccard = shared / (len(pictures) + self.sizes[latents] - shared)
        best = np.argsort(-jaccard, kind="stable")[:n]
        return list(zip(latents[best].tolist(), jaccard[best].tolist(), strict=True))
