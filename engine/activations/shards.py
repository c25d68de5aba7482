"""One shard of a store: an HDF5 file that any tool can read and that can be mapped into memory.

Version 1, per file:

- ``activations`` (rows, d): contiguous (no chunks, no filters); float16, float32, or bfloat16 as its 16 bits in uint16;
  the attribute ``dtype`` names which.
- ``image`` (rows) int32: index in the store's list of images. ``token`` (rows) int32: position in the model's sequence;
  -1 for a mean over tokens and for a pooled output.
- ``checksums`` uint32: CRC-32 of the bytes of every ``block_rows`` (attribute) rows of ``activations``.
- ``source`` uint8: the records of the shard's images, as UTF-8 JSON.

Rows are in order of image, then token. Nothing in the file tells a time: the same rows give the same bytes.
"""

import json
import os
import shlex
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from engine.errors import UserError, refusal
from engine.files import file_sha256, sync_folder, utf8
from engine.hdf5 import HDF5File, read_array
from engine.integrity import content_sha256
from engine.links import file_name
from engine.records import parse_json, seldom

VERSION = 1
BLOCK_ROWS = 4096
_AT_ONCE = 1 << 17  # bytes: writes of megabytes made Linux (ext4) search for large pages, and took four times as long
STORED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}


def bytes_of(rows: int, d: int, dtype: str) -> int:
    """Bytes of ``rows`` rows: activations and, for each row, its image and token number."""
    return rows * (d * STORED[dtype].itemsize + 8)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a store. There may be millions: hence no general conversion from and to JSON."""

    path: str
    """As its source lists it."""
    size: int = 0
    """Bytes."""
    label: str | None = None
    """Its class."""
    taxonomy: tuple[str, ...] = ()
    """From the root downwards; empty without one."""
    sha256: str | None = None
    """Of its content; None where that could not be read."""
    broken: str | None = None
    """Why it cannot be used; then it has no rows."""
    grid: tuple[int, int] | None = None
    """Rows and columns of its patches, where they differ from image to image."""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "ImageRecord":
        """From JSON. KeyError, TypeError or AttributeError for what is no such record."""
        grid, get = value.get("grid"), value.get
        return cls(
            value["path"],
            get("size", 0),
            get("label"),
            tuple(get("taxonomy") or ()),
            get("sha256"),
            get("broken"),
            tuple(grid) if grid else None,
        )

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {
            "path": self.path,
            "size": self.size,
            "label": self.label,
            "taxonomy": list(self.taxonomy),
            "sha256": self.sha256,
        }
        if self.broken is not None:
            value["broken"] = self.broken
        if self.grid is not None:
            value["grid"] = list(self.grid)
        return value


@dataclass(frozen=True)
class Shard:
    """One finished shard, as the manifest lists it."""

    file: str
    """Its name in the folder of the store."""
    rows: int
    bytes: int
    sha256: str
    first_image: int = 0
    """It covers the images from this one, in the list of images, ..."""
    next_image: int = 0
    """... to the one before this."""
    first_row: int = 0
    broken: int | None = seldom()
    """Of its images, those that cannot be used; None where the store's version does not count them by shard."""

    def __post_init__(self) -> None:
        file_name(self.file)


class ShardWriter:
    """Writes one shard under a temporary name; ``commit`` gives it its own.

    HDF5 never touches the disk here: it crashes the process when a disk is full. It lays the file out in memory, all
    but the activations, and plain writes put everything in its place. They run at the disk's speed and fail cleanly.
    """

    def __init__(self, path: Path, d: int, dtype: str):
        self.path = path
        self.d = d
        self.dtype = dtype
        self.rows = 0
        self._images: list[np.ndarray] = []
        self._tokens: list[np.ndarray] = []
        self._checksums: list[int] = []
        self._crc = 0  # of the block under way
        self._first_byte = _layout(1, d, dtype, {})[0]
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._temporary.unlink(missing_ok=True)  # it may be a link
        self._file = open(self._temporary, "w+b", buffering=0)  # noqa: SIM115 - closed by commit or discard

    def append(self, values: np.ndarray, image: np.ndarray, token: np.ndarray) -> None:
        """Rows to add: ``values`` (n, d) as stored, ``image`` and ``token`` (n)."""
        data = np.ascontiguousarray(values, STORED[self.dtype])
        offset = self._first_byte + self.rows * self.d * data.itemsize
        _write_at(self._file.fileno(), data.data.cast("B"), offset)
        self._sum(data)
        self._images.append(image.astype("<i4"))
        self._tokens.append(token.astype("<i4"))

    def commit(self, records: Sequence[ImageRecord], first_image: int = 0) -> Shard:
        """Finish the file with the ``records`` of its images, of which the first is ``first_image`` of the list."""
        if self.rows % BLOCK_ROWS:
            self._checksums.append(self._crc)
        source = json.dumps([one.to_json() for one in records], ensure_ascii=False, separators=(",", ":"))
        columns = {
            "image": np.concatenate([np.empty(0, "<i4"), *self._images]),
            "token": np.concatenate([np.empty(0, "<i4"), *self._tokens]),
            "checksums": np.array(self._checksums, "<u4"),
            "source": np.frombuffer(utf8(source), np.uint8),
        }
        first_byte, size, pieces = _layout(self.rows, self.d, self.dtype, columns)
        if self.rows and first_byte != self._first_byte:
            raise RuntimeError(f"HDF5 moved the activations from byte {self._first_byte} to {first_byte}")
        for offset, piece in pieces:
            _write_at(self._file.fileno(), memoryview(piece), offset)
        self._file.truncate(size)
        with ThreadPoolExecutor(1) as disk:  # which is at work while the processor is
            synced = disk.submit(os.fsync, self._file.fileno())
            sha256 = file_sha256(self._temporary)
            synced.result()
        self._file.close()
        os.replace(self._temporary, self.path)
        sync_folder(self.path.parent)
        broken = sum(record.broken is not None for record in records)
        stop = first_image + len(records)
        return Shard(self.path.name, self.rows, size, sha256, first_image, stop, broken=broken)

    def discard(self) -> None:
        """Remove what has been written. After ``commit``: nothing to do."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _sum(self, data: np.ndarray) -> None:
        start = 0
        while start < len(data):
            stop = min(len(data), start + BLOCK_ROWS - self.rows % BLOCK_ROWS)
            self._crc = zlib.crc32(data[start:stop].data.cast("B"), self._crc)
            self.rows += stop - start
            start = stop
            if self.rows % BLOCK_ROWS == 0:
                self._checksums.append(self._crc)
                self._crc = 0


def intact(folder: Path, shard: Shard) -> Path:
    """The path of a shard in ``folder``. UserError when it is missing or not as it was written: all of it is read for
    that, once as long as it stays as it is."""
    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise damaged(path, f"{size} bytes instead of {shard.bytes}")
        if content_sha256(path) != shard.sha256:
            raise damaged(path, "a bit of it has changed, or it is another file")
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise refusal(error, path) or error from error
    return path


def read_records(path: Path) -> list[ImageRecord]:
    """The records of a shard's images. UserError for a damaged file."""
    with open_shard(path) as file:
        try:
            return [ImageRecord.of(value) for value in parse_json(bytes(read_array(file["source"])))]
        except Exception as error:  # what a damaged file raises depends on where in it the damage is
            raise refusal(error, path) or damaged(path, "its list of images cannot be read") from error


def open_shard(path: Path) -> h5py.File:
    """The shard opened for reading; a UserError that names it when it is missing or damaged."""
    try:
        return HDF5File(path)
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise refusal(error, path) or damaged(path, "it is truncated or no HDF5 file") from error


def missing(path: Path) -> UserError:
    return UserError(f"{path} is missing: run the command that made the store again, which makes it anew.")


def damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is damaged ({why}): delete it and run the command that made the store again, which makes it anew; "
        f"of a finished store, saetui verify {shlex.quote(str(path.parent))} --repair does so."
    )


class _Memory:
    """The file that HDF5 writes to: keeps what is written, and where. Regions never written take no room."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.size = 0
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self.pieces.append((self._at, piece))
        self._at += len(piece)
        self.size = max(self.size, self._at)
        return len(piece)

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        into[:] = bytes(len(into))
        start, stop = self._at, self._at + len(into)
        for offset, piece in self.pieces:
            lower, upper = max(start, offset), min(stop, offset + len(piece))
            if lower < upper:
                into[lower - start : upper - start] = piece[lower - offset : upper - offset]
        self._at = stop
        return len(into)

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size

    def flush(self) -> None:
        pass


def _layout(rows: int, d: int, dtype: str, columns: dict[str, np.ndarray]) -> tuple[int, int, list[tuple[int, bytes]]]:
    """A shard without its activations: where these begin, the file's size, and what else stands at which offset."""
    memory = _Memory()
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # before anything else: where does not depend on rows
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    with h5py.File(memory, "w") as file:
        space, stored = h5py.h5s.create_simple((rows, d)), h5py.h5t.py_create(STORED[dtype], logical=True)
        values = h5py.Dataset(h5py.h5d.create(file.id, b"activations", stored, space, layout))
        values.attrs["dtype"] = dtype
        first_byte = values.id.get_offset() or 0
        file.attrs["format"], file.attrs["version"] = "saetui-shard", VERSION
        for name, column in columns.items():
            file.create_dataset(name, data=column, track_times=False)
        if "checksums" in columns:
            file["checksums"].attrs["block_rows"] = BLOCK_ROWS
    return first_byte, memory.size, memory.pieces


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data[:_AT_ONCE], offset)
        data, offset = data[written:], offset + written
