"""The held-out rows of a training, measured again and again while it runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from engine.activations.loader import Loader, Rows
from engine.activations.store import Store
from engine.errors import UserError
from engine.sae.fidelity import measure
from engine.sae.model import SAE
from engine.workspace import Workspace

MOST_ROWS = 131_072  # rows measured at most: whole images, drawn from the held-out ones by the seed


@dataclass(frozen=True)
class HeldOut:
    """Rows that training never sees and, if there are embeddings, what E sees in their images."""

    loader: Loader
    rows: Rows
    embeddings: NDArray[np.float32] | None
    """One row per image in ``judged``."""
    judged: NDArray[np.int64]
    """Numbers, among the images of ``rows``, of those that have an embedding."""

    @classmethod
    def of(cls, loader: Loader, embeddings: str, workspace: Workspace) -> "HeldOut":
        rows = (loader.held_out if len(loader.held_out) else loader.train).head(MOST_ROWS)
        if not embeddings:
            return cls(loader, rows, None, np.empty(0, np.int64))
        judge = Store.open(workspace.existing("embeddings", embeddings))
        row_of = {_identity(judge.images[image]): row for row, image in enumerate(judge.image.tolist())}
        found = [row_of.get(_identity(loader.store.images[image]), -1) for image in rows.images.tolist()]
        judged = np.flatnonzero(np.array(found) >= 0)
        if len(judged) < 2:
            raise UserError(
                f"The embeddings {embeddings!r} have {len(judged)} of the {len(rows.images)} held-out images of "
                f"{loader.store.path}: embed the images that its activations came from."
            )
        return cls(loader, rows, judge.take(np.array(found)[judged]), judged)

    def measure(self, sae: SAE) -> dict[str, Any]:
        """Fidelity of ``sae``, and its mean ``ms`` (None without embeddings), as JSON values."""
        pooled: list[sparse.csr_array] = []
        found = measure(sae, self._batches(sae, pooled if self.embeddings is not None else None))
        ms = None
        if self.embeddings is not None:
            from engine.evaluate.monosemanticity import monosemanticity

            codes = sparse.vstack(pooled, format="csr")[self.judged]
            ms = _json(monosemanticity(codes, self.embeddings, interval=False).mean)
        names = ("rows", "fve", "fve_batch", "l0", "cosine", "dead", "dense")
        return {name: _json(getattr(found, name)) for name in names} | {"ms": ms}

    def _batches(self, sae: SAE, pooled: list[sparse.csr_array] | None) -> Iterator[Tensor]:
        """Raw activations, whole images at a time; latents, max over an image's tokens, are added to ``pooled``."""
        device = sae.W_enc.device
        for positions in self.rows.by_image(self.loader.batch_size):
            x = torch.from_numpy(self.loader.take(self.rows[positions])).to(device)
            yield x
            if pooled is not None:
                pooled.append(max_per_image(sae.encode(x), self.rows.image_of(positions)))


@torch.no_grad()
def max_per_image(a: Tensor, image: NDArray[np.int64]) -> sparse.csr_array:
    """Max of the latents ``a`` (rows, w) over the rows of each image, in the order in which the images come."""
    _, first = np.unique(image, return_index=True)
    order = np.sort(first)
    number = np.searchsorted(order, np.arange(len(image)), side="right") - 1
    index = torch.from_numpy(number).to(a.device).unsqueeze(1).expand_as(a)
    highest = a.new_zeros(len(order), a.shape[1]).scatter_reduce_(0, index, a, "amax")
    return sparse.csr_array(highest.cpu().numpy())


def _identity(image: dict[str, Any]) -> str:
    """What makes two entries the same image: its content, or its path where the content was not hashed."""
    return image.get("sha256") or image["path"]


def _json(value: float) -> float | None:
    return value if np.isfinite(value) else None
