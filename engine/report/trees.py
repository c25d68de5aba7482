"""The hierarchy in the report: Matryoshka groups, and the taxonomy of the images with the latents of each taxon."""

from dataclasses import dataclass

import numpy as np

from engine.metrics.by_group import ms_of
from engine.metrics.results import GroupMS, Trend
from engine.neurons.file import Neurons
from engine.neurons.taxonomy import Group, Node, matryoshka

MOST = 400  # taxa that are shown
LINKED = 200  # latents of a taxon that it leads to


@dataclass(frozen=True)
class Means:
    """Of some latents: mean MS, and mean MS of their matched raw neurons."""

    ms: float
    matched: float
    latents: int
    """With an MS."""
    with_matched: int
    """Whose matched raw neuron has one."""


@dataclass(frozen=True)
class GroupRow:
    group: Group
    ms: GroupMS


@dataclass(frozen=True)
class Taxon:
    name: str
    images: int
    here: int
    """Latents whose deepest taxon it is."""
    total: int
    """Here and below."""
    means: Means
    latents: tuple[int, ...]
    """Here and below, the first ``LINKED``."""
    children: tuple["Taxon", ...]
    hidden: int
    """Taxa below it that are left out."""


def means(neurons: Neurons, latents: np.ndarray | list[int]) -> Means:
    ms, matched = neurons.ms[latents], neurons.matched[latents]
    return Means(_mean(ms), _mean(matched), int(np.isfinite(ms).sum()), int(np.isfinite(matched).sum()))


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def groups_of(neurons: Neurons) -> tuple[list[GroupRow], Trend | None]:
    """The groups, coarsest first, none where there is one only; and whether depth rises with them."""
    hierarchy = neurons.summary.hierarchy
    found = matryoshka(neurons.group, hierarchy)
    of = [neurons.group == one.number for one in found]
    rows = [
        GroupRow(one, ms_of(neurons.ms[these], neurons.matched[these])) for one, these in zip(found, of, strict=True)
    ]
    return (rows if len(rows) > 1 else []), (hierarchy.trend if hierarchy else None)


def taxa_of(neurons: Neurons) -> Taxon | None:
    """The tree, down to ``MOST`` taxa, breadth first; None without classes."""
    if not neurons.taxonomy.paths:
        return None
    root = neurons.taxonomy.tree(neurons.top_images)
    level, kept = [root], {id(root)}
    while level:
        level = [child for node in level for child in node.children if child.total]
        kept |= {id(node) for node in level[: max(MOST - len(kept), 0)]}
    return _taxon(neurons, root, kept)


def _taxon(neurons: Neurons, node: Node, kept: set[int]) -> Taxon:
    below = node.below()
    children = [child for child in node.children if id(child) in kept]
    return Taxon(
        name=node.path[-1] if node.path else "all images",
        images=node.images,
        here=len(node.latents),
        total=node.total,
        means=means(neurons, below),
        latents=tuple(below[:LINKED]),
        children=tuple(_taxon(neurons, child, kept) for child in children),
        hidden=len(node.children) - len(children),
    )
