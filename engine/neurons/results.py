"""What is found about latents, as records. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

LatentValues = tuple[tuple[int, float], ...]
"""Pairs of a latent and a number, the most interesting first."""


@dataclass(frozen=True)
class ImageLatents:
    """The latents that one image fires, with their values; see ``engine.neurons.image_latents``."""

    grid: tuple[int, int] | None
    """Rows and columns of patches; None for an SAE of one token an image."""
    image: LatentValues
    """The strongest of the whole image."""
    patches: tuple[LatentValues, ...]
    """The strongest of each patch, row by row; empty without a grid."""
