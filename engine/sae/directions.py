"""Directions that no SAE has learned: principal components, centroids, and directions drawn at random."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.vq import kmeans2

_ROUNDS = 10  # of Lloyd's algorithm: what moves after them is little beside the spread of a cluster


def principal(x: Float[np.ndarray, "n d"], w: int) -> Float[np.ndarray, "w d"]:
    """v1, -v1, v2, -v2, ...: eigenvectors of the covariance of the rows by falling eigenvalue, in both directions, as
    latents are never negative. ``w`` is at most 2 d."""
    _, vectors = np.linalg.eigh(np.cov(x.astype(np.float64), rowvar=False).reshape(x.shape[1], -1))
    both = np.stack([vectors.T[::-1], -vectors.T[::-1]], axis=1)
    return both.reshape(-1, x.shape[1])[:w].astype(np.float32)


def centroids(x: Float[np.ndarray, "n d"], points: int, seed: int) -> Float[np.ndarray, "points d"]:
    """k-means of the rows (scipy.cluster.vq), begun at rows that ``seed`` draws; rows again where there are fewer."""
    drawn = np.random.default_rng(seed).permutation(len(x))
    start = x[np.resize(drawn, points)]
    if points >= len(x):
        return start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster that lost its rows stays where it was
        found, _ = kmeans2(x.astype(np.float32), start.astype(np.float32), _ROUNDS, minit="matrix")
    return found


def unit(rows: Float[np.ndarray, "w d"]) -> Float[np.ndarray, "w d"]:
    """``rows`` scaled to length 1; those of length 0 stay."""
    return torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(rows)), dim=1).numpy()
