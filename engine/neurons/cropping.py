"""Which patches of an image are scored where the judge sees crops, and where these lie. Costs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from engine.config import ScoreSettings

_PATCH = 64  # pixels, where only the shape of a crop matters: patches are squares

Frame = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, as shares of its width and height."""


@dataclass(frozen=True)
class Cropping:
    """Which patches of an image are scored, and how much around each the judge sees."""

    crops: int
    """Patches of an image; all where it has fewer."""
    side: float
    """Of a crop, as a share of the shorter side of what the encoder sees."""
    seed: int

    def patches(self, image: int, grid: tuple[int, int]) -> Int[np.ndarray, " crops"]:
        """Numbers of the patches of an image (its number), rising, row by row: drawn without replacement, each as
        likely, whatever the latents do."""
        drawn = np.random.default_rng([self.seed, image])
        return np.sort(drawn.choice(grid[0] * grid[1], self.of(grid), replace=False))

    def of(self, grid: tuple[int, int]) -> int:
        """Patches of an image."""
        return min(self.crops, grid[0] * grid[1])

    def box(self, patch: int, grid: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a crop, in pixels: a square around the middle of the patch, moved inward where
        it would lead out of the picture. ``size``: height and width of a patch."""
        height, width = grid[0] * size[0], grid[1] * size[1]
        side = min(max(round(self.side * min(height, width)), *size), height, width)
        row, column = divmod(patch, grid[1])
        middle = (row + 0.5) * size[0], (column + 0.5) * size[1]
        top, left = (
            min(max(round(at - side / 2), 0), whole - side) for at, whole in zip(middle, (height, width), strict=True)
        )
        return left, top, left + side, top + side

    def frame(self, patch: int, grid: tuple[int, int]) -> Frame:
        """:meth:`box` as shares of what the encoder sees, of square patches."""
        left, top, right, bottom = self.box(patch, grid, (_PATCH, _PATCH))
        height, width = grid[0] * _PATCH, grid[1] * _PATCH
        return left / width, top / height, right / width, bottom / height

    def around_strongest(self, maps: Float[np.ndarray, "top rows columns"]) -> Iterator[Frame | None]:
        """For the map of each image the crop around its strongest patch; None where none fires."""
        for one in np.nan_to_num(np.asarray(maps, np.float32)):
            yield self.frame(int(one.argmax()), one.shape) if one.max() > 0 else None


def cropping_of(settings: ScoreSettings) -> Cropping | None:
    """The crops that are scored; None where images are."""
    return Cropping(settings.crops, settings.crop_side, settings.seed) if settings.pooling == "crop" else None
