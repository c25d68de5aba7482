"""The images of a store: each shard lists its own, and only those of the shards that are asked for are read."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.activations.manifest import LISTS_IMAGES, Manifest, listed_images
from engine.activations.shards import ImageRecord, Shard, damaged, intact, read_records
from engine.errors import UserError, counted


class StoredImages:
    """The images of the shards of ``folder``, in order. What was read once is kept.

    UserError, when an image is asked for, where its shard is missing or damaged.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard]):
        self._folder, self._shards = folder, shards
        self._first = [shard.first_image for shard in shards]
        self._parts: dict[int, list[ImageRecord]] = {}

    def __len__(self) -> int:
        return self._shards[-1].next_image if self._shards else 0

    def __getitem__(self, at: int) -> ImageRecord:
        at = range(len(self))[at]
        shard = bisect_right(self._first, at) - 1
        part, place = self._part(shard), at - self._first[shard]
        if not 0 <= place < len(part):
            raise damaged(self._folder, f"none of its shards lists image {at}")
        return part[place]

    def __iter__(self) -> Iterator[ImageRecord]:
        for shard in range(len(self._shards)):
            yield from self._part(shard)

    def _part(self, number: int) -> list[ImageRecord]:
        if number not in self._parts:
            self._parts[number] = _records(self._folder, self._shards[number])
        return self._parts[number]


def stored_images(folder: Path, manifest: Manifest) -> StoredImages | list[ImageRecord]:
    """The images of the store in ``folder``, whose manifest is ``manifest``."""
    return listed_images(folder) if manifest.version == LISTS_IMAGES else StoredImages(folder, manifest.shards)


def broken_images(folder: Path, manifest: Manifest) -> list[ImageRecord]:
    """Those of a complete store that cannot be used. Reads only the shards that have some."""
    if manifest.broken == 0:
        return []
    if manifest.version == LISTS_IMAGES:
        return [image for image in listed_images(folder) if image.broken is not None]
    having = (shard for shard in manifest.shards if shard.broken)
    return [image for shard in having for image in _records(folder, shard) if image.broken is not None]


def _records(folder: Path, shard: Shard) -> list[ImageRecord]:
    path, expected = folder / shard.file, shard.next_image - shard.first_image
    records = read_records(intact(folder, shard))
    if len(records) != expected:
        raise UserError(
            f"{path} lists {counted(len(records), 'image')}, the manifest beside it {expected:,}: delete the shard "
            "and run the command that made the store again."
        )
    return records
