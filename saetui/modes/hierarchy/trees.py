"""The scores of an SAE as trees: its Matryoshka groups by depth, the taxonomy of its images. For a thread."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.errors import counted
from engine.metrics.by_group import ms_of
from engine.metrics.results import Trend
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.quantities import HEADED
from engine.neurons.taxonomy import Group, Node, Taxonomy, matryoshka
from engine.query import RowField, Rows
from saetui.formatting import count, number, percent, significant
from saetui.widgets.tree_table import Branch


@dataclass(frozen=True)
class Trees:
    """What mode Hierarchy shows of one neurons file."""

    sae: str
    images: int
    groups: list[Group]
    trend: Trend | None
    """Spearman's rank correlation between group and depth, with its p; None without a taxonomy."""
    by_group: list[Branch]
    by_taxon: list[Branch]
    """Empty when images have neither taxonomy nor class."""
    has_taxonomy: bool
    """False: the tree is of classes, one level."""


@dataclass
class _Means:
    """Mean MS, and mean MS of the matched raw neurons, of sets of latents; n: how many have them."""

    ms: Float[np.ndarray, " w"]
    matched: Float[np.ndarray, " w"]

    def cells(self, latents: Any) -> tuple[str, ...]:
        ms, matched = self.ms[latents], self.matched[latents]
        return number(_mean(ms), width=5), _n(ms), number(_mean(matched), width=7)

    def beside(self, latents: Any) -> tuple[tuple[str, ...], dict[str, float | str | None]]:
        """Of a group: cells and values of the mean, half its interval, the spread, and the control of these latents."""
        found = ms_of(self.ms[latents], self.matched[latents])
        mean, beaten = found.ms, found.beaten.mean
        half = None if mean.low is None or mean.high is None else (mean.high - mean.low) / 2
        cells = (
            number(mean.mean, width=5),
            number(half, width=4),
            count(mean.n, 5),
            number(found.matched.mean, width=7),
            percent(beaten, width=6),
        )
        return cells, {"half_width": half, "std": found.std, "n_matched": found.matched.n, "beaten": beaten}

    def values(self, name: str, latents: Any) -> dict[str, float | str | None]:
        """The same for the filter line, with the name of the node and the number of its latents."""
        ms, matched = self.ms[latents], self.matched[latents]
        means = {"ms": _mean(ms), "n": _known(ms), "matched": _mean(matched), "n_matched": _known(matched)}
        return {"name": name, "latents": len(latents), **means}


def _asks(things: str, *numbers: str, named: tuple[str, ...]) -> Rows[Branch]:
    fields = {name: RowField[Branch]("number", _value(name), HEADED.get(name, ())) for name in numbers}
    return Rows(things, {"name": RowField("text", _value("name"), named), **fields})


def _value(name: str) -> Callable[[Branch], Any]:
    return lambda branch: branch.values.get(name)


BY_GROUP = _asks(
    *("Matryoshka groups", "latents", "depth", "ms", "half_width", "std", "n", "matched", "n_matched", "beaten"),
    named=("group", "groups"),
)
BY_TAXON = _asks(
    *("Nodes", "images", "latents", "here", "ms", "n", "matched", "n_matched"), named=("taxonomy", "classes", "class")
)
"""What the filter line may ask of the nodes of each tree: every column."""


def read(path: Path) -> Trees:
    """The trees of the neurons file ``path``. UserError when it cannot be read."""
    with Neurons.open(path) as neurons, refusing_damage(path):
        means = _Means(neurons.ms, neurons.matched)
        summary = neurons.summary.hierarchy
        groups = matryoshka(neurons.group, summary)
        images = neurons.images
        has_taxonomy = any(image.taxonomy for image in images)
        has_classes = has_taxonomy or any(image.label for image in images)
        root = Taxonomy(images).tree(neurons.top_images) if has_classes else None
        return Trees(
            sae=neurons.summary.sae,
            images=len(images),
            groups=groups,
            trend=summary.trend if summary else None,
            by_group=[_group(one, neurons.group, neurons.depth, means) for one in groups],
            by_taxon=[_taxon(root, means)] if root else [],
            has_taxonomy=has_taxonomy,
        )


def _group(group: Group, group_of: np.ndarray, depth: Float[np.ndarray, " w"], means: _Means) -> Branch:
    """A group, and under it its latents by rounded depth."""
    latents = np.flatnonzero(group_of == group.number)
    rounded = np.rint(depth[latents])
    name = f"group {group.number}"
    children = []
    for value in np.unique(rounded[~np.isnan(rounded)]).tolist():
        these = latents[rounded == value]
        label = f"depth {value:.0f}"
        mean = _mean(depth[these])
        beside, more = means.beside(these)
        cells = (label, count(len(these), 8), number(mean, width=5), *beside)
        values = means.values(label, these) | {"depth": mean} | more
        children.append(Branch((name, label), cells, [], these.tolist, len(these), values))
    without = latents[np.isnan(rounded)]
    if children and len(without):
        beside, more = means.beside(without)
        cells = ("too few images", count(len(without), 8), "–", *beside)
        values = means.values("too few images", without) | more
        children.append(Branch((name, "none"), cells, [], without.tolist, len(without), values))
    beside, more = means.beside(latents)
    cells = (name, count(len(latents), 8), number(group.depth, width=5), *beside)
    values = means.values(name, latents) | {"depth": group.depth} | more
    return Branch((name,), cells, children, latents.tolist, len(latents), values)


def _taxon(node: Node, means: _Means) -> Branch:
    latents = node.below()
    cells = (
        node.path[-1] if node.path else "all images",
        count(node.images, 8),
        count(node.total, 7),
        count(len(node.latents), 6),
        *means.cells(latents),
    )
    children = [_taxon(child, means) for child in node.children]
    counts = {"images": node.images, "latents": node.total, "here": len(node.latents)}
    values = means.values(cells[0], latents) | counts
    return Branch(("all images", *node.path), cells, children, partial(list, latents), node.total, values)


def _known(values: Float[np.ndarray, " n"]) -> int:
    return int((~np.isnan(values)).sum())


def _n(values: Float[np.ndarray, " n"]) -> str:
    return count(_known(values), 5)


def _mean(values: Float[np.ndarray, " n"]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def chart(trees: Trees, width: int) -> list[tuple[str, str, str]]:
    """One line a group: its name and size, a bar as long as its depth, and its numbers.

    The bar is a text of ``width`` characters: ━ up to the depth, ┊ at the depth of images drawn at random.
    """
    deepest = max((g.depth for g in trees.groups if g.depth is not None), default=0.0)
    expected = next((g.expected for g in trees.groups if g.expected is not None), 0.0)
    scale = (width - 1) / max(deepest, expected, 1e-9)
    lines = []
    for group in trees.groups:
        end = -1 if group.depth is None else round(group.depth * scale)
        mark = round(expected * scale)
        bar = "".join("┊" if at == mark else "━" if at <= end else " " for at in range(width))
        left_out = f"{group.left_out:,} left out" if group.left_out else ""
        lines.append(
            (f"group {group.number}{group.latents:>9,}", bar, f"{number(group.depth, width=5):>5}  {left_out}")
        )
    return lines


def trend_in_words(trees: Trees) -> str:
    """Whether depth rises from group to group, and how sure that is."""
    trend = trees.trend
    if trend is None or trend.rho is None or trend.p is None:
        return "too few depths to tell whether they rise from group to group"
    rho, p = trend.rho, trend.p
    sure = "p < .001" if p < 0.001 else f"p = {significant(p, 2).removeprefix('0')}"
    word = (
        "no trend over the groups"
        if p >= 0.05
        else "deeper in later groups"
        if rho > 0
        else "shallower in later groups"
    )
    return f"{word}: Spearman's ρ {number(rho)}, {sure}"


def title_of(branch: Branch) -> str:
    """How mode Neurons names the latents of a node."""
    return f"{counted(branch.count, 'latent')} of {' › '.join(branch.place)}"
