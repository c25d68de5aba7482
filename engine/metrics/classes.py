"""Of which class the top images of latents are."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

_BLOCK = 4096  # latents at once: what is compared are all pairs of their top images


def commonest(
    top_images: Int[np.ndarray, "w top"], labels: Sequence[str | None]
) -> tuple[Int[np.ndarray, " w"], Float[np.ndarray, " w"]]:
    """The first top image of the class that most of a latent's top images have, and the share of them that have it.

    Images without a class count among all. Of equally common classes the one with the strongest image; -1 and NaN for
    latents whose top images have no class. Purity of a cluster (Manning et al., Introduction to Information Retrieval,
    2008, 16.3), of one latent.

    ``top_images``: numbers of images, largest activation first, -1 pads; ``labels``: the class of each image.
    """
    known: dict[str, int] = {}
    number = np.array([-1 if label is None else known.setdefault(label, len(known)) for label in labels], np.int64)
    image, share = np.full(len(top_images), -1), np.full(len(top_images), np.nan)
    for begin in range(0, len(top_images), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        image[block], share[block] = _commonest(top_images[block], number)
    return image, share


def _commonest(top_images: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shown = top_images >= 0
    classes = np.full(top_images.shape, -1)
    classes[shown] = number[top_images[shown]]
    counts = (classes[:, :, None] == classes[:, None, :]).sum(axis=2)
    counts[classes < 0] = 0
    every, place = np.arange(len(top_images)), counts.argmax(axis=1)
    most = counts[every, place]
    share = np.where(most > 0, most / np.maximum(shown.sum(axis=1), 1), np.nan)
    return np.where(most > 0, top_images[every, place], -1), share
