"""NumPy's .npy (mapped) and .npz (read as it is unpacked), one file or a folder of parts."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.activations.convert.format import (
    BLOCK,
    Part,
    Parts,
    PartsFormat,
    WritableFormat,
    WrittenRows,
    files_of,
    joined,
    part_of,
    read_header,
    register,
    the_one,
)
from engine.activations.convert.names import likely_of
from engine.activations.store import Store
from engine.config import RecogniseSettings
from engine.errors import UserError

FILE = "activations.npy"


@register
class Npy(WritableFormat):
    NAME = "npy"

    def find(self, path: Path) -> Sequence[Path]:
        return files_of(path, (".npy",))

    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        parts = [read_header(file, _npy) for file in files]
        return Parts(parts=joined(parts, path), likely=likely_of(files[0]))

    def write(self, store: Store, folder: Path, tick: Callable[[int], None]) -> WrittenRows:
        dtype = np.dtype("<f2") if store.dtype == "float16" else np.dtype("<f4")
        head = {"descr": dtype.str, "fortran_order": False, "shape": (store.rows, store.d)}
        step = max(1, BLOCK // (4 * store.d))
        with open(folder / FILE, "wb") as file:
            np.lib.format.write_array_header_2_0(file, head)
            for start in range(0, store.rows, step):
                stop = min(store.rows, start + step)
                store.read(start, stop).astype(dtype, copy=False).tofile(file)
                tick(stop)
        lost = ("bfloat16: the values are kept, as float32",) if store.dtype == "bfloat16" else ()
        return WrittenRows((FILE,), lost)


@register
class Npz(PartsFormat):
    NAME = "npz"

    def find(self, path: Path) -> Sequence[Path]:
        return files_of(path, (".npz",))

    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        parts = [read_header(file, _npz) for file in files]
        return Parts(parts=joined(parts, path), likely=likely_of(files[0]))


def _npy(path: Path) -> Part:
    load = partial(np.load, path, mmap_mode="r", allow_pickle=False)
    array = load()
    return part_of(path, array.shape, array.dtype, load)


def _npz(path: Path) -> Part:
    heads: dict[str, tuple[Any, ...]] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as file:
                    heads[info.filename.removesuffix(".npy")] = _head(file)
    if {"indices", "indptr", "shape"} <= heads.keys():
        raise UserError(f"{path} is a sparse matrix: activations are dense; save them with numpy.save.")
    name = the_one({one: shape for one, (shape, _, _) in heads.items()}, path)
    shape, turned, dtype = heads[name]
    if turned:
        raise UserError(f"{path} holds its rows column by column: save numpy.ascontiguousarray of them.")
    part = part_of(path, shape, dtype, lambda: np.empty(0))
    return Part(path, part.rows, part.d, part.stored, part.tokens, partial(_unpacked, path, name, part))


def _head(file: Any) -> tuple[Any, ...]:
    """Shape, whether it lies column by column, and type of the array that begins here."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _unpacked(path: Path, name: str, part: Part, first: int) -> Iterator[np.ndarray]:
    assert part.stored is not None
    a_row = part.d * part.stored.itemsize
    step = max(1, BLOCK // a_row)
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        _head(file)
        for start in range(0, part.rows, step):
            rows = min(step, part.rows - start)
            data = file.read(rows * a_row)
            if len(data) < rows * a_row:
                raise EOFError(f"{name} ends early")
            if start + rows > first:
                yield np.frombuffer(data, part.stored).reshape(rows, part.d)[max(0, first - start) :]
