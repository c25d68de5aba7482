"""Watches a few latents form: their top held-out images, at every measurement of a training."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from engine.activations.loader import Permutation
from engine.sae.held_out import HeldOut
from engine.sae.model import SAE
from engine.sae.preview import FormingLatent, Preview, TopImage, keep

LATENTS = 16
TOP = 8
CANDIDATES = 2048  # latents among which those to show are found
LEAST = 8  # images on which a latent fires: fewer say little about what it is; of few images, a tenth
MOST = 0.2  # share of the images: a latent that fires on more says little either


class Forming:
    """Top images of up to ``LATENTS`` latents: the same ones while they fire on enough, and not too many, images.

    Candidates are the first ``CANDIDATES`` latents of a permutation by the seed. Memory: ``TOP`` values for each,
    whatever the number of images. Of equal activations either image may be kept.
    """

    def __init__(self, held_out: HeldOut, w: int, seed: int):
        self.held_out = held_out
        self.candidates: NDArray[np.int64] = Permutation(w, seed, 4)(np.arange(min(w, CANDIDATES)))
        self.shown: list[int] = []
        self.grid = _grid(held_out)
        self.begin()

    def show(self, latents: Sequence[int]) -> None:
        """Latents of an earlier preview, which keep their places."""
        self.shown = [latent for latent in latents if latent in self.candidates]

    def begin(self) -> None:
        """Forget what was seen: a new measurement begins."""
        self._images = 0
        self._fired: Tensor | None = None

    def see(self, highest: Float[Tensor, "images w"]) -> None:
        """Latents of the next held-out images, max over each image's tokens."""
        values = highest[:, torch.from_numpy(self.candidates).to(highest.device)]
        if self._fired is None:
            self._fired = torch.zeros(values.shape[1], dtype=torch.int64, device=values.device)
            self._values = values[:0]
            self._numbers = torch.empty(values[:0].shape, dtype=torch.int64, device=values.device)
        self._fired += (values > 0).sum(0)
        numbers = torch.arange(self._images, self._images + len(values), device=values.device)
        self._images += len(values)
        together = torch.cat([self._values, values])
        of = torch.cat([self._numbers, numbers.unsqueeze(1).expand_as(values)])
        self._values, place = together.topk(min(TOP, len(together)), dim=0)
        self._numbers = of.gather(0, place)

    def preview(self, sae: SAE, step: int) -> Preview:
        """What the images seen since :meth:`begin` show of ``sae``."""
        assert self._fired is not None, "no images were seen"
        store = self.held_out.loader.store
        if not len(store.images):  # it was imported, and nobody said of which images it is
            return Preview(step, store.path.name, "", None, ())
        fired = self._fired.cpu().numpy()
        enough = (fired >= max(1, min(LEAST, self._images // 10))) & (fired <= MOST * self._images)
        self.shown = keep(self.shown, set(self.candidates[enough].tolist()), self.candidates.tolist(), LATENTS)
        place = {latent: i for i, latent in enumerate(self.candidates.tolist())}
        columns = [place[latent] for latent in self.shown]
        values, numbers = (x[:, columns].T.cpu().numpy() for x in (self._values, self._numbers))
        maps = self._maps(sae, np.unique(numbers[values > 0])) if self.grid else {}
        latents = []
        for i, latent in enumerate(self.shown):
            images = tuple(
                TopImage(self._path(number), float(value), maps[number][:, :, i] if self.grid else None)
                for value, number in zip(values[i].tolist(), numbers[i].tolist(), strict=True)
                if value > 0
            )
            latents.append(FormingLatent(latent, float(fired[place[latent]] / self._images), images))
        source = store.manifest.source.spec
        return Preview(step, store.path.name, source, self.grid, tuple(latents))

    def _path(self, number: int) -> str:
        return self.held_out.loader.store.images[int(self.held_out.rows.images[number])].path

    @torch.no_grad()
    def _maps(self, sae: SAE, numbers: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
        """For some held-out images the activation of the shown latents on each patch, (rows, columns, latents)."""
        assert self.grid is not None
        loader, patches = self.held_out.loader, self.grid[0] * self.grid[1]
        rows = self.held_out.rows.only(numbers)
        latents = torch.tensor(self.shown, device=sae.W_enc.device)
        pieces = []
        for positions in rows.by_image(loader.batch_size):
            a = sae.encode(torch.from_numpy(loader.take(rows[positions])).to(latents.device))[:, latents]
            image = rows.image_of(positions)
            ends = np.flatnonzero(np.diff(image, append=-1)) + 1
            pieces += [a[end - patches : end].cpu().numpy() for end in ends]  # CLS and registers come first
        return {n: a.reshape(*self.grid, -1) for n, a in zip(numbers.tolist(), pieces, strict=True)}


def _grid(held_out: HeldOut) -> tuple[int, int] | None:
    """Rows and columns of patches, where every image has all its patches in the store."""
    manifest = held_out.loader.store.manifest
    if manifest.grid is None or manifest.tokens not in ("all", "patches"):
        return None
    rows, columns = manifest.grid
    return manifest.grid if held_out.rows.count.min() >= rows * columns else None
