"""Images read, decoded and preprocessed by threads that run ahead of the forward pass."""

import hashlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.activations.shards import ImageRecord
from engine.errors import UserError
from engine.images import BrokenImage, Images
from engine.models.encoder import VisionEncoder

CHUNK = 16  # images that one thread prepares at a time; fixed, so that thread counts change nothing
AHEAD = 3  # batches prepared before they are needed


@dataclass(frozen=True)
class Part:
    """Images that the model sees together: their numbers (``indices``), and they as its ``inputs``."""

    indices: list[int]
    inputs: dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """Images from ``start`` on, one of ``records`` each; the readable ones in ``parts``, in order."""

    start: int
    records: list[ImageRecord]
    parts: list[Part]

    @property
    def indices(self) -> list[int]:
        """The numbers of the readable images."""
        return [index for part in self.parts for index in part.indices]


def prepared(
    images: Images, encoder: VisionEncoder, batches: list[tuple[int, int]], workers: int
) -> Generator[Batch, None, None]:
    """The batches, in order, read and preprocessed by threads that run ahead."""
    alone = encoder.alone  # before there are threads
    with ThreadPoolExecutor(workers, "images") as pool:
        waiting: deque[tuple[int, list[Future[Batch]]]] = deque()
        try:
            for start, stop in batches:
                chunks = range(start, stop, CHUNK)
                waiting.append(
                    (start, [pool.submit(_prepare, images, encoder, c, min(c + CHUNK, stop)) for c in chunks])
                )
                if len(waiting) > AHEAD:
                    yield _joined(*waiting.popleft(), alone)
            while waiting:
                yield _joined(*waiting.popleft(), alone)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _joined(start: int, chunks: list[Future[Batch]], alone: bool) -> Batch:
    batches = [chunk.result() for chunk in chunks]
    parts = [part for batch in batches for part in batch.parts]
    records = [record for batch in batches for record in batch.records]
    return Batch(start, records, parts if alone or not parts else [_together(parts)])


def _together(parts: list[Part]) -> Part:
    try:
        inputs = {name: torch.cat([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    except RuntimeError as error:
        raise UserError("The model's preprocessing leaves images of different sizes: have it resize them.") from error
    return Part([index for part in parts for index in part.indices], inputs)


def _prepare(images: Images, encoder: VisionEncoder, start: int, stop: int) -> Batch:
    records, indices, pictures = [], [], []
    for index in range(start, stop):
        entry = images.entries[index]
        record = ImageRecord(entry.path, entry.size, entry.label, entry.taxonomy)
        try:
            data = images.read_bytes(index)
            sha256 = hashlib.sha256(data).hexdigest()
            images.remember(index, sha256)
            record = replace(record, sha256=sha256)
            pictures.append(images.decode(index, data))
            indices.append(index)
        except BrokenImage as broken:
            record = replace(record, broken=broken.reason)
        records.append(record)
    if encoder.alone:
        alone = [Part([i], encoder.preprocess([one])) for i, one in zip(indices, pictures, strict=True)]
        return Batch(start, records, alone)
    inputs = encoder.preprocess(pictures) if pictures else {}
    shapes = inputs.get("spatial_shapes")
    if shapes is not None:  # the grid of patches differs from image to image
        for index, shape in zip(indices, shapes.tolist(), strict=True):
            records[index - start] = replace(records[index - start], grid=tuple(shape))
    return Batch(start, records, [Part(indices, inputs)] if indices else [])
