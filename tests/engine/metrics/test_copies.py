"""Copies among top images, against the definition one pair at a time."""

import numpy as np
import pytest

from engine.metrics import copies as module
from engine.metrics.copies import copies, distinct


def leaders(images: list[int], embeddings: np.ndarray, copy: float) -> int:
    """The definition, one image after the other."""
    kept: list[int] = []
    for image in images:
        lengths = [np.linalg.norm(embeddings[image]) * np.linalg.norm(embeddings[one]) for one in kept]
        cosines = [embeddings[image] @ embeddings[one] / by if by else 0 for one, by in zip(kept, lengths, strict=True)]
        if not any(cosine > copy for cosine in cosines):
            kept.append(image)
    return len(kept)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_images_that_are_no_copies_are_counted(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    seen = np.repeat(rng.normal(size=(6, 5)), 4, axis=0) + rng.normal(scale=0.05, size=(24, 5))
    seen[7] = 0
    top = np.array([rng.permutation(24)[:8] for _ in range(40)])
    for latent, images in enumerate(top):
        images[1 + latent % 8 :] = -1
    found = distinct(top, seen.astype(np.float32), copy=0.99)
    assert found.tolist() == [leaders([n for n in row if n >= 0], seen, 0.99) for row in top.tolist()]
    assert 0 < (found < (top >= 0).sum(axis=1)).sum() < 40


def test_half_of_two_or_more_images_being_copies_is_much() -> None:
    top = np.array([[0, 1, 2, 3]] * 4 + [[0, -1, -1, -1], [-1, -1, -1, -1], [0, 1, -1, -1]])
    counted = np.array([1, 2, 3, np.nan, 1, 0, 1])
    assert copies(top, counted).tolist() == [True, True, False, False, False, False, True]
