"""The images that activate each latent most, in one pass and O(w x top) memory."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int


class TopImages:
    """Largest activations of each of ``w`` latents so far. Of equal ones the earlier image stays; zero never enters.

    ``grid`` (rows, columns): keep a map of the activation per patch, float16, with each of them.
    """

    def __init__(self, w: int, top: int, grid: tuple[int, int] | None = None):
        self._values = np.zeros((w, top), np.float32)
        self._images = np.full((w, top), -1, np.int32)
        self._maps = np.zeros((w, top, grid[0] * grid[1]), np.float16) if grid else None
        self.grid = grid

    def add(
        self,
        image: int,
        latents: Int[np.ndarray, " fired"],
        values: Float[np.ndarray, " fired"],
        patches: Callable[[np.ndarray], Float[np.ndarray, "latents patch"]] | None = None,
    ) -> None:
        """One image: its latents that fired and their activations. Images come in ascending order.

        ``patches(latents)`` gives the activation of the latents that entered on every patch.
        """
        entering = values > self._values[latents].min(axis=1)
        latents, values = latents[entering], values[entering]
        if not len(latents):
            return
        held = self._values[latents]
        smallest = held == held.min(axis=1, keepdims=True)
        place = np.where(smallest, self._images[latents], -2).argmax(axis=1)  # the latest of the smallest leaves
        self._values[latents, place], self._images[latents, place] = values, image
        if self._maps is not None and patches is not None:
            self._maps[latents, place] = np.minimum(patches(latents), np.finfo(np.float16).max)

    def sorted(
        self,
    ) -> tuple[Int[np.ndarray, "w top"], Float[np.ndarray, "w top"], Float[np.ndarray, "w top rows columns"] | None]:
        """Images (padded with -1), activations (with 0) and maps, largest first, earlier images first among equals."""
        late = np.where(self._images < 0, np.iinfo(np.int32).max, self._images)
        order = np.lexsort((late, -self._values), axis=1)
        self._images = np.take_along_axis(self._images, order, 1)  # kept, as the maps are: it may be asked for again
        self._values = np.take_along_axis(self._values, order, 1)
        if self._maps is None or self.grid is None:
            return self._images, self._values, None
        for latent, places in enumerate(order):  # in place: they are the largest thing here
            self._maps[latent] = self._maps[latent, places]
        return self._images, self._values, self._maps.reshape(*self._images.shape, *self.grid)
