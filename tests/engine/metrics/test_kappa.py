import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.metrics.kappa import concord
from engine.metrics.results import Concord


def naive(one, other):
    """From the table of two times two."""
    n = len(one)
    table = {(x, y): sum(a == x and b == y for a, b in zip(one, other, strict=True)) for x in (0, 1) for y in (0, 1)}
    agreed = (table[0, 0] + table[1, 1]) / n
    chance = sum((table[x, 0] + table[x, 1]) * (table[0, x] + table[1, x]) for x in (0, 1)) / n**2
    return agreed, None if chance == 1 else (agreed - chance) / (1 - chance)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_it_is_what_the_table_says(pairs):
    one, other = (np.array(column) for column in zip(*pairs, strict=True))
    found = concord(one, other)
    share, kappa = naive(one.tolist(), other.tolist())
    assert found.n == len(pairs) and found.share == pytest.approx(share)
    assert found.kappa == (None if kappa is None else pytest.approx(kappa))
    assert concord(other, one).kappa == (None if kappa is None else pytest.approx(kappa))


def test_known_cases():
    """The example of Cohen's kappa in textbooks: 20, 5, 10 and 15 of 50."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    one, other = (np.array(column) for column in zip(*pairs, strict=True))
    found = concord(one, other)
    assert (found.n, found.share, found.kappa) == (50, pytest.approx(0.7), pytest.approx(0.4))
    always = np.ones(4, bool)
    assert concord(always, always) == Concord(4, 1.0, None), "who always says yes agrees by chance"
    assert concord(always, ~always).kappa == 0
    assert concord(always[:0], always[:0]) == Concord(0, None, None)
