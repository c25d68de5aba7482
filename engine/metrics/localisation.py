"""Whether maps point at what a latent stands for, where its mask or box is known."""

import numpy as np
from jaxtyping import Float

from engine.metrics.results import Localisation

COVERED = 0.25
"""A patch lies on an object that covers more than this share of it."""


def localisation(
    maps: Float[np.ndarray, "image patch"], cover: Float[np.ndarray, "image patch"]
) -> Localisation | None:
    """Of maps >= 0 that fire somewhere, and the share of each patch that the object covers. None without maps.

    ``peak``: mean over the images of [cover of the patch with the largest value > ``COVERED``], patches that tie
    sharing it: the pointing game of Zhang et al., arXiv 1608.00507. ``mass``: mean over the images of
    sum(map x cover) / sum(map). The chances are the same of a random patch and of a uniform map: mean(cover >
    ``COVERED``) and mean(cover).
    """
    if not len(maps):
        return None
    on, strongest = cover > COVERED, maps == maps.max(1, keepdims=True)
    values = maps.astype(np.float64)
    return Localisation(
        peak=float(((on & strongest).sum(1) / strongest.sum(1)).mean()),
        mass=float(((values * cover).sum(1) / values.sum(1)).mean()),
        chance_peak=float(on.mean()),
        chance_mass=float(cover.mean()),
    )
