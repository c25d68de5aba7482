"""MonoLoss: MonoSemanticity (MS) of the batch as an auxiliary objective (arXiv 2602.12403). Off unless it has a weight.

    loss = mse + ... + weight * (1 - mean over latents j of MS_j)

over the latents that fire on two images of the batch or more; MS_j is the score of engine.metrics.monosemanticity with
the images of the batch. An image's activation b_m is the sum over its rows in the batch, so that with one row an image
it is the row's own, and rows of one image, which look alike, are no pair. With unit embeddings e_m of the images,
``S = sum b_m e_m``, ``s = sum b_m``, ``q = sum b_m^2``:

    MS_j = (|S|^2 - q) / (s^2 - q)

As there, that is computed with the largest b_m apart and all divided by it, for otherwise float32 would be wrong where
one image dominates: with t = 1 the largest, e_t its embedding, and R, r, q the sums over the others,

    MS_j = (2 t <e_t, R> + |R|^2 - q) / (2 t r + r^2 - q)

A latent of which r < ``LOPSIDED`` is left out: its gradient is of the order of 1 / r and would, where gradients are cut
to a norm, leave nothing of the others'. MS does not depend on the scale, so what is divided by is a constant for the
gradient. There is no min-max: a latent that is 0 on some image of the batch, as nearly all are, has no minimum to
subtract.

What it trains for is what the same embeddings measure: MS says something only by another judge's.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from engine.activations.loader import Loader
from engine.activations.store import Store
from engine.errors import UserError, counted
from engine.metrics.monosemanticity import unit_rows
from engine.sae.asked import check_seen
from engine.sae.held_out import rows_of_judge
from engine.sae.sparse_codes import Kept
from engine.workspace import Workspace

LOPSIDED = 1e-3  # what all other images of a latent are at least of its largest together, for it to be scored
_PIECE = 65_536  # embeddings that are scaled together, in float64


@dataclass(frozen=True)
class Mono:
    """The objective of one training."""

    loader: Loader
    row_of: NDArray[np.int64]
    """Of each image of the store the row of its embedding; -1 for none, and its rows are left out."""
    embeddings: Float[Tensor, "images D"]

    @classmethod
    def of(cls, loader: Loader, embeddings: str, workspace: Workspace, device: torch.device) -> "Mono":
        """UserError where the embeddings are of fewer than two of the images that are trained on."""
        judge = Store.open(workspace.existing("embeddings", embeddings))
        check_seen(judge, embeddings, loader.store)
        images = loader.train.images
        row_of = np.full(int(images.max()) + 1, -1)
        row_of[images] = rows_of_judge(judge, loader.store, images)
        if (row_of >= 0).sum() < 2:
            raise UserError(
                f"The embeddings {embeddings!r} have {(row_of >= 0).sum()} of the {counted(len(images), 'image')} of "
                f"{loader.store.path} that are trained on: embed the images that its activations came from."
            )
        seen = torch.empty(judge.rows, judge.d)
        for start in range(0, judge.rows, _PIECE):
            stop = min(judge.rows, start + _PIECE)
            seen[start:stop] = torch.from_numpy(unit_rows(judge.read(start, stop)))
        return cls(loader, row_of, seen.to(device))

    def loss(self, codes: Kept | Float[Tensor, "batch w"], step: int) -> Float[Tensor, ""]:
        """1 - mean MS of the batch ``step``, whose ``codes`` these are."""
        row = torch.from_numpy(self.row_of[self.loader.images_of_batch(step)])
        return mono_loss(codes, row.to(self.embeddings.device), self.embeddings)


def mono_loss(
    codes: Kept | Float[Tensor, "batch w"], image: Int[Tensor, " batch"], E: Float[Tensor, "images D"]
) -> Float[Tensor, ""]:
    """``1 - mean MS_j``, in the type of the unit rows ``E``; 0 where no latent is scored.

    ``image``: for each row of the batch the number of its image in ``E``, -1 for one that is left out.
    """
    with torch.autocast(E.device.type, enabled=False):
        rows, latents, values = _listed(codes)
        known = image[rows] >= 0
        return _mono_loss(image[rows[known]], latents[known], values[known].to(E.dtype), E)


def _listed(codes: Kept | Float[Tensor, "batch w"]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, latents and values of what is active."""
    if isinstance(codes, Kept):
        return codes.rows, codes.latents, codes.values
    rows, latents = (codes.detach() > 0).nonzero(as_tuple=True)
    return rows, latents, codes[rows, latents]


def _mono_loss(image: Tensor, latents: Tensor, values: Tensor, E: Float[Tensor, "images D"]) -> Float[Tensor, ""]:
    if not len(latents):
        return E.new_zeros(())
    key, place = torch.unique(latents * len(E) + image, return_inverse=True)  # by latent, then image
    b = _sums(values, place, len(key))
    image = key % len(E)
    _, latent, images = torch.unique_consecutive(key // len(E), return_inverse=True, return_counts=True)
    n = len(images)
    largest = torch.zeros(n, dtype=E.dtype, device=E.device).scatter_reduce(0, latent, b.detach(), "amax")
    b = b / largest[latent]
    order = torch.arange(len(b), device=E.device)
    at_top = torch.where(b.detach() == 1, order, len(b))
    top = torch.full((n,), len(b), device=E.device).scatter_reduce(0, latent, at_top, "amin")
    rest = torch.where(order == top[latent], 0, b)
    starts = images.cumsum(0) - images
    R = F.embedding_bag(image, E, starts, mode="sum", per_sample_weights=rest)
    one, zero = torch.ones(1, 1, dtype=E.dtype, device=E.device), torch.zeros_like(image)
    r, q = (
        F.embedding_bag(zero, one, starts, mode="sum", per_sample_weights=weight).squeeze(1)
        for weight in (rest, rest.square())
    )
    t, e_top = b[top], E[image[top]]
    numerator = 2 * t * (e_top * R).sum(1) + R.square().sum(1) - q
    denominator = 2 * t * r + r.square() - q
    scored = (images > 1) & (r.detach() >= LOPSIDED)
    ms = torch.where(scored, numerator, 0) / torch.where(scored, denominator, 1)
    # As a sum of what falls short of 1, so that without a score it is 0.
    return torch.where(scored, 1 - ms, 0).sum() / scored.sum().clamp(min=1)


def _sums(values: Float[Tensor, " n"], place: Int[Tensor, " n"], count: int) -> Float[Tensor, " count"]:
    """Sums of the values of each place, in one order on either device, so that a training continues exactly."""
    zeros = values.new_zeros(count)
    if values.device.type == "cpu":
        return zeros.index_add(0, place, values)
    return zeros.index_put((place,), values, accumulate=True)
