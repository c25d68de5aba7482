from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.metrics.uniqueness as module
from engine.metrics.results import Overlap
from engine.metrics.uniqueness import uniqueness


def by_pairs(top_images):
    """The definition, in two loops."""
    sets = [set(row[row >= 0].tolist()) for row in top_images]
    table = np.zeros((len(sets), len(sets)))
    for a, b in combinations(range(len(sets)), 2):
        if sets[a] and sets[b]:
            table[a, b] = table[b, a] = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
    return sets, table


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 6), st.integers(6, 30))
def test_all_pairs_equal_two_loops(seed, w, top, n_images):
    rng = np.random.default_rng(seed)
    top_images = np.stack([rng.choice(n_images, top, replace=False) for _ in range(w)])
    top_images[rng.random((w, top)) < 0.2] = -1
    if w > 2:
        top_images[1] = top_images[0][::-1]
    sets, table = by_pairs(top_images)
    result = uniqueness(top_images, n_images)
    upper = table[np.triu_indices(w, 1)]
    assert result.latents == sum(map(bool, sets))
    assert result.summary().pairs == result.latents * (result.latents - 1) // 2
    assert (result.above_zero, result.above_half) == ((upper > 0).sum(), (upper > 0.5).sum())
    np.testing.assert_allclose(result.jaccard, table.max(axis=1))
    expected = np.where(table.max(axis=1) > 0, table.argmax(axis=1), -1)
    assert result.partner.tolist() == expected.tolist()


def test_blocks_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    top_images = np.stack([rng.choice(50, 16, replace=False) for _ in range(90)])
    whole = uniqueness(top_images, 50)
    monkeypatch.setattr(module, "_BLOCK_PAIRS", 300)
    parts = uniqueness(top_images, 50)
    assert whole.summary() == parts.summary()
    assert whole.partner.tolist() == parts.partner.tolist()


def test_the_papers_number_of_pairs_is_that_of_latents_that_fire():
    top_images = np.full((12288, 16), -1)
    top_images[10:, 0] = np.arange(12278)
    result = uniqueness(top_images, 12278)
    assert result.summary() == Overlap(12278, 75_368_503, 0, 0)


def test_identical_latents_are_partners():
    result = uniqueness(np.array([[0, 1], [1, 0], [2, 3]]), 4)
    assert result.partner.tolist() == [1, 0, -1]
    assert result.jaccard.tolist() == pytest.approx([1, 1, 0])
