"""Which latents resemble a latent: by the direction that they write, and by the images on which they fire.

Both give, for each of w latents, at most ``k`` others with a score above 0, best first and of equals the lower number
first; -1 and 0 pad. No latent is its own neighbour.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

_BLOCK_SCORES = 1 << 23  # scores of some latents against all, held together
_WORK = 20_000_000_000  # pairs of latents on one image, counted over all images: some minutes

Neighbours = tuple[Int[np.ndarray, "w k"], Float[np.ndarray, "w k"]]


@torch.inference_mode()
def nearest(decoder: Float[Tensor, "w d"], k: int = 8) -> Neighbours:
    """Latents with the nearest decoder rows, and the cosines; on the device of ``decoder``.

    Rows of length 0 have no neighbours. w x w cosines are computed, in blocks of 32 MB.
    """
    unit = torch.nn.functional.normalize(decoder.float(), dim=1)
    w = len(unit)
    k = min(k, w - 1)
    latents, cosines = _nothing(w, k)
    step = max(1, _BLOCK_SCORES // w)
    for start in range(0, w if k else 0, step):
        block = (unit[start : start + step] @ unit.T).clamp(max=1.0)
        rows = torch.arange(len(block), device=block.device)
        block[rows, rows + start] = 0
        least = block.topk(k, dim=1).values[:, -1:]
        one, other = ((block >= least) & (block > 0)).nonzero(as_tuple=True)
        found = one.cpu().numpy() + start, other.cpu().numpy(), block[one, other].cpu().numpy()
        _put_best(*found, latents, cosines)
    return latents, cosines


def cofiring(activations: sparse.csc_array, k: int = 8, work: int = _WORK) -> Neighbours:
    """Latents that fire on the same images: |A & B| / |A | B| for the sets A, B of images on which they are above 0.

    ``activations`` (N images, w latents). Exact as long as the images' numbers of firing latents, squared, sum to at
    most ``work``; beyond, it is about every n-th image, with n as small as that allows.
    """
    fires = sparse.csr_array(activations > 0)
    per_image = np.diff(fires.indptr).astype(np.int64)
    fires = fires[:: max(1, -(-int((per_image**2).sum()) // work))].astype(np.float32)  # counts are exact below 2^24
    of_latent = sparse.csr_array(fires.T)
    sizes = np.diff(of_latent.indptr).astype(np.float32)
    w = len(sizes)
    k = min(k, w - 1)
    latents, scores = _nothing(w, k)
    step = max(1, _BLOCK_SCORES // w)
    for start in range(0, w if k else 0, step):
        common = (of_latent[start : start + step] @ fires).toarray()
        rows = np.arange(len(common))
        common[rows, rows + start] = 0
        jaccard = common / np.maximum(sizes[start : start + step, None] + sizes - common, 1)
        least = np.partition(jaccard, w - k, axis=1)[:, w - k, None]
        one, other = np.nonzero((jaccard >= least) & (jaccard > 0))
        _put_best(one + start, other, jaccard[one, other], latents, scores)
    return latents, scores


def _nothing(w: int, k: int) -> Neighbours:
    return np.full((w, k), -1, np.int32), np.zeros((w, k), np.float32)


def _put_best(one: np.ndarray, other: np.ndarray, values: np.ndarray, latents: np.ndarray, scores: np.ndarray) -> None:
    """Of the pairs (one, other) with their values, the best of each ``one`` into its row of ``latents``, ``scores``."""
    order = np.lexsort((other, -values, one))
    one, other, values = one[order], other[order], values[order]
    place = np.arange(len(one)) - np.searchsorted(one, one)
    kept = place < latents.shape[1]
    latents[one[kept], place[kept]], scores[one[kept], place[kept]] = other[kept], values[kept]
