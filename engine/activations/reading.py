"""Images read, decoded and preprocessed by threads that run ahead of the forward pass."""

import hashlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from engine.activations.shards import ImageRecord
from engine.errors import UserError
from engine.images import BrokenImage, Images
from engine.images.decoding import pixels
from engine.images.room import Room
from engine.models.encoder import VisionEncoder

CHUNK = 16  # images that one thread prepares at a time; fixed, so that thread counts change nothing
AHEAD = 3  # batches prepared before they are needed
WAITING = 1 << 30  # bytes that these may take
LOT = 320 << 20  # bytes of the pictures that a thread decodes and preprocesses together
PIXEL = 13  # bytes that a pixel takes meanwhile: decoded, as RGB, as a tensor, and half resized


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

    @property
    def bytes(self) -> int:
        """Of all inputs."""
        return sum(value.nbytes for part in self.parts for value in part.inputs.values())


def prepared(
    images: Images, encoder: VisionEncoder, batches: list[tuple[int, int]], workers: int
) -> Generator[Batch, None, None]:
    """The batches, in order, read and preprocessed by threads that run ahead.

    Memory: LOT bytes a thread for pictures while they are decoded and preprocessed, or one picture that is larger; two
    batches of inputs, and up to AHEAD as far as they fit into WAITING bytes.
    """
    alone = encoder.alone  # before there are threads
    room, spans = Room(workers * LOT), iter(batches)
    waiting: deque[tuple[int, list[Future[Batch]]]] = deque()
    with ThreadPoolExecutor(workers, "images") as pool:

        def begin(count: int) -> None:
            for start, stop in islice(spans, count):
                chunks = range(start, stop, CHUNK)
                ends = (min(chunk + CHUNK, stop) for chunk in chunks)
                jobs = [pool.submit(_prepare, images, encoder, room, *one) for one in zip(chunks, ends, strict=True)]
                waiting.append((start, jobs))

        try:
            begin(1)
            while waiting:
                batch = _joined(*waiting.popleft(), alone)
                ahead = max(1, min(AHEAD, WAITING // max(batch.bytes, 1)))
                begin(max(ahead - len(waiting), 0))
                yield batch
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


def _prepare(images: Images, encoder: VisionEncoder, room: Room, start: int, stop: int) -> Batch:
    records: list[ImageRecord] = []
    parts: list[Part] = []
    lot: list[tuple[int, bytes, int]] = []  # numbers of images, what their files hold, and bytes while they are decoded
    for index in range(start, stop):
        entry = images.entries[index]
        record = ImageRecord(entry.path, entry.size, entry.label, entry.taxonomy)
        try:
            data = images.read_bytes(index)
            sha256 = hashlib.sha256(data).hexdigest()
            images.remember(index, sha256)
            record = replace(record, sha256=sha256)
            wanted = len(data) + PIXEL * pixels(data)
            if lot and (encoder.alone or sum(one[2] for one in lot) + wanted > LOT):
                parts += _preprocessed(images, encoder, room, lot, records, start)
                lot = []
            lot.append((index, data, wanted))
        except BrokenImage as broken:
            record = replace(record, broken=broken.reason)
        records.append(record)
    parts += _preprocessed(images, encoder, room, lot, records, start)
    return Batch(start, records, parts)


def _preprocessed(
    images: Images,
    encoder: VisionEncoder,
    room: Room,
    lot: list[tuple[int, bytes, int]],
    records: list[ImageRecord],
    start: int,
) -> list[Part]:
    """The inputs of those that can be decoded; the ``records`` (from ``start`` on) of the others say why not."""
    indices, pictures = [], []
    with room.taken(sum(wanted for _, _, wanted in lot)):
        for index, data, _ in lot:
            try:
                pictures.append(images.decode(index, data))
                indices.append(index)
            except BrokenImage as broken:
                records[index - start] = replace(records[index - start], broken=broken.reason)
        if not pictures:
            return []
        inputs = encoder.preprocess(pictures)
    shapes = None if encoder.alone else inputs.get("spatial_shapes")
    if shapes is not None:  # the grid of patches differs from image to image
        for index, shape in zip(indices, shapes.tolist(), strict=True):
            records[index - start] = replace(records[index - start], grid=tuple(shape))
    return [Part(indices, inputs)]
