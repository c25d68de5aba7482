"""What a format of activations must say of itself, and what reading one gives."""

import ctypes
import mmap
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from engine.activations.store import Store
from engine.config import Dtype, RecogniseSettings
from engine.errors import UserError, counted, reason, refusal
from engine.models.hookpoints import HookPoint
from engine.regular import open_regular

BLOCK = 4 << 20
"""Bytes of rows that are read at once."""
MANY = 4
"""Names that a sentence lists."""
PREFERRED = ("activations", "acts", "states", "embeddings")
"""Of several arrays in one file, the one that is meant."""


@dataclass(frozen=True)
class Likely:
    """What a setting probably is, and what speaks for it."""

    value: str
    why: str


@dataclass(frozen=True)
class Part:
    """Consecutive rows, as one file holds them. Nothing is kept open: there may be thousands."""

    path: Path
    rows: int
    d: int
    stored: np.dtype[Any] | None
    """What its values are; None: bfloat16, as their 16 bits in uint16."""
    tokens: int
    """Rows of an image, where the file's shape tells them; else 0."""
    blocks: Callable[[int], Iterator[np.ndarray]]
    """The rows from one on, in pieces (n, d) of about BLOCK bytes, as they are stored."""

    @property
    def dtype(self) -> Dtype:
        """What a store keeps them as."""
        if self.stored is None:
            return "bfloat16"
        return "float16" if self.stored.itemsize == 2 else "float32"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Activations of another tool: their rows in order, and what their files say of them, in our notation."""

    parts: tuple[Part, ...]
    model: str = ""
    hook: str = ""
    tokens: str = ""
    likely: Mapping[str, Likely] = field(default_factory=dict)
    """By the names of settings: what they do not say, and may be."""
    images: int = 0
    """Of how many images they are, where the files tell; else 0."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrittenRows:
    """What an export of a store wrote, and what the format could not hold."""

    files: tuple[str, ...]
    lost: tuple[str, ...] = ()


class PartsFormat(ABC):
    """One format: one file of this folder."""

    NAME: ClassVar[str]

    @abstractmethod
    def find(self, path: Path) -> Sequence[Path]:
        """The files of rows in order, by their names, in ``path``, a folder or a file; none where it has none."""

    def holds(self, files: Sequence[Path]) -> bool:
        """Whether ``files``, which :meth:`find` gave, look like rows, where other things have such names too."""
        return True

    @abstractmethod
    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        """What is in ``files``, which :meth:`find` gave for ``path``. UserError for what they cannot be."""


class WritableFormat(PartsFormat):
    """One that an export can write, too."""

    @abstractmethod
    def write(self, store: Store, folder: Path, tick: Callable[[int], None]) -> WrittenRows:
        """Write the rows of ``store`` into the empty ``folder``; ``tick`` is told how many rows are done."""


FORMATS: dict[str, PartsFormat] = {}


def register(cls: type[PartsFormat]) -> type[PartsFormat]:
    """Let the format be read and written, by its name."""
    FORMATS[cls.NAME] = cls()
    return cls


def in_order(paths: Sequence[Path]) -> list[Path]:
    """By name, numbers in it by value: part 10 comes after part 9."""
    return sorted(paths, key=lambda path: [(int(d), "") if d else (-1, s) for d, s in _PIECES.findall(path.name)])


_PIECES = re.compile(r"(\d{1,18})|(\D+|\d)")


def files_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """``path`` itself, or all files with those suffixes in the folder, in order; none where it is neither."""
    if path.is_file():
        return [path] if path.suffix.lower() in suffixes else []
    try:
        inside = [one for one in path.iterdir() if one.suffix.lower() in suffixes and not one.name.startswith(".")]
    except OSError:
        return []
    return in_order(inside)


def series_of(files: Sequence[Path]) -> list[str]:
    """Globs, each of which stands for files that differ by one number alone."""
    return sorted({_LAST.sub(r"*\2", file.name) for file in files})


_LAST = re.compile(r"(\d+)(\D*)$")


class NotRows(UserError):
    """What a file holds are no rows of activations."""


def begins_with_rows(files: Sequence[Path], read: Callable[[Path], Part]) -> bool:
    """Whether the first of ``files`` holds rows, or is damaged, and not alone."""
    try:
        read_header(files[0], read)
    except NotRows:
        return False
    except UserError:  # reading them says what is wrong
        return len(files) > 1
    return True


def read_header(path: Path, read: Callable[[Path], Part]) -> Part:
    """The part in ``path``. UserError, which names it, for whatever is wrong with it."""
    try:
        open_regular(path).close()  # no pipe is waited for
        part = read(path)
    except UserError:
        raise
    except Exception as error:  # what a damaged file raises depends on where in it the damage is
        unread = UserError(f"{path} is damaged or not a {path.suffix} file ({reason(error)}): copy it again.")
        raise refusal(error, path) or unread from error
    return part


def part_of(path: Path, shape: Sequence[int], dtype: Any, load: Callable[[], np.ndarray]) -> Part:
    """A part of ``shape`` (rows, d) or (images, tokens, d); ``load`` gives its array, mapped where that can be."""
    if len(shape) not in (2, 3):
        raise NotRows(f"{path} has shape {tuple(shape)}: rows x width, or images x tokens x width, is needed.")
    d, rows = int(shape[-1]), int(np.prod(shape[:-1], dtype=np.int64))
    if d == 0:
        raise UserError(f"{path} has rows of no numbers: copy it again.")
    stored = None if dtype is None else np.dtype(dtype)
    if stored is not None and (stored.kind != "f" or stored.itemsize not in (2, 4, 8)):
        raise NotRows(f"{path} holds {stored}: save activations as float16, bfloat16, float32 or float64.")

    def pieces(first: int) -> Iterator[np.ndarray]:
        array = load()
        if array.ndim == 3 and not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        return slices(array.reshape(rows, d), first)

    return Part(path, rows, d, stored, int(shape[1]) if len(shape) == 3 else 0, pieces)


def slices(array: np.ndarray, first: int) -> Iterator[np.ndarray]:
    """The rows of ``array`` from ``first`` on, in pieces of about BLOCK bytes: each until the next is asked for."""
    step = max(1, BLOCK // (array.shape[1] * array.itemsize))
    for start in range(first, len(array), step):
        piece = array[start : start + step]
        yield piece
        _let_go(piece)


def _let_go(piece: np.ndarray) -> None:
    """Give back the pages of what was read: those of a mapped file would all count as memory of this process."""
    if not piece.flags.c_contiguous or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start, stop = piece.ctypes.data, piece.ctypes.data + piece.nbytes
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def the_one(names: Mapping[str, Sequence[int]], path: Path) -> str:
    """Of several arrays, by name and shape, the one that holds rows. UserError where that is not clear."""
    matrices = [name for name, shape in names.items() if len(shape) in (2, 3)]
    for name in PREFERRED:
        if name in matrices:
            return name
    if len(matrices) != 1:
        has = f"{len(matrices)} arrays ({', '.join(matrices[:MANY])})" if matrices else "no array of rows"
        raise NotRows(f"{path} holds {has}: keep one, rows x width, or name it activations.")
    return matrices[0]


def joined(parts: Sequence[Part], path: Path) -> tuple[Part, ...]:
    """``parts``, if they are of one width and type. UserError otherwise, and where there are no rows."""
    first = parts[0]
    for part in parts:
        if part.d != first.d:
            raise UserError(
                f"{part.path} is {part.d:,} wide and {first.path.name} {first.d:,}: they are of different layers or "
                f"models; give those of one, as {path / 'NAME*'}."
            )
        if part.stored != first.stored or part.tokens != first.tokens:
            raise UserError(
                f"{part.path} holds {_sort(part)} and {first.path.name} {_sort(first)}: give those of one kind."
            )
    if not sum(part.rows for part in parts):
        raise UserError(f"{path} has no rows: copy it again.")
    return tuple(parts)


def _sort(part: Part) -> str:
    each = f" of {counted(part.tokens, 'token')} an image" if part.tokens else ""
    return f"{part.stored or 'bfloat16'}{each}"


def number_of_layer(hook: str, who: str) -> int:
    """N of ``layer:N``. UserError for other hook points, which ``who`` has no place for."""
    point = HookPoint.parse(hook)
    if point.kind != "layer":
        raise UserError(f"{who} holds what blocks put out (layer:N), and this store is of {hook}: give another --to.")
    return point.index
