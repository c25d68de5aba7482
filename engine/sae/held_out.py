"""The held-out rows of a training, measured again and again while it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from engine.activations.loader import Loader, Permutation, Rows
from engine.activations.shards import ImageRecord
from engine.activations.store import Store
from engine.errors import UserError
from engine.sae.asked import check_seen
from engine.sae.fidelity import measure
from engine.sae.model import SAE
from engine.sae.results import HeldOutMeasurement
from engine.workspace import Workspace

MOST_ROWS = 131_072  # rows measured at most: whole images, drawn from the held-out ones by the seed
OUTLIER = 10.0  # rows longer than so many typical ones are outliers
_MATCHED = 1 << 25  # values of raw neurons sorted at a measurement, about
_FEWEST = 256  # latents with a matched neuron, however many images there are


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
        check_seen(judge, embeddings, loader.store)
        found = rows_of_judge(judge, loader.store, rows.images)
        judged = np.flatnonzero(found >= 0)
        if len(judged) < 2:
            raise UserError(
                f"The embeddings {embeddings!r} have {len(judged)} of the {len(rows.images)} held-out images of "
                f"{loader.store.path}: embed the images that its activations came from."
            )
        return cls(loader, rows, judge.take(found[judged]), judged)

    def measure(self, sae: SAE, watch: Callable[[Tensor], None] | None = None) -> HeldOutMeasurement:
        """Fidelity of ``sae`` and, where there are embeddings, how alike the images of its latents are.

        Matched neurons cost a sort of all images each: of many images, only those of some latents, always the same
        ones, are scored (``_MATCHED`` values in all, but ``_FEWEST`` latents at least).

        ``watch`` sees the latents of the next images of ``rows``, (images, w), batch by batch.
        """
        pooled: list[sparse.csr_array] = []
        pieces = list(self.rows.by_image(self.loader.batch_size))
        upcoming = iter(pieces)

        def see(a: Tensor) -> None:
            highest = max_per_image(a, self.rows.image_of(next(upcoming)))
            if watch is not None:
                watch(highest)
            if self.embeddings is not None:
                pooled.append(sparse.csr_array(highest.cpu().numpy()))

        batches = (torch.from_numpy(self.loader.take(self.rows[piece])).to(sae.W_enc.device) for piece in pieces)
        found = measure(sae, batches, see if watch is not None or self.embeddings is not None else None, self._longest)
        return HeldOutMeasurement(
            rows=found.rows,
            fve=_defined(found.fve),
            fve_batch=_defined(found.fve_batch),
            outliers=_defined(found.outliers),
            outlier_variance=_defined(found.outlier_variance),
            fve_without_outliers=_defined(found.fve_without_outliers),
            l0=_defined(found.l0),
            cosine=_defined(found.cosine),
            dead=_defined(found.dead),
            dense=_defined(found.dense),
            **self._ms(pooled),
        )

    @property
    def _longest(self) -> float:
        """The norm above which a row is an outlier; of a store that is mostly zeros none is."""
        return OUTLIER * self.loader.typical_norm or np.inf

    def _ms(self, pooled: list[sparse.csr_array]) -> dict[str, Any]:
        """Mean MS, that of matched neurons, and the share of latents that beat theirs; nothing without embeddings."""
        if self.embeddings is None:
            return {}
        from engine.metrics.by_group import mean_ms
        from engine.metrics.matched_neurons import against, matched_ms
        from engine.metrics.monosemanticity import monosemanticity

        codes = sparse.vstack(pooled, format="csr")[self.judged]
        result = monosemanticity(codes, self.embeddings, interval=False)
        w = codes.shape[1]
        some = np.sort(Permutation(w, 0)(np.arange(min(w, max(_FEWEST, _MATCHED // len(self.judged))))))
        matched = against(result.ms[some], matched_ms(*self._raw, self.embeddings, result.support[some]))
        mean, _ = mean_ms(result.ms)
        return {
            "ms": mean.mean,
            "ms_latents": mean.n,
            "ms_low": mean.low,
            "ms_high": mean.high,
            "ms_matched": matched.mean,
            "ms_matched_latents": matched.latents,
            "ms_matched_low": matched.low,
            "ms_matched_high": matched.high,
            "ms_beaten": matched.share_beaten,
        }

    @cached_property
    def _raw(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw coordinates of the judged images, pooled like latents: max of v, and max of -v, over an image's tokens.

        They are the same at every measurement: read once, 8 bytes times d an image.
        """
        rows = self.rows.only(self.judged)
        up, down = (np.empty((len(self.judged), self.loader.store.d), np.float32) for _ in range(2))
        done = 0
        for positions in rows.by_image(self.loader.batch_size):
            x, image = self.loader.take(rows[positions]), rows.image_of(positions)
            first = np.flatnonzero(np.diff(image, prepend=-1))
            part = slice(done, done + len(first))
            up[part], down[part] = np.maximum.reduceat(x, first), -np.minimum.reduceat(x, first)
            done += len(first)
        return up, down


@torch.no_grad()
def max_per_image(a: Float[Tensor, "rows w"], image: NDArray[np.int64]) -> Float[Tensor, "images w"]:
    """Max of the latents ``a`` over the rows of each image, in the order in which the images come."""
    number = np.cumsum(np.diff(image, prepend=image[:1]) != 0)
    index = torch.from_numpy(number).to(a.device).unsqueeze(1).expand_as(a)
    return a.new_zeros(int(number[-1]) + 1, a.shape[1]).scatter_reduce_(0, index, a, "amax")


def rows_of_judge(judge: Store, store: Store, images: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of the ``images`` of ``store`` the row of ``judge`` that is its embedding; -1 where there is none."""
    judge.check_listed()
    store.check_listed()
    row_of = {_identity(judge.images[image]): row for row, image in enumerate(judge.image.tolist())}
    return np.array([row_of.get(_identity(store.images[image]), -1) for image in images.tolist()], np.int64)


def _identity(image: ImageRecord) -> str:
    """What makes two entries the same image: its content, or its path where the content was not hashed."""
    return image.sha256 or image.path


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None
