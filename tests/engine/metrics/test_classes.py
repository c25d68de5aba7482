from collections import Counter

import numpy as np
import pytest

from engine.metrics.classes import commonest
from engine.neurons.file import Neurons
from tests.support.scores import write_scores

LABELS = ["a", "b", None, "a", "b", "c", None, None]


def test_the_commonest_class_against_loops():
    rng = np.random.default_rng(0)
    top_images = np.stack([rng.permutation(8)[:5] for _ in range(200)])
    top_images[rng.random(200) < 0.5, 3:] = -1
    images, shares = commonest(top_images, LABELS)
    for row, image, share in zip(top_images.tolist(), images.tolist(), shares.tolist(), strict=True):
        shown = [number for number in row if number >= 0]
        counts = Counter(label for number in shown if (label := LABELS[number]))
        if not counts:
            assert image == -1 and np.isnan(share)
            continue
        most = max(counts.values())
        first = next(number for number in shown if counts.get(LABELS[number]) == most)
        assert (image, share) == (first, pytest.approx(most / len(shown)))


def test_without_classes_or_images_there_is_none():
    for top_images, labels in ((np.array([[0, 1]]), [None, None]), (np.array([[-1, -1]]), ["a"])):
        images, shares = commonest(top_images, labels)
        assert images.tolist() == [-1] and np.isnan(shares).all()
    assert commonest(np.empty((0, 4), int), [])[0].shape == (0,)


def test_latents_are_filtered_by_its_share(tmp_path):
    shares = np.array([0.5, np.nan, 1.0, 0.25])
    with Neurons.open(write_scores(tmp_path / "n.h5", 4, class_share=shares)) as neurons:
        assert neurons.order("latent", search="class_share>=50%") == [0, 2]
    with Neurons.open(write_scores(tmp_path / "older.h5", 2)) as older:
        assert older.order(search="class_share>=0") == []
