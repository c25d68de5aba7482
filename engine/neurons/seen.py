"""One pass of an encoder over the images for several SAEs at once, and what it leaves behind of each.

An image is read and encoded once, whatever the number of SAEs and of their hook points. What an SAE sees does not
depend on which others there are: same inputs, same batches, same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor

from engine.activations.reading import Batch, prepared
from engine.activations.store import Store
from engine.config import Pooling
from engine.errors import UserError
from engine.images import Images
from engine.models import HookPoint
from engine.models.encoder import VisionEncoder
from engine.neurons.cropping import Cropping
from engine.neurons.crops import plain_grid
from engine.neurons.pooling import chosen_tokens, pool
from engine.neurons.top_images import TopImages
from engine.reporter import Reporter
from engine.sae.model import SAE

LAST = HookPoint("last")
_ENCODED_BYTES = 1 << 28  # of the dense latents of the images that are encoded together


@dataclass(frozen=True)
class View:
    """What an SAE is shown of an image: the same for many of one encoder."""

    hook: HookPoint
    tokens: str
    """``pooled``, ``cls``, ``mean`` or ``patches``: which tokens are scored."""
    how: Pooling
    """How their values become one."""
    crops: Cropping | None = None
    """Which patches are scored each by itself; None where images are."""

    @property
    def several(self) -> bool:
        """Whether there is more than one token an image."""
        return self.tokens == "patches"


@dataclass(frozen=True, eq=False)
class Raw:
    """The raw coordinates of what is scored in a view: of N images, pooled like latents, or of N patches."""

    up: Float[np.ndarray, "N d"]
    down: Float[np.ndarray, "N d"]
    """The same of the coordinates with the other sign."""

    @classmethod
    def empty(cls, N: int, d: int) -> "Raw":
        return cls(np.empty((N, d), np.float32), np.empty((N, d), np.float32))

    @property
    def nbytes(self) -> int:
        return self.up.nbytes + self.down.nbytes


@dataclass(frozen=True)
class Reader:
    """An SAE that is to be shown images. Its weights are loaded when the pass begins."""

    folder: Path
    view: View
    d: int
    w: int
    top: int

    def nbytes(self, encoder: VisionEncoder) -> int:
        """Bytes that its weights and its top images take, whatever the number of images."""
        rows, columns = (self.view.several and encoder.grid) or (0, 0)
        return 8 * self.d * self.w + self.w * self.top * (8 + 2 * rows * columns)


@dataclass
class Seen:
    """What one pass over N images leaves behind of an SAE."""

    reader: Reader
    sae: SAE
    raw: Raw
    top: TopImages
    fired: np.ndarray
    """(w) tokens on which each latent fires."""
    pooled: list[sparse.csr_array] = field(default_factory=list)
    """Latents, one value an image, in parts: 8 bytes for each that fires."""
    patches: list[sparse.csr_array] = field(default_factory=list)
    """Where patches are scored: the same of each of them."""
    token_count: int = 0

    def activations(self) -> sparse.csr_array:
        """Latents, one value an image, (N, w)."""
        return _whole(self.pooled)

    def units(self) -> sparse.csr_array:
        """Latents, one value for each of what is scored: images, or patches, image by image."""
        return _whole(self.patches) if self.view.crops else self.activations()

    @property
    def nbytes(self) -> int:
        """Of the latents so far."""
        parts = (*self.pooled, *self.patches)
        return sum(part.data.nbytes + part.indices.nbytes + part.indptr.nbytes for part in parts)

    @property
    def view(self) -> View:
        return self.reader.view


def _whole(parts: list[sparse.csr_array]) -> sparse.csr_array:
    """``parts`` as one, which takes their place."""
    if len(parts) > 1:
        parts[:] = [sparse.csr_array(sparse.vstack(parts, format="csr"))]
    return parts[0]


@dataclass
class Pass:
    """What one pass leaves behind: of the SAEs that memory had room for, in the order in which they were given."""

    seen: list[Seen]
    joint: Float[np.ndarray, "N D"] | None
    """Image embeddings in the space of the text tower; None without one."""


@torch.inference_mode()
def look(
    readers: Sequence[Reader],
    encoder: VisionEncoder,
    images: Images,
    judged: Sequence[Store],
    batch_size: int,
    workers: int,
    room: int,
    reporter: Reporter,
) -> Pass:
    """Show the images that the judges saw, which are those of each store of ``judged``, to ``readers``.

    Of several SAEs only as many are shown them as fit into ``room`` bytes, but one at least: as far as is known when
    the pass begins, and as their latents turn out to fire. The others are left for another pass.
    """
    shown = _Shown(_admitted(readers, encoder, room), encoder, judged[0].rows)
    starts = range(0, len(images), batch_size)
    batches = [(start, min(start + batch_size, len(images))) for start in starts]
    for batch in prepared(images, encoder, batches, workers):
        for embeddings in judged:
            _check_judged(batch, embeddings)
        for part in batch.parts:
            shown.show(part.inputs, part.indices, [images.entries[i].path for i in part.indices])
        shown.leave_out(room)
        reporter.progress(shown.done, shown.N, "images")
        reporter.check()
    return Pass(shown.seen, shown.joint)


def _admitted(readers: Sequence[Reader], encoder: VisionEncoder, room: int) -> list[Reader]:
    """As many of the first as fit into ``room`` bytes by what is known of them; one at least."""
    total = np.cumsum([reader.nbytes(encoder) for reader in readers])
    return list(readers[: max(1, int(np.searchsorted(total, room, side="right")))])


class _Shown:
    """The SAEs of one pass while it goes on."""

    def __init__(self, readers: Sequence[Reader], encoder: VisionEncoder, N: int):
        self.encoder, self.N, self.done = encoder, N, 0
        self.joint: np.ndarray | None = None
        raws: dict[View, Raw] = {}
        self.seen: list[Seen] = []
        for reader in readers:
            each = reader.view.crops.of(plain_grid(encoder)[0]) if reader.view.crops else 1
            raw = raws.setdefault(reader.view, Raw.empty(N * each, reader.d))
            top = TopImages(reader.w, reader.top, encoder.grid if reader.view.several else None)
            sae = SAE.load(reader.folder, encoder.device)
            self.seen.append(Seen(reader, sae, raw, top, np.zeros(reader.w, np.int64)))

    def show(self, inputs: dict[str, Tensor], numbers: list[int], paths: list[str]) -> None:
        """The next images, with their numbers: one forward pass, and what every SAE makes of it."""
        hooks = dict.fromkeys([one.view.hook for one in self.seen] + [LAST] * self.encoder.has_text)
        taken = self.encoder.activations(inputs, list(hooks), len(paths))
        if self.encoder.has_text:
            joint = taken[LAST][:, 0].float().cpu().numpy()
            if self.joint is None:
                self.joint = np.empty((self.N, joint.shape[1]), np.float32)
            self.joint[self.done : self.done + len(paths)] = joint
        chosen: dict[tuple[HookPoint, str], tuple[Tensor, Tensor]] = {}
        pooled: set[View] = set()
        for one in self.seen:
            view = one.view
            if (view.hook, view.tokens) not in chosen:
                x, mask = chosen_tokens(taken[view.hook].float(), view.tokens, self.encoder, inputs)
                check_finite(x, paths, view.hook)
                chosen[view.hook, view.tokens] = x, mask
            x, mask = chosen[view.hook, view.tokens]
            drawn = self._drawn(view, numbers)
            if view not in pooled:
                pooled.add(view)
                for raw, signed in ((one.raw.up, x), (one.raw.down, -x)):
                    values = pool(signed, mask, view.how) if drawn is None else _patches(signed, drawn)
                    first = self.done * len(values) // len(x)
                    raw[first : first + len(values)] = values.cpu().numpy()
            for first, part, kept in parts(x, mask, one.reader.w):
                _take(one, part, kept, self.done + first, None if drawn is None else drawn[first : first + len(part)])
        self.done += len(paths)

    def _drawn(self, view: View, numbers: list[int]) -> Int[Tensor, "batch crops"] | None:
        """The patches of each image that are scored."""
        if view.crops is None:
            return None
        grid, _ = plain_grid(self.encoder)
        return torch.from_numpy(np.stack([view.crops.patches(number, grid) for number in numbers]))

    def leave_out(self, room: int) -> None:
        """Let go of the last SAEs as long as all would not fit into ``room`` bytes in the end."""
        while len(self.seen) > 1 and self._expected() > room:
            self.seen.pop()

    def _expected(self) -> int:
        """Bytes in the end, if latents go on firing as they have."""
        fixed = sum(one.reader.nbytes(self.encoder) for one in self.seen)
        raws = {id(one.raw): one.raw.nbytes for one in self.seen}
        firing = sum(one.nbytes for one in self.seen)
        return fixed + sum(raws.values()) + firing * self.N // max(self.done, 1)


def _check_judged(batch: Batch, embeddings: Store) -> None:
    """UserError when the images of ``batch`` are not as the judge saw them. What it could not read, it tries again."""
    for index, now in enumerate(batch.records, batch.start):
        then = embeddings.images[index]
        if (then.broken is None, then.sha256) == (now.broken is None, now.sha256):
            continue
        if now.broken is not None:
            raise UserError(
                f"{now.path} cannot be read any more ({now.broken}): mend it, or take it out of the images."
            )
        what = "changed while it was scored" if then.broken is None else "could not be read at first, and can be"
        raise UserError(f"{now.path} {what}: run the same command again.")


def parts(x: Tensor, mask: Tensor, w: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """So many images at a time that their dense latents fit into memory."""
    step = max(1, _ENCODED_BYTES // (4 * w * x.shape[1]))
    for start in range(0, len(x), step):
        yield start, x[start : start + step], mask[start : start + step]


def _patches(values: Float[Tensor, "batch token n"], drawn: Int[Tensor, "batch crops"]) -> Float[Tensor, "units n"]:
    """Of the patches that are scored, image by image."""
    return values[torch.arange(len(values))[:, None], drawn].flatten(0, 1)


def _take(seen: Seen, x: Tensor, mask: Tensor, first: int, drawn: Tensor | None) -> None:
    """Encode some images and add what they say of the latents; ``first``: the number of the first of them, ``drawn``:
    their patches that are scored."""
    z = seen.sae.encode(x) * mask[..., None]
    seen.fired += (z > 0).sum(dim=(0, 1)).cpu().numpy()
    seen.token_count += int(mask.sum())
    pooled = sparse.csr_array(pool(z, mask, seen.view.how).cpu().numpy())
    seen.pooled.append(pooled)
    if drawn is not None:
        seen.patches.append(sparse.csr_array(_patches(z, drawn).cpu().numpy()))
    for i in range(len(x)):
        fired = slice(pooled.indptr[i], pooled.indptr[i + 1])
        latents = pooled.indices[fired]

        def patches(entered: np.ndarray, image: Tensor = z[i]) -> np.ndarray:
            return image[:, torch.from_numpy(entered).to(image.device)].T.cpu().numpy()

        seen.top.add(first + i, latents, pooled.data[fired], patches)


def check_finite(x: Tensor, paths: list[str], hook: HookPoint) -> None:
    """UserError for the first image whose activations are not finite."""
    finite = x.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise UserError(
            f"The activations of {paths[int((~finite).nonzero()[0])]} at {hook} are not finite: check the model's "
            "weights, or leave the image out."
        )
