"""Where latents live in the taxonomy of their images, as a tree. Costs no torch.

A latent belongs to the deepest node that at least a share of its top images lie below; the root lies above all.
Images without a taxonomy path lie below their label, if they have one: folders of classes are a taxonomy of one level.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from engine.errors import UserError
from engine.images.entry import ImageEntry
from engine.images.taxonomies import ClassTaxonomy
from engine.metrics.hierarchy import prefix_ids
from engine.metrics.results import Hierarchy
from engine.neurons.results import ScoredImage
from engine.reporter import Reporter, Warned

SHARE = 0.8
_ROUNDING = 1e-9  # 0.7 x 10 images are 7

Path = tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """A taxon: how many images lie below it, and which latents stop here."""

    path: Path  #: root first; () is the root of all
    images: int  #: here and below
    latents: list[int]  #: whose deepest node this is
    children: list["Node"] = field(default_factory=list)  #: by name

    @cached_property
    def total(self) -> int:
        """Latents here and below."""
        return len(self.latents) + sum(child.total for child in self.children)

    def below(self) -> list[int]:
        """Numbers of the latents here and below, ascending."""
        found, nodes = [], [self]
        while nodes:
            node = nodes.pop()
            found += node.latents
            nodes += node.children
        return sorted(found)

    def find(self, path: Sequence[str]) -> "Node | None":
        """The node of ``path`` (from the root of all), if it is at or below this one."""
        node = self
        while len(node.path) < len(path):
            child = next((one for one in node.children if one.path == tuple(path[: len(one.path)])), None)
            if child is None:
                return None
            node = child
        return node if node.path == tuple(path) else None


class Taxonomy:
    """The paths of N images, numbered once."""

    def __init__(self, images: Sequence[ScoredImage]):
        known: dict[Path, int] = {}
        paths = (image.taxonomy or ((image.label,) if image.label else ()) for image in images)
        path_of_image = np.array([known.setdefault(path, len(known)) for path in paths], np.int64)
        distinct = list(known)
        levels = prefix_ids(distinct)  # node of each path at each level; below 0 where the path has ended
        self.paths: dict[int, Path] = {}  #: of the nodes
        for path, nodes in zip(distinct, levels.tolist(), strict=True):
            self.paths |= {node: path[: level + 1] for level, node in enumerate(nodes[: len(path)])}
        self._nodes = np.where(levels >= 0, levels, -1).astype(np.int32)[path_of_image]
        self._n_images = len(path_of_image)

    def deepest(
        self, top_images: Int[np.ndarray, "w top"], share: float = SHARE
    ) -> tuple[Int[np.ndarray, " w"], Float[np.ndarray, " w"]]:
        """For each latent the deepest node that at least ``share`` of its top images lie below, and their share.

        Numbers of nodes as in ``paths``; -1 is the root (share 1), -2 for latents without top images (share 0). -1
        pads ``top_images``. ``share`` above one half, so that there is one such node at most on every level.
        """
        if not 0.5 < share <= 1:
            raise ValueError(f"share is {share}: it must be above one half, at most 1")
        shown = top_images >= 0
        number = shown.sum(axis=1)
        node, agreeing = np.where(number > 0, -1, -2), (number > 0).astype(np.float64)
        # Whatever more than half of a sorted list are stands in its middle; padding sorts to the front.
        middle = np.minimum(top_images.shape[1] - number + number // 2, top_images.shape[1] - 1)[:, None]
        for level in range(self._nodes.shape[1]):
            nodes = np.where(shown, self._nodes[top_images, level], -1)
            candidate = np.take_along_axis(np.sort(nodes, axis=1), middle, axis=1)
            found = (nodes == candidate).sum(axis=1)
            holds = (candidate[:, 0] >= 0) & (found >= share * number - _ROUNDING)
            node[holds], agreeing[holds] = candidate[holds, 0], found[holds] / number[holds]
        return node, agreeing

    def tree(self, top_images: Int[np.ndarray, "w top"], share: float = SHARE) -> Node:
        """The root: every node that has images, with the latents whose deepest node it is.

        The root's own latents are those whose top images have no node in common; latents without top images are
        nowhere.
        """
        node, _ = self.deepest(top_images, share)
        order = np.argsort(node, kind="stable")
        numbers = np.array([-1, *self.paths])
        first, last = (np.searchsorted(node[order], numbers, side=side).tolist() for side in ("left", "right"))
        spans = zip(numbers.tolist(), first, last, strict=True)
        latents = {number: order[start:stop].tolist() for number, start, stop in spans}
        images = np.bincount(self._nodes[self._nodes >= 0], minlength=max(self.paths, default=-1) + 1).tolist()
        root = Node((), self._n_images, latents[-1])
        nodes: dict[Path, Node] = {(): root}
        for path, number in sorted((path, number) for number, path in self.paths.items()):  # parents first
            nodes[path] = Node(path, images[number], latents[number])
            nodes[path[:-1]].children.append(nodes[path])
        return root


def with_other_names(images: Sequence[ScoredImage], entries: Iterable[ImageEntry]) -> list[ScoredImage]:
    """``images`` with what else their classes are called, as ``entries`` of their source say it."""
    also = {one.label: one.also for one in entries if one.also}
    return [replace(one, also=also.get(one.label, ())) for one in images]


def placed(images: Sequence[ScoredImage], taxonomy: ClassTaxonomy, reporter: Reporter) -> list[ScoredImage]:
    """``images`` with the places of their classes in ``taxonomy``. UserError where it knows none of them."""
    place = {(one.label, _folder(one)): one.also for one in images}
    path = {(label, folder): taxonomy.path(label, folder, also) for (label, folder), also in place.items()}
    classes = {label for label, _ in place if label}
    unknown = sorted({label for (label, _), found in path.items() if label and not found})
    if len(unknown) == len(classes):
        raise UserError("The taxonomy has none of the images' classes: give a table with their names as children.")
    if unknown:
        several = f"{', '.join(unknown[:3])}{' ...' if len(unknown) > 3 else ''}"
        said = f"The taxonomy has no place for {len(unknown):,} of the {len(classes):,} classes of the images"
        reporter.event(Warned(f"{said}: {several}."))
    return [replace(one, taxonomy=path[one.label, _folder(one)]) for one in images]


def _folder(image: ScoredImage) -> str:
    return image.path.rpartition("/")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Group:
    """What is known of the depth of one Matryoshka group; None where undefined."""

    number: int  #: 0 is the coarsest
    latents: int
    left_out: int | None  #: with too few top images to have a depth
    depth: float | None  #: mean taxonomy depth
    expected: float | None  #: depth of images drawn at random, the same for all groups
    ms: float | None = None  #: mean


def matryoshka(group: Int[np.ndarray, " w"], hierarchy: Hierarchy | None) -> list[Group]:
    """The groups, coarsest first. ``hierarchy``: that of the summary of the scores; without it only sizes are known."""
    if hierarchy is None:
        return [Group(number, size, None, None, None) for number, size in enumerate(np.bincount(group).tolist())]
    return [
        Group(number, one.latents, one.left_out, one.depth, hierarchy.expected, one.ms)
        for number, one in enumerate(hierarchy.groups)
    ]
