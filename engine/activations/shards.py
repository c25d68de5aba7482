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
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from engine.errors import UserError
from engine.workspace import file_sha256

VERSION = 1
BLOCK_ROWS = 4096
STORED = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}
COPY_BYTES = 1 << 24


class ShardWriter:
    """Writes one shard under a temporary name; ``commit`` gives it its own.

    HDF5 makes the frame; rows then go to their place in it by plain writes, which run at the disk's speed and fail
    with plain errors when it is full.
    """

    def __init__(self, path: Path, rows: int, d: int, dtype: str):
        self.path = path
        self.d = d
        self.dtype = dtype
        self.rows = 0
        self._row_bytes = d * STORED[dtype].itemsize
        self._images: list[np.ndarray] = []
        self._tokens: list[np.ndarray] = []
        self._checksums: list[int] = []
        self._crc = 0  # of the block under way
        self._expected = rows
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._fitting = path.with_name(f".{path.name}.fit.tmp")
        try:
            self._offset = _frame(self._temporary, rows, d, dtype)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        self._file = open(self._temporary, "r+b", buffering=0)  # noqa: SIM115 - closed by commit or discard

    def append(self, values: np.ndarray, image: np.ndarray, token: np.ndarray) -> None:
        """Rows to add: ``values`` (n, d) as stored, ``image`` and ``token`` (n)."""
        data = np.ascontiguousarray(values, STORED[self.dtype])
        if self.rows + len(data) > self._expected:
            raise ValueError("more rows than the shard was made for")
        _write_at(self._file.fileno(), memoryview(data).cast("B"), self._offset + self.rows * self._row_bytes)
        self._sum(data)
        self._images.append(image.astype("<i4"))
        self._tokens.append(token.astype("<i4"))

    def commit(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Finish the file with the ``records`` of its images; what the manifest says of it."""
        if self.rows < self._expected:
            self._shrink()
        self._file.close()
        if self.rows % BLOCK_ROWS:
            self._checksums.append(self._crc)
        source = json.dumps(records, ensure_ascii=False, separators=(",", ":")).encode()
        with h5py.File(self._temporary, "r+", locking="best-effort") as file:
            if self.rows:
                file["image"][:] = np.concatenate(self._images)
                file["token"][:] = np.concatenate(self._tokens)
            sums = file.create_dataset("checksums", data=np.array(self._checksums, "<u4"), track_times=False)
            sums.attrs["block_rows"] = BLOCK_ROWS
            file.create_dataset("source", data=np.frombuffer(source, np.uint8), track_times=False)
        with open(self._temporary, "rb") as finished:
            os.fsync(finished.fileno())
        entry = {
            "file": self.path.name,
            "rows": self.rows,
            "bytes": self._temporary.stat().st_size,
            "sha256": file_sha256(self._temporary),
        }
        os.replace(self._temporary, self.path)
        return entry

    def discard(self) -> None:
        """Remove what has been written. After ``commit``: nothing to do."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
        self._fitting.unlink(missing_ok=True)

    def _sum(self, data: np.ndarray) -> None:
        start = 0
        while start < len(data):
            stop = min(len(data), start + BLOCK_ROWS - self.rows % BLOCK_ROWS)
            self._crc = zlib.crc32(memoryview(data[start:stop]).cast("B"), self._crc)
            self.rows += stop - start
            start = stop
            if self.rows % BLOCK_ROWS == 0:
                self._checksums.append(self._crc)
                self._crc = 0

    def _shrink(self) -> None:
        """Broken images left rows over, and a contiguous dataset cannot shrink: move the rows to a frame that fits."""
        offset = _frame(self._fitting, self.rows, self.d, self.dtype)
        with open(self._fitting, "r+b", buffering=0) as file:
            for done in range(0, self.rows * self._row_bytes, COPY_BYTES):
                size = min(COPY_BYTES, self.rows * self._row_bytes - done)
                piece = os.pread(self._file.fileno(), size, self._offset + done)
                _write_at(file.fileno(), memoryview(piece), offset + done)
        self._file.close()
        os.replace(self._fitting, self._temporary)


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a shard's images. UserError for a damaged file."""
    with open_shard(path) as file:
        try:
            return json.loads(bytes(file["source"][:]))
        except (KeyError, ValueError, OSError) as error:
            raise damaged(path, "its list of images cannot be read") from error


def open_shard(path: Path) -> h5py.File:
    """The shard opened for reading; a UserError that names it when it is missing or damaged."""
    try:
        return h5py.File(path, "r", locking="best-effort")
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: run the command that made the store again, which makes it anew."
        ) from error
    except OSError as error:
        raise damaged(path, "it is truncated or no HDF5 file") from error


def damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is damaged ({why}): delete it and run the command that made the store again, which makes it anew."
    )


def _frame(path: Path, rows: int, d: int, dtype: str) -> int:
    """Create a shard without its contents; the offset in the file at which ``activations`` begin."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that the offset is known now
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every row will be written
    layout.set_obj_track_times(False)
    with h5py.File(path, "w", locking="best-effort") as file:
        file.attrs["format"], file.attrs["version"] = "saetui-shard", VERSION
        stored = h5py.h5t.py_create(STORED[dtype], logical=True)
        space = h5py.h5s.create_simple((rows, d))
        values = h5py.Dataset(h5py.h5d.create(file.id, b"activations", stored, space, layout))
        values.attrs["dtype"] = dtype
        for name in ("image", "token"):
            file.create_dataset(name, shape=(rows,), dtype="<i4", track_times=False)
        return values.id.get_offset() or 0


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
