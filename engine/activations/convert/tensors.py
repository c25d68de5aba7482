"""Safetensors: one array of rows a file, one file or a folder of parts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.activations.convert.format import (
    NotRows,
    Part,
    Parts,
    WritableFormat,
    WrittenRows,
    begins_with_rows,
    files_of,
    joined,
    part_of,
    read_header,
    register,
    the_one,
)
from engine.activations.convert.names import likely_of
from engine.activations.shards import STORED
from engine.activations.store import Store
from engine.config import RecogniseSettings
from engine.files import open_tensors
from engine.regular import open_regular

TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": None}
NAMES = {"float16": "F16", "float32": "F32", "bfloat16": "BF16"}
ALIGNED = 8  # bytes: where the values begin, as the format asks


@register
class Safetensors(WritableFormat):
    NAME = "safetensors"

    def find(self, path: Path) -> Sequence[Path]:
        return files_of(path, (".safetensors",))

    def holds(self, files: Sequence[Path]) -> bool:
        return begins_with_rows(files, _part)

    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        parts = [read_header(file, _part) for file in files]
        return Parts(parts=joined(parts, path), likely=likely_of(files[0]))

    def write(self, store: Store, folder: Path, tick: Callable[[int], None]) -> WrittenRows:
        files, done, total = [], 0, len(store.shards)
        for number, pieces in enumerate(store.stored(), 1):
            rows = store.shards[number - 1].rows
            name = f"activations-{number:05d}-of-{total:05d}.safetensors"
            with open(folder / name, "wb") as file:
                file.write(_head(rows, store.d, store.dtype))
                for piece in pieces:
                    file.write(piece.data)
                    done += len(piece)
                    tick(done)
            files.append(name)
        return WrittenRows(tuple(files))


def _head(rows: int, d: int, dtype: str) -> bytes:
    """The length of the header, and the header: what is in the file, and from where to where."""
    size = rows * d * STORED[dtype].itemsize
    entry = {"dtype": NAMES[dtype], "shape": [rows, d], "data_offsets": [0, size]}
    head = json.dumps({"activations": entry}, separators=(",", ":")).encode()
    head += b" " * (-len(head) % ALIGNED)
    return len(head).to_bytes(8, "little") + head


def _part(path: Path) -> Part:
    with open_tensors(path, "np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
        types = {name: one.get_dtype() for name, one in slices.items()}
    name = the_one(shapes, path)
    if types[name] not in TYPES:
        raise NotRows(f"{path} holds {types[name]}: save activations as F16, BF16, F32 or F64.")
    dtype = TYPES[types[name]]
    return part_of(path, shapes[name], dtype, lambda: _mapped(path, name, shapes[name], dtype))


def _mapped(path: Path, name: str, shape: tuple[int, ...], dtype: str | None) -> np.ndarray:
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    return np.memmap(path, dtype or "<u2", "r", 8 + length + entry["data_offsets"][0], shape)
