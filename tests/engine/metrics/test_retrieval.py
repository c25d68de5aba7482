import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.metrics.retrieval import recall


def naive(cosines: list[float], own: set[int], k: int) -> float:
    """The share of the orders from near to far, of those that are equally near any, with one of its own in front."""
    orders = [
        order
        for order in itertools.permutations(range(len(cosines)))
        if all(cosines[one] >= cosines[other] for one, other in itertools.pairwise(order))
    ]
    return sum(bool(own & set(order[:k])) for order in orders) / len(orders)


@given(st.lists(st.sampled_from([-0.5, 0.0, 0.5]), min_size=1, max_size=6), st.data())
def test_it_is_the_mean_over_all_orders(cosines, data):
    own = data.draw(st.sets(st.integers(0, len(cosines) - 1), min_size=1))
    things = np.array([[one, np.sqrt(1 - one**2)] for one in cosines])
    found = recall(np.array([[1.0, 0.0]]), things, [np.array(sorted(own))], (1, 2, 5))
    assert found[:, 0] == pytest.approx([naive(cosines, own, k) for k in (1, 2, 5)])


def test_who_has_nothing_of_its_own_is_not_counted_and_sameness_finds_by_chance():
    same = np.tile([[0.6, 0.8]], (50, 1))
    own = [np.array([q]) for q in range(49)] + [np.array([], int)]
    found = recall(same, same, own, (1, 5))
    assert found[:, :49] == pytest.approx(np.array([[1 / 50], [5 / 50]]) * np.ones((2, 49)))
    assert np.isnan(found[:, 49]).all()


def test_blocks_of_queries_are_alike(monkeypatch):
    rng = np.random.default_rng(0)
    queries, things = (rng.normal(size=(n, 4)) for n in (23, 31))
    queries, things = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, things))
    own = [rng.choice(31, rng.integers(0, 4), replace=False) for _ in range(23)]
    whole = recall(queries, things, own, (1, 5))
    monkeypatch.setattr("engine.metrics.retrieval._BLOCK", 5)
    np.testing.assert_array_equal(recall(queries, things, own, (1, 5)), whole)
    for q, some in enumerate(own):
        order = np.argsort(-(things @ queries[q]))
        expected = np.isin(order[:5], some).any() if len(some) else np.nan
        np.testing.assert_equal(whole[1, q], float(expected))
