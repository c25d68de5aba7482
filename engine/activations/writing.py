"""Rows to disk, in a thread behind the forward pass."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from engine.activations.forward import Rows, check_storable
from engine.activations.reading import Batch
from engine.activations.shards import ImageRecord, ShardWriter
from engine.activations.target import Target, write_progress
from engine.config import ExtractSettings
from engine.errors import Stopped

BEHIND = 4  # batches that wait to be written


class StoreWriter:
    """Writes batches in a thread of its own, and finishes shards and manifests as they become complete."""

    def __init__(self, settings: ExtractSettings, targets: list[Target], shard_images: int, images: int):
        self.settings = settings
        self.targets = targets
        self.shard_images = shard_images
        self.images = images
        self._writers: dict[str, ShardWriter] = {}
        self._records: list[ImageRecord] = []
        self._failed = False
        self._thread = ThreadPoolExecutor(1, "writer")
        self._waiting: deque[Future[None]] = deque()

    def needs(self, start: int) -> list[Target]:
        """The targets that lack the shard of image ``start``."""
        shard = start // self.shard_images
        return [target for target in self.targets if shard not in target.shards]

    def add(self, batch: Batch, rows: dict[str, Rows]) -> None:
        """Have ``rows`` (by hook point) written; waits while too many batches do. Raises what writing raised."""
        self._waiting.append(self._thread.submit(self._write, batch, rows, self.needs(batch.start)))
        while len(self._waiting) > BEHIND:
            self._waiting.popleft().result()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            # What is computed gets written when all is well, and when the user asks to stop.
            if kind is None or issubclass(kind, (Stopped, KeyboardInterrupt)):
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
            for writer in self._writers.values():
                writer.discard()

    def _write(self, batch: Batch, rows: dict[str, Rows], targets: list[Target]) -> None:
        if self._failed:  # a batch before this one was not written: its shard must not be finished
            return
        try:
            for target in targets:
                writer = self._writer(target, batch.start)
                if str(target.hook) in rows:
                    self._append(writer, target, rows[str(target.hook)], batch)
            self._records += batch.records
            stop = batch.start + len(batch.records)
            if stop == self.images or stop % self.shard_images == 0:
                for target in targets:
                    self._finish(target, batch.start // self.shard_images)
                self._records = []
        except BaseException:
            self._failed = True
            raise

    def _writer(self, target: Target, start: int) -> ShardWriter:
        key = str(target.hook)
        if key not in self._writers:
            path = target.folder / f"shard-{start // self.shard_images:05d}.h5"
            self._writers[key] = ShardWriter(path, target.d, self.settings.dtype)
        return self._writers[key]

    def _append(self, writer: ShardWriter, target: Target, rows: Rows, batch: Batch) -> None:
        check_storable(rows, target, batch, self.settings)
        writer.append(_numpy(rows.values), rows.image, rows.token)

    def _finish(self, target: Target, shard: int) -> None:
        writer = self._writers[str(target.hook)]
        target.shards[shard] = writer.commit(self._records, shard * self.shard_images)
        del self._writers[str(target.hook)]
        write_progress(target, self.images)


def _numpy(values: Tensor) -> np.ndarray:
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()
