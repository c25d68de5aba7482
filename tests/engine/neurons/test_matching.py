import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.neurons.matching import TopSets
from engine.neurons.results import ScoredImage

KEYS = "abcdefgh"
pictures = st.lists(st.sampled_from(KEYS), min_size=1, max_size=8)
tops = st.lists(st.lists(st.integers(0, 7), max_size=4), min_size=1, max_size=6)


def build(keys, lists, by_path):
    images = [
        ScoredImage(key if by_path else f"{n}.png", None, (), "" if by_path else key) for n, key in enumerate(keys)
    ]
    top_images = np.full((len(lists), 4), -1)
    for row, chosen in zip(top_images, lists, strict=True):
        row[: len(chosen)] = [number % len(keys) for number in chosen]
    return TopSets(top_images, images), [{keys[k] for k in row[row >= 0]} for row in top_images]


@given(pictures, tops, pictures, tops, st.booleans(), st.integers(1, 6))
def test_against_sets(some_keys, some_lists, other_keys, other_lists, by_path, n):
    some, some_sets = build(some_keys, some_lists, by_path)
    other, other_sets = build(other_keys, other_lists, by_path)
    numbers = some.numbers_in(other)
    for latent, one in enumerate(some_sets):
        jaccard = {k: len(one & two) / len(one | two) for k, two in enumerate(other_sets) if one & two}
        expected = sorted(jaccard.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
        assert other.similar(numbers[some.pictures(latent)], n) == expected
