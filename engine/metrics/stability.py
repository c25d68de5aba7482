"""How much of one dictionary another one has: the nearest directions, and a one-to-one matching.

For the decoder rows u_i (w1) and v_j (w2) of two SAEs on the same activations, as unit vectors, c_ij = <u_i, v_j>:

- *max cosine* of latent i: ``max_j c_ij``. Its mean over i is the mean max cosine of the first dictionary in the
  second; that of the second in the first is another number. Several latents may have the same nearest one.
- *matched cosine* of latent i: ``c_i,m(i)``, with m the one-to-one matching of the smaller dictionary into the larger
  one that has the largest sum (the Hungarian method, by ``scipy.optimize.linear_sum_assignment``). As no latent is
  used twice, its mean is at most the mean max cosine of the smaller one.

Trained with other seeds, an SAE that finds what is in the activations has both near 1. (The comparison of seeds by
such cosines: arXiv 2502.12892.) Both grow with w and shrink with d for directions drawn at random, too, so the same of
random dictionaries of these sizes stands beside them.

The exact matching holds all w1 x w2 cosines in float64, twice: up to ``EXACT`` of them (1 GB; some 8,192 latents
each). Beyond that only pairs are matched in which one is among the ``NEAREST`` best of the other, and whoever is left
over takes the partner of the same number: that sum is a lower bound of the largest, as the mean max cosine is an upper
one, and ``exact`` says so. Cosines are computed in blocks, so memory grows with w alone; work with w1 x w2 x d (two
dictionaries of 65,536 latents of width 1,024: 18 TFLOP).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import optimize, sparse
from scipy.sparse import csgraph
from torch import Tensor

from engine.metrics.means import mean_of
from engine.metrics.results import Stability

EXACT = 1 << 26  # cosines up to which the matching is the best of all
NEAREST = 32  # partners of a latent among which a larger one is looked for
_BLOCK = 1 << 24  # cosines that are held together: 64 MB


@dataclass(frozen=True)
class Nearest:
    """For each of w latents, the one of another dictionary with the largest cosine."""

    latent: Int[np.ndarray, " w"]
    cosine: Float[np.ndarray, " w"]


@dataclass(frozen=True)
class Matching:
    """Pairs of latents of two dictionaries, none of them in two pairs."""

    first: Int[np.ndarray, " pairs"]
    """Ascending."""
    second: Int[np.ndarray, " pairs"]
    cosine: Float[np.ndarray, " pairs"]
    exact: bool
    """Whether no other matching has a larger sum."""


@dataclass(frozen=True)
class Compared:
    """Two dictionaries, latent by latent."""

    there: Nearest
    """Of each latent of the first dictionary, in the second."""
    back: Nearest
    """Of each latent of the second, in the first."""
    matching: Matching

    def summary(self, control: "Compared") -> Stability:
        """``control``: the same of directions drawn at random."""
        return Stability(
            there=mean_of(self.there.cosine),
            back=mean_of(self.back.cosine),
            matched=mean_of(self.matching.cosine),
            exact=self.matching.exact,
            random_there=mean_of(control.there.cosine),
            random_back=mean_of(control.back.cosine),
            random_matched=mean_of(control.matching.cosine),
        )


@torch.inference_mode()
def compared(first: Float[Tensor, "w1 d"], second: Float[Tensor, "w2 d"], exact: int = EXACT) -> Compared:
    """Nearest directions and matching of two decoders, on their device. Rows of length 0 have cosine 0 with all."""
    u, v = (torch.nn.functional.normalize(one.float(), dim=1) for one in (first, second))
    return Compared(nearest(u, v), nearest(v, u), matching(u, v, exact))


def random_directions(w: int, d: int, *seed: int) -> Float[Tensor, "w d"]:
    """Unit vectors drawn evenly from the sphere; ``seed``: numbers that say which."""
    drawn = np.random.default_rng(seed).standard_normal((w, d), np.float32)
    return torch.nn.functional.normalize(torch.from_numpy(drawn), dim=1)


@torch.inference_mode()
def nearest(u: Float[Tensor, "w1 d"], v: Float[Tensor, "w2 d"]) -> Nearest:
    """Of each unit row of ``u`` the nearest of ``v``; of equals the first."""
    found = [block.max(1) for _, block in _blocks(u, v)]
    latent, cosine = (
        torch.cat(parts).cpu().numpy() for parts in ([f.indices for f in found], [f.values for f in found])
    )
    return Nearest(latent, np.minimum(cosine, 1).astype(np.float64))


@torch.inference_mode()
def matching(u: Float[Tensor, "w1 d"], v: Float[Tensor, "w2 d"], exact: int = EXACT) -> Matching:
    """The one-to-one matching of unit rows with the largest sum of cosines; beyond ``exact`` cosines a good one."""
    if len(u) * len(v) <= exact:
        cosines = (u @ v.T).cpu().numpy().astype(np.float64)
        pairs = optimize.linear_sum_assignment(cosines, maximize=True)
    else:
        pairs = csgraph.min_weight_full_bipartite_matching(_likely(u, v), maximize=True)
    first, second = (np.asarray(one, np.int64) for one in pairs)
    order = np.argsort(first)
    first, second = first[order], second[order]
    device = u.device
    cosine = torch.cat(
        [
            (u[torch.from_numpy(i).to(device)] * v[torch.from_numpy(j).to(device)]).sum(1)
            for i, j in zip(*(np.array_split(one, 1 + len(first) // 8192) for one in (first, second)), strict=True)
        ]
    )
    return Matching(first, second, np.minimum(cosine.cpu().numpy(), 1).astype(np.float64), len(u) * len(v) <= exact)


def _likely(u: Float[Tensor, "w1 d"], v: Float[Tensor, "w2 d"]) -> sparse.csr_array:
    """The pairs of which one is among the ``NEAREST`` of the other, and those of equal number, with cosine + 2: as all
    matchings have as many pairs, that changes none, and nothing that is stored is 0."""
    pairs = [np.tile(np.arange(min(len(u), len(v))), (2, 1))]
    for here, there, turned in ((u, v, False), (v, u, True)):
        for start, block in _blocks(here, there):
            best = block.topk(min(NEAREST, len(there)), dim=1).indices.cpu().numpy()
            own = np.repeat(np.arange(start, start + len(best)), best.shape[1])
            pairs.append(np.stack([best.ravel(), own] if turned else [own, best.ravel()]))
    number = np.unique(np.concatenate([i * len(v) + j for i, j in pairs]))
    i, j = np.divmod(number, len(v))
    weight = np.empty(len(i))
    for part in np.array_split(np.arange(len(i)), 1 + len(i) // (1 << 16)):
        at = [torch.from_numpy(one[part]).to(u.device) for one in (i, j)]
        weight[part] = (u[at[0]] * v[at[1]]).sum(1).cpu().numpy()
    return sparse.csr_array((weight + 2, (i, j)), shape=(len(u), len(v)))


def _blocks(u: Float[Tensor, "w1 d"], v: Float[Tensor, "w2 d"]) -> Iterator[tuple[int, Float[Tensor, "rows w2"]]]:
    """Cosines of some rows of ``u`` with all of ``v``, with the number of the first row."""
    step = max(1, _BLOCK // max(1, len(v)))
    for start in range(0, len(u), step):
        yield start, u[start : start + step] @ v.T
