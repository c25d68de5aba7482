"""Concept tests against plain loops, and against what theory says of latents whose firing is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from engine.metrics.concepts import FEW, PRECISE, concept_scores, halves
from engine.metrics.detection import auroc, best_threshold, detection, probed, sparse_auroc

LEVELS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def average_precision(values, labels):
    """Sum over thresholds, largest first, of the recall that each adds, times the precision there."""
    found, before = 0.0, 0.0
    for threshold in sorted(set(values.tolist()), reverse=True):
        called = values >= threshold
        recall = (called & labels).sum() / labels.sum()
        found += (recall - before) * (called & labels).sum() / called.sum()
        before = recall
    return found


def f1(values, labels, threshold):
    called = values >= threshold
    right = (called & labels).sum()
    return 2 * right / (called.sum() + labels.sum())


@settings(max_examples=40)
@given(st.integers(1, 12), st.data())
def test_sparse_auroc_is_that_of_all_values(n, data):
    values, labels = data.draw(arrays(np.float32, (n, 3), elements=LEVELS)), data.draw(arrays(bool, (n, 2)))
    np.testing.assert_allclose(sparse_auroc(sparse.csc_array(values), labels), auroc(values, labels), rtol=1e-12)


@settings(max_examples=40)
@given(st.integers(2, 14), st.data())
def test_detection_goes_through_all_thresholds(n, data):
    values, labels = data.draw(arrays(np.float64, n, elements=LEVELS)), data.draw(arrays(bool, n))
    threshold = data.draw(st.sampled_from([-1.0, 0.5, 0.7, 3.0]))
    found = detection(values, labels, threshold)
    if labels.all() or not labels.any():
        assert np.isnan([one[0] for one in found]).all()
        return
    assert found.auroc[0] == pytest.approx(auroc(values[:, None], labels[:, None])[0, 0])
    assert found.ap[0] == pytest.approx(average_precision(values, labels))
    assert found.f1[0] == pytest.approx(f1(values, labels, threshold))
    best = best_threshold(values, labels)
    assert f1(values, labels, best) == pytest.approx(max(f1(values, labels, one) for one in values))


def test_bootstrap_spreads_as_samples_do():
    """Its deviation is that of the AUROC over fresh samples of images."""
    rng = np.random.default_rng(0)

    def sample():
        labels = rng.random(300) < 0.3
        return np.where(rng.random(300) < 0.4 + 0.4 * labels, rng.exponential(size=300) + labels, 0), labels

    fresh = np.std([detection(*sample(), 0.5).auroc[0] for _ in range(300)])
    again = np.mean([np.std(detection(*sample(), 0.5, repeats=200, seed=k).auroc) for k in range(20)])
    assert again == pytest.approx(fresh, rel=0.2)


def test_probe_finds_the_odds_of_two_normal_classes():
    """For x = m y + e, e standard normal and y = -1, 1 equally often, the log odds are 2 m x."""
    rng = np.random.default_rng(0)
    labels = rng.random(20_000) < 0.5
    x = np.where(labels, 0.8, -0.8)[:, None] + rng.normal(size=(20_000, 1))
    odds, other = probed(x, labels, np.array([[-1.0], [0.0], [2.0]]), decay=1e-6)
    np.testing.assert_allclose(other, [-1.6, 0, 3.2], atol=0.15)
    assert ((odds > 0) == labels).mean() == pytest.approx(0.788, abs=0.01)  # normal distribution function at 0.8


def planted(rng, N=6000, w=40):
    """Concept 0 on three images of ten, of which latent 7 fires on nine tenths, and on .05 of others. Latents 11 and 12
    share concept 1 and fire on no other images; the rest on a tenth of any. All have one value where they fire."""
    labels = np.stack([rng.random(N) < 0.3, rng.random(N) < 0.2], axis=1)
    fires = rng.random((N, w)) < 0.1
    fires[:, 7] = rng.random(N) < np.where(labels[:, 0], 0.9, 0.05)
    side = rng.random(N) < 0.6
    fires[:, 11], fires[:, 12] = labels[:, 1] & side, labels[:, 1] & ~side
    return sparse.csc_array(np.where(fires, 1.0, 0.0)), labels


def test_known_latents_get_the_scores_that_theory_gives():
    """One that fires on a share p of images with the concept (a share s of all), q of others, with one value, has
    AUROC = 1/2 + (p - q) / 2; precision P = s p / (s p + (1 - s) q); F1 = 2 s p / (s p + (1 - s) q + s); and
    AP = p P + (1 - p) s, as its other threshold is 0."""
    rng = np.random.default_rng(0)
    activations, labels = planted(rng)
    scores = concept_scores(activations, labels, halves([None] * len(labels)))
    p, q, s = 0.9, 0.05, 0.3
    precision = s * p / (s * p + (1 - s) * q)
    assert scores.latent.tolist() == [7, 11]
    assert scores.auroc[0] == pytest.approx(0.5 + (p - q) / 2, abs=0.015)
    assert scores.ap[0] == pytest.approx(p * precision + (1 - p) * s, abs=0.03)
    assert scores.f1[0] == pytest.approx(2 * s * p / (s * p + (1 - s) * q + s), abs=0.03)
    assert scores.probes[1][0] == pytest.approx(scores.auroc[0])
    assert scores.auroc[1] == pytest.approx(0.8, abs=0.03)  # it fires on .6 of the concept
    assert scores.probes[5][1] == pytest.approx(1, abs=0.01)  # two latents that share it are all of it
    assert scores.above.tolist() == [1, 0] and scores.precise.tolist() == [1, 2]
    assert scores.missed == pytest.approx([0.1, 0.4], abs=0.03)
    assert scores.absorbed == pytest.approx([0, 0.4], abs=0.03)  # latent 12 fires where 11 should
    ends = np.quantile(scores.repeats.auroc, [0.025, 0.975], axis=1)
    assert (ends[0] < scores.auroc).all() and (scores.auroc < ends[1]).all()


def test_shuffled_labels_score_at_chance():
    """The best of 40 latents on one half has no luck left on the other."""
    rng = np.random.default_rng(1)
    activations, labels = planted(rng)
    first = halves([None] * len(labels))
    found = [concept_scores(activations, labels[rng.permutation(len(labels))], first).auroc for _ in range(8)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)
    assert concept_scores(activations, rng.permutation(labels), first).precise.tolist() == [0, 0]


def test_concepts_that_a_half_lacks_are_undefined():
    labels = np.zeros((20, 3), bool)
    labels[:10, 0], labels[0, 2] = True, True
    activations = sparse.csc_array((20, 4))
    scores = concept_scores(activations, labels, np.arange(20) % 2 == 0)
    assert scores.auroc[0] == 0.5 and scores.missed[0] == 1 and scores.absorbed[0] == 0
    assert np.isnan(scores.auroc[1:]).all() and np.isnan(scores.probes[20][1:]).all()


def test_precision_asks_for_a_few_images():
    labels = np.arange(40)[:, None] < 20
    dense = np.zeros((40, 3))
    dense[: 2 * FEW, 0] = 1
    dense[: 2 * (FEW - 1), 1] = 1
    dense[: int(40 * PRECISE) - 2 : 2, 2] = 1
    scores = concept_scores(sparse.csc_array(dense), labels, np.arange(40) % 2 == 0)
    assert scores.precise.tolist() == [1]


def test_halves_share_every_class():
    classes = [None, *"aab" * 20, *"c" * 7]
    first = halves(classes, seed=3)
    for kind, size in (("a", 40), ("b", 20), ("c", 7)):
        assert abs(sum(one for one, name in zip(first, classes, strict=True) if name == kind) - size / 2) <= 1
    assert (first != halves(classes, seed=4)).any()
