"""Text against latents, by a loop over the definition."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.neurons.text_search import TextSpace


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 5), st.integers(1, 15))
def test_rank_equals_a_loop(seed, w, D, top):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(w, D)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[rng.random(w) < 0.3] = 0
    mean, text = 0.1 * rng.normal(size=D).astype(np.float32), rng.normal(size=D).astype(np.float32)
    cosines = {}
    for n in range(w):
        centred = text / np.sqrt(sum(x * x for x in text)) - mean
        if any(directions[n]):
            cosines[n] = sum(d * c for d, c in zip(directions[n], centred, strict=True)) / np.sqrt(sum(centred**2))
    found = TextSpace(directions, mean).rank(text, top)
    assert len(found) == min(top, len(cosines))
    for n, cosine in found:
        assert abs(cosine - cosines[n]) < 1e-5
    left = [cosine for n, cosine in cosines.items() if n not in dict(found)]
    assert all(a >= b - 1e-6 for (_, a), (_, b) in pairwise(found))
    assert not found or all(found[-1][1] >= cosine - 1e-6 for cosine in left)


def test_a_text_that_is_the_mean_of_all_is_near_to_nothing():
    space = TextSpace(np.eye(3, dtype=np.float32), np.array([0, 1, 0], np.float32))
    assert [cosine for _, cosine in space.rank(np.array([0, 5, 0], np.float32), 3)] == [0, 0, 0]
