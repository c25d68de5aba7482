"""Labelled concepts against all latents: which latent is best at each, how many share it, what the best one misses.

Everything is chosen on one half of the images and measured on the other, so that the best of many latents has no luck
left. Per concept:

- *best*: the latent with the largest AUROC on the first half; its AUROC, AP and F1 (threshold with the largest F1 on
  the first half) on the other.
- *probes*: AUROC of a logistic regression on the k latents whose means over images with and without the concept differ
  most (Gurnee et al., arXiv 2305.01610).
- *split*: on the second half, how many latents have an AUROC of ``threshold`` or more, and how many are *precise*: they
  fire on ``FEW`` images or more, of which at least ``PRECISE`` have the concept. More than one: latents share it.
- *missed*: share of the images with the concept on which the best latent does not fire. *absorbed*: of all with the
  concept, the share on which it does not fire and a more specific latent does: one that is precise on the first half,
  and fires there on fewer images with the concept than the best one. After Chanin et al., arXiv 2409.14507, who look
  for a latent that takes over from one that should fire; they ask of the latent that takes over that a probe of the
  concept points its way, here its images must have the concept.

NaN where the best latent has no meaning: a concept without images of both kinds in a half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from engine.metrics.detection import REPEATS, Found, best_threshold, detection, probed, sparse_auroc, times

PRECISE = 0.8
FEW = 3
_BLOCK_SCORES = 1 << 22  # of some latents against all concepts, held together


@dataclass(frozen=True)
class ConceptScores:
    """Of C concepts. See the module."""

    latent: Int[np.ndarray, " C"]
    auroc: Float[np.ndarray, " C"]
    ap: Float[np.ndarray, " C"]
    f1: Float[np.ndarray, " C"]
    repeats: Found
    """The same of bootstraps over the images of the second half: each (C, repeats)."""
    probes: dict[int, Float[np.ndarray, " C"]]
    """AUROC by k."""
    above: Int[np.ndarray, " C"]
    """Latents with an AUROC of the threshold or more."""
    precise: Int[np.ndarray, " C"]
    missed: Float[np.ndarray, " C"]
    absorbed: Float[np.ndarray, " C"]


def concept_scores(
    activations: sparse.csc_array,
    labels: Bool[np.ndarray, "N C"],
    first: Bool[np.ndarray, " N"],
    threshold: float = 0.9,
    ks: Sequence[int] = (1, 5, 20),
    seed: int = 0,
) -> ConceptScores:
    """Scores of activations >= 0 (N images, w latents). ``first``: the images of the half on which is chosen."""
    one, other = (sparse.csc_array(sparse.csr_array(activations)[half]) for half in (first, ~first))
    train, test = labels[first], labels[~first]
    chosen = _chosen(one, train, max(ks, default=1))
    C = labels.shape[1]
    figures, repeats = np.full((3, C), np.nan), np.full((3, C, REPEATS), np.nan)
    probes = {k: np.full(C, np.nan) for k in ks}
    missed, absorbed = np.full(C, np.nan), np.full(C, np.nan)
    for c in range(C):
        if not (0 < train[:, c].sum() < len(train) and 0 < test[:, c].sum() < len(test)):
            continue
        best = int(chosen.best[c])
        seen, unseen = (half[:, [best]].toarray()[:, 0] for half in (one, other))
        at = best_threshold(seen, train[:, c])
        figures[:, c] = np.concatenate(detection(unseen, test[:, c], at))
        repeats[:, c] = detection(unseen, test[:, c], at, REPEATS, seed + c)
        for k in ks:
            columns = chosen.apart[c, :k]
            _, odds = probed(one[:, columns].toarray(), train[:, c], other[:, columns].toarray())
            probes[k][c] = detection(odds, test[:, c], 0.0).auroc[0]
        silent = test[:, c] & (unseen == 0)
        missed[c] = silent.sum() / test[:, c].sum()
        precise, hits = chosen.precise[c]
        specific = precise[hits < ((seen > 0) & train[:, c]).sum()]
        absorbed[c] = (silent & (other[:, specific].sum(axis=1) > 0)).sum() / test[:, c].sum()
    above, precise = _split(other, test, threshold)
    auroc, ap, f1 = figures
    return ConceptScores(chosen.best, auroc, ap, f1, Found(*repeats), probes, above, precise, missed, absorbed)


@dataclass(frozen=True)
class _Chosen:
    best: np.ndarray  # (C) latent with the largest AUROC, the lowest number of equals
    apart: np.ndarray  # (C, k) latents whose means differ most, most first
    precise: list[tuple[np.ndarray, np.ndarray]]  # of each concept: latents, and on how many of its images they fire


def _chosen(activations: sparse.csc_array, labels: np.ndarray, k: int) -> _Chosen:
    C, k = labels.shape[1], min(k, activations.shape[1])
    best, largest = np.zeros(C, np.int64), np.full(C, -np.inf)
    apart, difference = np.zeros((C, 0), np.int64), np.zeros((C, 0))
    found_precise: list[np.ndarray] = [np.empty((3, 0), np.int64)]
    for start, part in _blocks(activations, C):
        found = np.nan_to_num(sparse_auroc(part, labels), nan=-1.0)
        at = found.argmax(axis=0)
        better = found[at, np.arange(C)] > largest
        best[better], largest[better] = start + at[better], found[at, np.arange(C)][better]
        stop = start + part.shape[1]
        hits, precise = _precise(part, labels)
        latent, concept = precise.nonzero()
        found_precise.append(np.stack([concept, latent + start, hits[latent, concept]]))
        gaps = np.concatenate([difference, _mean_difference(part, labels).T], axis=1)
        numbers = np.concatenate([apart, np.broadcast_to(np.arange(start, stop), (C, stop - start))], axis=1)
        order = np.argsort(-np.abs(gaps), axis=1, kind="stable")[:, :k]
        difference, apart = np.take_along_axis(gaps, order, 1), np.take_along_axis(numbers, order, 1)
    of, latents, counts = np.concatenate(found_precise, axis=1)
    return _Chosen(best, apart, [(latents[of == c], counts[of == c]) for c in range(C)])


def _split(activations: sparse.csc_array, labels: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    above, precise = np.zeros((2, labels.shape[1]), np.int64)
    for _, part in _blocks(activations, labels.shape[1]):
        above += (np.nan_to_num(sparse_auroc(part, labels)) >= threshold).sum(axis=0)
        precise += _precise(part, labels)[1].sum(axis=0)
    return above, precise


def _blocks(activations: sparse.csc_array, C: int) -> list[tuple[int, sparse.csc_array]]:
    step = max(1, _BLOCK_SCORES // max(C, 1))
    starts = range(0, activations.shape[1], step)
    return [(start, sparse.csc_array(activations[:, start : start + step])) for start in starts]


def _precise(activations: sparse.csc_array, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fires = sparse.csc_array((activations > 0).astype(np.float64))
    hits = times(fires.T, labels)
    fired = np.asarray(fires.sum(axis=0)).ravel()[:, None]
    return hits.astype(np.int64), (fired >= FEW) & (hits >= PRECISE * fired)


def _mean_difference(activations: sparse.csc_array, labels: np.ndarray) -> np.ndarray:
    with_it = times(activations.T, labels)
    everything = np.asarray(activations.sum(axis=0)).ravel()[:, None]
    P = labels.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(with_it / P - (everything - with_it) / (len(labels) - P))


def halves(classes: Sequence[str | None], seed: int = 0) -> Bool[np.ndarray, " N"]:
    """Whether each image is of the first half: of each class every second image, in an order that the seed decides."""
    known: dict[str | None, int] = {}
    number = np.array([known.setdefault(one, len(known)) for one in classes], np.int64)
    order = np.lexsort((np.random.default_rng(seed).random(len(number)), number))
    first = np.zeros(len(number), bool)
    first[order[::2]] = True
    return first
