import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.metrics.detection import auroc


def brute_force(values, labels):
    """Every pair of an image with the concept and one without: 1 for a win, 1/2 for a tie."""
    out = np.full((values.shape[1], labels.shape[1]), np.nan)
    for latent in range(values.shape[1]):
        for concept in range(labels.shape[1]):
            with_it = values[labels[:, concept], latent]
            without = values[~labels[:, concept], latent]
            if len(with_it) and len(without):
                wins = [(a > b) + (a == b) / 2 for a in with_it for b in without]
                out[latent, concept] = np.mean(wins)
    return out


@settings(max_examples=50)
@given(st.integers(1, 12), st.data())
def test_auroc_counts_pairs(n, data):
    values = data.draw(arrays(np.float32, (n, 3), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])))
    labels = data.draw(arrays(bool, (n, 2)))
    np.testing.assert_allclose(auroc(values, labels), brute_force(values, labels), rtol=1e-12)


def test_a_perfect_and_a_blind_latent():
    labels = np.array([[True], [True], [False], [False]])
    values = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert auroc(values, labels)[:, 0] == pytest.approx([1.0, 0.5])
