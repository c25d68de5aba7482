"""Batches of an activation store for training: reshuffled every epoch, addressed by position, read ahead.

Nothing here keeps a state: batch ``s`` is a function of the store, the seed and ``s``. A run that continues at step
``s`` asks for batch ``s`` and gets what an uninterrupted run would have got.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from engine.activations.store import Store
from engine.errors import UserError

SAMPLE = 16_384  # rows that the scale, the start of b_dec and the typical norm come from
READ_AHEAD = 3  # batches that wait: enough to hide the reading, small beside the model
_ROUNDS = 6


class Permutation:
    """A seeded bijection of ``range(n)`` that is computed where it is needed, in no memory.

    A Feistel network over the smallest even number of bits that holds n, walked until it falls inside the range
    (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
    """

    def __init__(self, n: int, *key: int):
        self.n = n
        self._half = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each position (0 <= position < n) goes."""
        out = self._encrypt(positions.astype(np.uint64))
        outside = np.flatnonzero(out >= self.n)
        while outside.size:
            out[outside] = self._encrypt(out[outside])
            outside = outside[out[outside] >= self.n]
        return out.astype(np.int64)

    def _encrypt(self, value: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = value >> self._half, value & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return (left << self._half) | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Rows:
    """The rows of chosen images, in the order of the images given, addressed by position without listing them."""

    def __init__(self, first: NDArray[np.int64], count: NDArray[np.int64], images: NDArray[np.int64]):
        """``first`` and ``count``: first row and number of rows of each image in ``images``."""
        self.images = images
        self._first = first
        self._end = np.cumsum(count)
        self._start = self._end - count

    def __len__(self) -> int:
        return int(self._end[-1]) if len(self._end) else 0

    @property
    def count(self) -> NDArray[np.int64]:
        """Rows of each image."""
        return self._end - self._start

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers in the store of these positions."""
        image = np.searchsorted(self._end, positions, side="right")
        return self._first[image] + positions - self._start[image]

    def image_of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Image numbers in the store of these positions."""
        return self.images[np.searchsorted(self._end, positions, side="right")]

    def by_image(self, rows: int) -> Iterator[NDArray[np.int64]]:
        """Consecutive positions in pieces of whole images, of at most ``rows`` rows or of one image."""
        start, image = 0, 0
        while image < len(self._end):
            image = max(image + 1, int(np.searchsorted(self._end, start + rows, side="right")))
            yield np.arange(start, self._end[image - 1], dtype=np.int64)
            start = int(self._end[image - 1])

    def only(self, images: NDArray[np.int64]) -> "Rows":
        """The rows of some of the images, given by their places in ``images``."""
        return Rows(self._first[images], self.count[images], self.images[images])

    def head(self, rows: int) -> "Rows":
        """The first whole images that together have at most ``rows`` rows, but at least one image."""
        n = max(1, int(np.searchsorted(self._end, rows, side="right")))
        return Rows(self._first[:n], self.count[:n], self.images[:n])


class Loader:
    """Training batches and held-out rows of a store.

    The split is by image, so that no token of a held-out image is trained on, and is a function of the seed and the
    share alone. Training walks through all training rows in a new order every epoch; batches run on across the
    epochs' borders, so a store smaller than a batch works too.
    """

    def __init__(self, store: Store, batch_size: int, seed: int, holdout: float, max_norm: float = 0.0):
        """``holdout``: share of the images of the store that is never trained on. ``max_norm``: rows longer than this
        many typical ones are not trained on (0: all are).

        UserError when the share leaves no image on one side.
        """
        store.check_filled()
        self.store, self.batch_size, self.seed, self.max_norm = store, batch_size, seed, max_norm
        image = np.asarray(store.image)
        first = np.flatnonzero(np.diff(image, prepend=image[0] - 1)).astype(np.int64)
        count = np.diff(first, append=len(image))
        shuffled = Permutation(len(first), seed, 1)(np.arange(len(first)))
        held = min(max(1, round(holdout * len(first))), len(first) - 1) if holdout > 0 else 0
        out, kept = shuffled[:held], np.sort(shuffled[held:])
        images = image[first].astype(np.int64)
        self.train = Rows(first[kept], count[kept], images[kept])
        self.held_out = Rows(first[out], count[out], images[out])

    def rows_of_batch(self, step: int) -> NDArray[np.int64]:
        """Row numbers of batch ``step``."""
        n = len(self.train)
        positions = step * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        epochs = positions // n
        rows = np.empty_like(positions)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            rows[inside] = self.train[Permutation(n, self.seed, 2, epoch)(positions[inside] % n)]
        return rows

    def batch(self, step: int) -> Float[Tensor, "batch d"]:
        """Batch ``step`` in float32 on the CPU; UserError naming store and row at a value that is not finite."""
        return torch.from_numpy(self._kept(self.take(self.rows_of_batch(step))))

    def images_of_batch(self, step: int) -> NDArray[np.int64]:
        """Number of the image of each row of batch ``step``."""
        rows = self.rows_of_batch(step)
        if self.max_norm:
            rows = rows[self._short(self.take(rows))]
        return np.asarray(self.store.image[rows], np.int64)

    @cached_property
    def typical_norm(self) -> float:
        """Median Euclidean norm of ``SAMPLE`` training rows."""
        return float(np.median(np.linalg.norm(self._sample(SAMPLE), axis=1)))

    def _kept(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """``rows`` without those that are left out."""
        return rows[self._short(rows)] if self.max_norm else rows

    def _short(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of ``rows`` are not left out: the shortest of a batch stays, as there must be one."""
        norms = np.linalg.norm(rows, axis=1)
        return norms <= max(self.max_norm * self.typical_norm, norms.min())

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """These rows, checked to be finite."""
        values = np.ascontiguousarray(self.store.take(rows), dtype=np.float32)
        check_finite(values, rows, self.store.path)
        return values

    def sample(self, rows: int) -> Float[Tensor, "sample d"]:
        """``rows`` different training rows (all, if there are fewer), without those that are left out: what
        initialisation looks at."""
        return torch.from_numpy(self._kept(self._sample(rows)))

    def _sample(self, rows: int) -> NDArray[np.float32]:
        n = len(self.train)
        return self.take(self.train[np.sort(Permutation(n, self.seed, 3)(np.arange(min(rows, n))))])

    def batches(self, start: int, stop: int, device: torch.device) -> Generator[Float[Tensor, "batch d"], None, None]:
        """Batches ``start`` to ``stop`` on ``device``; a thread reads ahead and pins them for a CUDA device."""
        pin = device.type == "cuda"
        ready: queue.Queue[Tensor | BaseException] = queue.Queue(READ_AHEAD)
        closed = threading.Event()

        def put(item: Tensor | BaseException) -> bool:
            while not closed.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def read() -> None:
            try:
                for step in range(start, stop):
                    batch = self.batch(step)
                    if not put(batch.pin_memory() if pin else batch):
                        return
            except BaseException as error:  # raised again where the batch is asked for
                put(error)

        reader = threading.Thread(target=read, name="loader", daemon=True)
        reader.start()
        try:
            for _ in range(start, stop):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item.to(device, non_blocking=pin)
        finally:
            closed.set()
            reader.join()


def check_finite(values: NDArray[np.float32], rows: NDArray[np.int64], where: Path) -> None:
    """UserError naming ``where`` and the first of ``rows`` whose values have a NaN or an infinity."""
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):  # one pass without a temporary; only a bad value or an overflow gets past it
            return
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise UserError(
            f"{where} has a value that is not a finite number in row {rows[bad[0]]}: "
            "extract it again (float32 or bfloat16, if float16 overflowed)."
        )
