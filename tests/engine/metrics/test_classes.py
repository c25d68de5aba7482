from math import log2

import numpy as np
import pytest
from scipy import sparse

from engine.metrics.classes import class_entropy
from engine.neurons.file import Neurons
from tests.support.scores import write_scores

LABELS = ["b", "a", None, "b", "c", "a"]


def test_entropy_against_loops():
    rng = np.random.default_rng(0)
    dense = rng.random((6, 40)).astype(np.float32) * (rng.random((6, 40)) < 0.5)
    found = class_entropy(sparse.csc_array(dense), LABELS)
    for latent in range(40):
        mass = dict.fromkeys("abc", 0.0)
        for value, label in zip(dense[:, latent], LABELS, strict=True):
            if label:
                mass[label] += float(value)
        total = sum(mass.values())
        if total == 0:
            assert np.isnan(found[latent])
        else:
            expected = -sum(m / total * log2(m / total) for m in mass.values() if m)
            assert found[latent] == pytest.approx(expected, abs=1e-12)


def test_one_class_is_0_and_equal_classes_are_counted():
    one, three, unknown = [1.0, 0, 0, 2, 0, 0], [1.0, 2, 0, 1, 2, 0], [0.0, 0, 5, 0, 0, 0]
    found = class_entropy(sparse.csc_array(np.array([one, three, unknown]).T), LABELS)
    assert found[0] == 0 and not np.signbit(found[0]) and 2 ** found[1] == pytest.approx(3) and np.isnan(found[2])


def test_images_without_classes():
    assert np.isnan(class_entropy(sparse.csc_array(np.ones((2, 3))), [None, None])).all()


def test_latents_are_filtered_and_sorted_by_it(tmp_path):
    path = write_scores(tmp_path / "n.h5", 4, class_entropy=np.array([0.5, np.nan, 2.0, 0.0]))
    with Neurons.open(path) as neurons:
        assert neurons.order("entropy", descending=False) == [3, 0, 2, 1]
        assert neurons.order("entropy", search="entropy<=.5") == [0, 3]
    with Neurons.open(write_scores(tmp_path / "older.h5", 2)) as older:
        assert older.order("entropy", search="entropy>=0") == []
