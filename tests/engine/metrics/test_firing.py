import numpy as np
import pytest
from scipy import sparse

from engine.metrics.firing import BINS, histograms, image_frequency, mean_activation


@pytest.fixture
def dense():
    rng = np.random.default_rng(0)
    values = rng.random((50, 7)).astype(np.float32) * (rng.random((50, 7)) < 0.4)
    values[:, 3] = 0
    return values


def test_against_loops(dense):
    columns, maximum = sparse.csc_array(dense), dense.max(axis=0)
    found = [image_frequency(columns), mean_activation(columns), histograms(columns, maximum)]
    assert found[2].shape == (7, BINS)
    for latent in range(7):
        fired = dense[:, latent][dense[:, latent] > 0].astype(np.float64)
        assert found[0][latent] == len(fired) / 50
        assert found[1][latent] == pytest.approx(fired.mean() if len(fired) else 0)
        bins = [0] * BINS
        for value in fired:
            bins[min(int(np.ceil(value / np.float64(maximum[latent]) * BINS)) - 1, BINS - 1)] += 1
        assert found[2][latent].tolist() == bins
