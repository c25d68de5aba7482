"""Taxonomy depth: how far down a tree of concepts the top images of a latent agree (arXiv 2504.02821).

Every image has a path in a taxonomy, root first. Depth of a latent: mean over the pairs of its top images (120 of 16)
of the length of their common path prefix. Latents with fewer top images are left out. The authors' code rounds each
latent's mean to an integer before it averages; both are given.

Beside them stands chance: sets of as many different images, drawn at random. Their mean depth is that of two images,
exactly (:func:`expected_depth`); how far sets, and means over as many sets as a group has latents, lie from it is told
from ``RANDOM_SETS`` of them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from engine.metrics.results import GroupDepth, Hierarchy, Trend

Path = Sequence[str]

RANDOM_SETS = 2000
"""Whose depths tell how far chance goes."""
_NORMAL = 1.959964  # 97.5 % point of the normal distribution
_BLOCK = 4096  # latents whose pairs are compared together


def prefix_ids(paths: Sequence[Path]) -> Int[np.ndarray, "N levels"]:
    """For each image and level, a number for its path down to there; a path that ends earlier shares it with none."""
    levels = max((len(path) for path in paths), default=0)
    ids = np.empty((len(paths), levels), np.int64)
    known: dict[tuple[str, ...], int] = {}
    for image, path in enumerate(paths):
        for level in range(levels):
            prefix = tuple(path[: level + 1])
            is_whole = len(prefix) == level + 1
            ids[image, level] = known.setdefault(prefix, len(known)) if is_whole else -1 - image
    return ids


def depths(
    top_images: Int[np.ndarray, "w top"], paths: Sequence[Path]
) -> tuple[Float[np.ndarray, " w"], Int[np.ndarray, " w"]]:
    """Mean length of the common prefix over all pairs of top images, and the most frequent length (smallest of equals).

    NaN and -1 for latents with fewer than ``top`` images (padded with -1).
    """
    ids = prefix_ids(paths)
    w, top = top_images.shape
    first, second = np.triu_indices(top, 1)
    mean, mode = np.full(w, np.nan), np.full(w, -1)
    full = np.flatnonzero((top_images >= 0).all(axis=1))
    if top < 2:
        return mean, mode
    for start in range(0, len(full), _BLOCK):
        block = full[start : start + _BLOCK]
        images = top_images[block]
        common = np.zeros((len(block), len(first)), np.int64)
        for level in range(ids.shape[1]):
            at_level = ids[images, level]
            common += at_level[:, first] == at_level[:, second]
        mean[block] = common.mean(axis=1)
        counts = np.stack([(common == length).sum(axis=1) for length in range(ids.shape[1] + 1)], axis=1)
        mode[block] = counts.argmax(axis=1)
    return mean, mode


def expected_depth(paths: Sequence[Path]) -> float:
    """Mean length of the common prefix of two different images drawn at random: what chance alone gives."""
    ids, N = prefix_ids(paths), len(paths)
    if N < 2:
        return float("nan")
    agreeing = 0
    for level in range(ids.shape[1]):
        counts = np.unique(ids[:, level], return_counts=True)[1].astype(np.int64)
        agreeing += int((counts * (counts - 1)).sum())
    return agreeing / (N * (N - 1))


def random_depths(paths: Sequence[Path], top: int, seed: int = 0) -> Float[np.ndarray, " sets"]:
    """Depths of ``RANDOM_SETS`` sets of ``top`` different images; none where there are not so many images."""
    if not 2 <= top <= len(paths):
        return np.empty(0)
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(len(paths), top, replace=False, shuffle=False) for _ in range(RANDOM_SETS)]
    return depths(np.array(drawn), paths)[0]


def group_of(groups: Sequence[int], w: int) -> Int[np.ndarray, " w"]:
    """The Matryoshka group of every latent; ``groups`` are cumulative counts. All 0 without groups."""
    return np.searchsorted(np.asarray(groups or [w]), np.arange(w), side="right")


def hierarchy(
    top_images: Int[np.ndarray, "w top"],
    paths: Sequence[Path],
    groups: Sequence[int] = (),
    ms: Float[np.ndarray, " w"] | None = None,
    seed: int = 0,
) -> Hierarchy:
    """Depth per Matryoshka group, what chance would give, and whether depth rises from group to group."""
    depth, _ = depths(top_images, paths)
    group = group_of(groups, len(depth))
    expected, chance = expected_depth(paths), random_depths(paths, top_images.shape[1], seed)
    spread = float(chance.std(ddof=1)) if len(chance) else None
    low, high = np.quantile(chance, [0.025, 0.975]).tolist() if len(chance) else (None, None)
    listed = [
        _group(depth[group == g], None if ms is None else ms[group == g], expected, spread)
        for g in range(int(group.max()) + 1)
    ]
    found = _mean(np.array([expected]))
    return Hierarchy(tuple(listed), found, _trend(group, depth), random_low=low, random_high=high)


def _group(depth: np.ndarray, ms: np.ndarray | None, expected: float, spread: float | None) -> GroupDepth:
    from scipy import special

    known = depth[~np.isnan(depth)]
    n, rounded = len(known), np.rint(known)
    values, counts = np.unique(rounded, return_counts=True)
    half = special.stdtrit(n - 1, 0.975) * known.std(ddof=1) / np.sqrt(n) if n > 1 else None
    chance = None if spread is None or not n else _NORMAL * spread / np.sqrt(n)
    return GroupDepth(
        latents=len(depth),
        left_out=int(np.isnan(depth).sum()),
        depth=_mean(depth),
        rounded=_mean(rounded),
        mode=int(values[counts.argmax()]) if len(values) else None,
        ms=None if ms is None else _mean(ms),
        low=None if half is None else float(known.mean() - half),
        high=None if half is None else float(known.mean() + half),
        random_low=None if chance is None else float(expected - chance),
        random_high=None if chance is None else float(expected + chance),
        ms_latents=None if ms is None else int((~np.isnan(ms)).sum()),
    )


def _trend(group: np.ndarray, depth: np.ndarray) -> Trend:
    from scipy import stats  # slow to import

    scored = ~np.isnan(depth)
    if len(np.unique(group[scored])) < 2 or len(np.unique(depth[scored])) < 2:
        return Trend(None, None)
    result = stats.spearmanr(group[scored], depth[scored])
    p = float(result.pvalue)  # of two latents there is none
    return Trend(float(result.statistic), p if np.isfinite(p) else None)


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
