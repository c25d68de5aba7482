"""What the scores of a large SAE cost: ``python -m tests.benchmarks.bench_metrics [LATENTS [IMAGES [ACTIVE]]]``.

MS with intervals, uniqueness and hierarchy of 65,536 latents on 50,000 images, each of which fires 20 (one token an
image); ``ACTIVE`` 300 is what the tokens of an image fire together. The limit is one product of an image's embedding
for each stored activation, which is what a single sparse matrix product does.
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from engine.metrics.hierarchy import hierarchy
from engine.metrics.monosemanticity import monosemanticity
from engine.metrics.uniqueness import uniqueness

WIDTH, TOP, LEVELS = 768, 16, (6, 20, 60, 200)


def activations(N: int, w: int, active: int, rng: np.random.Generator) -> sparse.csr_array:
    """Few latents fire often, most seldom, as those of a trained SAE: log-uniform over three decades."""
    weight = 10 ** rng.uniform(0, 3, w)
    latents = rng.choice(w, (N, active), p=weight / weight.sum())
    where = np.arange(0, N * active + 1, active)
    found = sparse.csr_array((rng.exponential(1, N * active).astype(np.float32), latents.ravel(), where), (N, w))
    found.sum_duplicates()
    return found


def top_images(A: sparse.csc_array, top: int) -> np.ndarray:
    found = np.full((A.shape[1], top), -1)
    for latent, (begin, end) in enumerate(zip(A.indptr, A.indptr[1:], strict=False)):
        best = np.argsort(-A.data[begin:end], kind="stable")[:top]
        found[latent, : len(best)] = A.indices[begin:end][best]
    return found


def seconds(name: str, work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    took = time.perf_counter() - began
    print(f"{name:<32}{took:7.2f} s")
    return took, result


def main(w: int = 65_536, N: int = 50_000, active: int = 20) -> None:
    rng = np.random.default_rng(0)
    A = activations(N, w, active, rng)
    E = rng.standard_normal((N, WIDTH)).astype(np.float32)
    paths = [tuple(f"{level}-{rng.integers(level)}" for level in LEVELS) for _ in range(N)]
    best = top_images(sparse.csc_array(A), TOP)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{w:,} latents, {N:,} images, {A.nnz:,} activations, embeddings of {WIDTH}")
    limit, _ = seconds("limit: one sparse product", lambda: A.T @ E)
    alone, _ = seconds("MS without intervals", lambda: monosemanticity(A, E, interval=False))
    ms, scores = seconds("MS with intervals", lambda: monosemanticity(A, E))
    unique, _ = seconds("uniqueness", lambda: uniqueness(best, N))
    deep, _ = seconds("hierarchy", lambda: hierarchy(best, paths, [w // 4, w], scores.ms))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"together {ms + unique + deep:.1f} s, {(ms + unique + deep) / limit:.1f} times the limit; ", end="")
    print(f"intervals cost {ms / alone:.2f} times MS alone")
    print(f"memory {peak / 1e6:.2f} GB at its peak, {held / 1e6:.2f} GB of it what was given")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
