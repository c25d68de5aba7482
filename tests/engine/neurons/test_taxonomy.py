from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.metrics.hierarchy import hierarchy
from engine.neurons.results import ScoredImage
from engine.neurons.taxonomy import Group, Node, Taxonomy, matryoshka


def image(*taxonomy, label=None):
    return ScoredImage("", label, taxonomy, "")


CAT, DOG, CAR = ("life", "animal", "cat"), ("life", "animal", "dog"), ("thing", "car")
IMAGES = [image(*CAT), image(*CAT), image(*DOG), image(*CAR), image(label="loose"), image(), image("life")]


def where(taxonomy, top_images, share=0.8):
    nodes, shares = taxonomy.deepest(np.array(top_images), share)
    return [
        (None if node == -2 else taxonomy.paths.get(node, ()), agreeing)
        for node, agreeing in zip(nodes.tolist(), shares.tolist(), strict=True)
    ]


def test_the_deepest_node_of_most_top_images():
    top_images = [
        [0, 1, -1, -1, -1],
        [0, 1, 2, 1, 0],
        [0, 1, 2, 6, 3],
        [3, 3, 0, 1, 2],
        [4, 4, -1, -1, -1],
        [5, 5, 5, 5, 5],
        [-1] * 5,
    ]
    assert where(Taxonomy(IMAGES), top_images) == [
        (CAT, 1.0),
        (CAT, 0.8),
        (("life",), 0.8),
        ((), 1.0),
        (("loose",), 1.0),
        ((), 1.0),
        (None, 0.0),
    ]
    assert where(Taxonomy(IMAGES), top_images, share=1.0)[1] == (("life", "animal"), 1.0)
    assert where(Taxonomy(IMAGES), [[0, 1, 0, 1, 0, 1, 0, 3, 3, 3]], share=0.7) == [(CAT, 0.7)]


paths = st.lists(st.sampled_from("ab"), max_size=3)
records = st.lists(st.builds(lambda p, label: image(*p, label=label), paths, st.sampled_from([None, "a"])), min_size=1)


@given(records, st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=6), st.sampled_from([0.51, 0.7, 0.8, 1.0]))
def test_against_the_definition(images, lists, share):
    taxonomy = Taxonomy(images)
    top_images = np.full((len(lists), 6), -1)
    for row, chosen in zip(top_images, lists, strict=True):
        row[: len(chosen)] = [number % len(images) for number in chosen]
    own = [one.taxonomy or ((one.label,) if one.label else ()) for one in images]
    expected = []
    for row in top_images:
        below = Counter(own[k][:depth] for k in row[row >= 0] for depth in range(len(own[k]) + 1))
        number = (row >= 0).sum()
        held = [path for path, count in below.items() if count >= share * number - 1e-9]
        deepest = max(held, key=len, default=None)
        expected.append((deepest, below[deepest] / number if held else 0.0))
    assert where(taxonomy, top_images.reshape(-1, 6), share) == expected
    root = taxonomy.tree(top_images, share)
    check_tree(root, own, [path for path, _ in expected])


def check_tree(node: Node, images: list[tuple], latents: list[tuple | None]) -> None:
    depth = len(node.path)
    assert node.images == sum(path[:depth] == node.path for path in images)
    assert node.latents == [k for k, path in enumerate(latents) if path == node.path]
    assert node.below() == [k for k, path in enumerate(latents) if path is not None and path[:depth] == node.path]
    assert node.total == len(node.below())
    children = {path[: depth + 1] for path in images if path[:depth] == node.path and len(path) > depth}
    assert [child.path for child in node.children] == sorted(children)
    for child in node.children:
        check_tree(child, images, latents)


def test_nodes_are_found_by_path():
    root = Taxonomy(IMAGES).tree(np.array([[0, 2], [3, -1]]))
    assert root.find(()) is root and root.find(("life", "animal")).latents == [0]
    assert root.find(CAR).below() == [1] and root.find(CAR).find(CAR) is root.find(CAR)
    assert root.find(("life", "plant")) is None and root.find(("car",)) is None and root.find(CAR).find(CAT) is None


def test_a_share_that_two_nodes_could_have_is_refused():
    with pytest.raises(ValueError, match="above one half"):
        Taxonomy(IMAGES).deepest(np.array([[0]]), 0.5)


def test_groups_are_those_of_the_summary():
    top_images = np.array([[0, 1], [0, 2], [2, 3], [0, -1]])
    found = hierarchy(top_images, [one.taxonomy for one in IMAGES], (1, 4), np.array([0.5, 0.25, np.nan, 0.75]))
    groups = matryoshka(np.array([0, 1, 1, 1]), found)
    assert [(g.number, g.latents, g.left_out, g.depth, g.ms) for g in groups] == [
        (0, 1, 0, 3.0, 0.5),
        (1, 3, 1, 1.0, 0.5),
    ]
    assert groups[0].expected == groups[1].expected == found.expected
    assert matryoshka(np.array([0, 1, 1]), None) == [Group(0, 1, None, None, None), Group(1, 2, None, None, None)]
