import numpy as np
import pytest

from engine.metrics import matched_neurons as control
from engine.metrics.matched_neurons import matched_activations, matched_ms, rectified_ms
from engine.metrics.monosemanticity import monosemanticity


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    up = rng.normal(size=(80, 6)).astype(np.float32)
    return up, -up + 0.1 * rng.random((80, 6)).astype(np.float32), rng.normal(size=(80, 5)) + 0.2


def thresholded(v, n):
    """relu(v - t) with the t at which n images fire, found by trying the values themselves."""
    v = v.astype(np.float64)
    t = next(t for t in sorted(v, reverse=True) if (v > t).sum() == n)
    return np.maximum(v - t, 0)


def test_each_column_fires_on_exactly_as_many_images_as_its_latent(data):
    up, down, _ = data
    support = np.array([2, 79, 5, 40, 5, 1, 17])
    choice = np.array([0, 3, 3, 11, 8, 6, 0])
    A = matched_activations(up, down, choice, support).toarray()
    assert (A > 0).sum(axis=0).tolist() == support.tolist()
    for k, which in enumerate(choice):
        v = up[:, which] if which < 6 else down[:, which - 6]
        np.testing.assert_allclose(A[:, k], thresholded(v, support[k]), rtol=1e-12)


def test_scores_are_those_of_the_thresholded_neurons(data):
    up, down, E = data
    support = np.arange(80)
    scores = matched_ms(up, down, E, support, seed=3)
    draws = np.random.default_rng(3).integers(0, 12, (80, control._DRAWS))[:, 0]
    both = np.concatenate([up, down], axis=1)
    for k in range(80):
        if support[k] < 2:
            assert np.isnan(scores[k])
        else:
            column = thresholded(both[:, draws[k]], support[k])
            assert scores[k] == pytest.approx(monosemanticity(column[:, None], E).ms[0], rel=1e-9)
    assert set(draws // 6) == {0, 1}  # both signs


def test_small_blocks_give_the_same(data, monkeypatch):
    up, down, E = data
    support = np.random.default_rng(1).integers(0, 80, 50)
    whole = matched_ms(up, down, E, support)
    monkeypatch.setattr(control, "_BLOCK_NONZEROS", 60)
    np.testing.assert_allclose(matched_ms(up, down, E, support), whole, rtol=1e-12)


def test_neurons_with_ties_at_the_threshold_are_drawn_again(data):
    up, down, E = data
    up[:, :] = down[:, :] = 1.0
    up[:, 2] = np.arange(80)
    scores = matched_ms(up, down, E, np.full(40, 10))
    expected = monosemanticity(thresholded(up[:, 2], 10)[:, None], E).ms[0]
    found = scores[~np.isnan(scores)]
    assert 0 < len(found) < 40
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_latents_without_a_score_or_without_a_threshold_have_no_control(data):
    up, down, E = data
    assert np.isnan(matched_ms(up, down, E, np.array([0, 1, 80]))).all()
    assert np.isnan(matched_ms(up, down, E, np.array([3]), min_support=4)).all()
    assert len(matched_ms(up, down, E, np.empty(0, np.int64))) == 0


def test_the_seed_decides_the_draw(data):
    up, down, E = data
    support = np.full(30, 12)
    first = matched_ms(up, down, E, support, seed=1)
    np.testing.assert_array_equal(first, matched_ms(up, down, E, support, seed=1))
    assert (first != matched_ms(up, down, E, support, seed=2)).any()


def test_rectified_neurons_are_both_halves(data):
    up, down, E = data
    result = rectified_ms(up, down, E)
    for k in range(6):
        for column, score in ((up[:, k], result.ms[k]), (down[:, k], result.ms[6 + k])):
            assert score == pytest.approx(monosemanticity(np.maximum(column, 0)[:, None], E).ms[0], rel=1e-9)
