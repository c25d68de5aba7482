import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from engine.metrics import neighbours
from engine.metrics.neighbours import cofiring, nearest


def best(scores: dict[tuple[int, int], float], w: int, k: int) -> list[list[tuple[int, float]]]:
    """For each latent the k others with the largest positive score, lower numbers first among equals."""
    lists = [[(other, scores[one, other]) for other in range(w) if other != one] for one in range(w)]
    return [[pair for pair in sorted(row, key=lambda pair: (-pair[1], pair[0])) if pair[1] > 0][:k] for row in lists]


def listed(found) -> list[list[tuple[int, float]]]:
    latents, scores = found
    assert ((latents == -1) == (scores == 0)).all()
    return [
        [(int(k), float(v)) for k, v in zip(row, values, strict=True) if k >= 0]
        for row, values in zip(latents, scores, strict=True)
    ]


@pytest.fixture(params=[1 << 23, 1])
def blocks(request, monkeypatch):
    """All latents at once, and one at a time."""
    monkeypatch.setattr(neighbours, "_BLOCK_SCORES", request.param)


def test_nearest_is_by_cosine(blocks):
    decoder = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(40)[:, None]
    rows = decoder.double().numpy()
    scores = {
        (a, b): rows[a] @ rows[b] / (np.linalg.norm(rows[a]) * np.linalg.norm(rows[b])) if a and b else 0.0
        for a in range(40)
        for b in range(40)
    }
    found, expected = listed(nearest(decoder)), best(scores, 40, 8)
    assert expected[0] == [] and len(expected[1]) == 8
    for one, other in zip(found, expected, strict=True):
        assert [k for k, _ in one] == [k for k, _ in other]
        assert [v for _, v in one] == pytest.approx([v for _, v in other], abs=1e-6)


def test_of_equals_the_lower_number_is_first(blocks):
    decoder = torch.eye(4).repeat(5, 1) * 3  # exact: latents 0, 4, 8, ... are the same
    for latent, row in enumerate(listed(nearest(decoder, k=3))):
        same = [k for k in range(20) if k % 4 == latent % 4 and k != latent]
        assert row == [(k, 1.0) for k in same[:3]]


@pytest.mark.parametrize("w", [1, 2, 3])
def test_few_latents_have_few_neighbours(blocks, w):
    latents, cosines = nearest(torch.ones(w, 2))
    together, jaccard = cofiring(sparse.csc_array(np.ones((3, w))))
    assert latents.shape == cosines.shape == together.shape == jaccard.shape == (w, w - 1)
    assert sorted(latents[0]) == sorted(together[0]) == list(range(1, w))


def jaccards(activations: np.ndarray) -> dict[tuple[int, int], float]:
    sets = [set(np.flatnonzero(column > 0)) for column in activations.T]
    w = range(len(sets))
    return {(a, b): float(np.float32(len(sets[a] & sets[b]) / max(len(sets[a] | sets[b]), 1))) for a in w for b in w}


counts = st.tuples(st.integers(1, 8), st.integers(1, 7))
matrices = arrays.arrays(np.float32, counts, elements=st.sampled_from([0.0, 0.0, 0.5, 2.0]))


@given(matrices, st.integers(1, 8))
def test_cofiring_is_the_jaccard_index_of_the_firing_images(activations, k):
    expected = best(jaccards(activations), activations.shape[1], min(k, activations.shape[1] - 1))
    assert listed(cofiring(sparse.csc_array(activations), k)) == expected


def test_cofiring_in_blocks_and_of_a_part_of_the_images(blocks):
    activations = np.random.default_rng(0).random((90, 30)) * (np.random.default_rng(1).random((90, 30)) < 0.2)
    columns = sparse.csc_array(activations)
    assert listed(cofiring(columns)) == best(jaccards(activations), 30, 8)
    work = int(((activations > 0).sum(axis=1) ** 2).sum())
    assert listed(cofiring(columns, work=work)) == best(jaccards(activations), 30, 8)
    assert listed(cofiring(columns, work=work // 2)) == best(jaccards(activations[::3]), 30, 8)
