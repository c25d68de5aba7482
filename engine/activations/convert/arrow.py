"""Arrow files as Hugging Face's ``datasets`` and, through it, SAELens' ``CacheActivationsRunner`` save them: a folder
with ``state.json`` and ``data-00000-of-0000N.arrow``; a row is one image, (tokens, d)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.activations.convert.format import Part, Parts, PartsFormat, files_of, joined, read_header, register
from engine.config import RecogniseSettings
from engine.errors import UserError

OTHER = ("token_ids",)
"""Columns that are no activations."""


@register
class Arrow(PartsFormat):
    NAME = "arrow"

    def find(self, path: Path) -> Sequence[Path]:
        return files_of(path, (".arrow",))

    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        parts = [read_header(file, partial(_part, hook=settings.hook)) for file in files]
        return Parts(parts=joined(parts, path))


def _part(path: Path, hook: str) -> Part:
    column, rows, tokens, d, stored = "", 0, 0, 0, None
    for batch in _batches(path):
        if not column:
            column = _column(batch.schema, hook, path)
        values, shape = _values(batch.column(batch.schema.get_field_index(column)), path)
        if shape[2] == 0:
            continue
        if d and (shape[1:], values.dtype) != ((tokens, d), stored):
            raise UserError(f"{path} has images of different numbers of tokens: rows of one length are needed.")
        (tokens, d), stored = shape[1:], values.dtype
        rows += shape[0] * tokens
    if not rows:
        raise UserError(f"{path} has no rows: copy it again.")
    return Part(path, rows, d, stored, tokens if tokens > 1 else 0, partial(_rows, path, column))


def _rows(path: Path, column: str, first: int) -> Iterator[np.ndarray]:
    for batch in _batches(path):
        values, shape = _values(batch.column(batch.schema.get_field_index(column)), path)
        found = values.reshape(-1, shape[2]) if shape[2] else values.reshape(0, 1)
        yield found[first:]
        first = max(0, first - len(found))


def _batches(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UserError(f"{path} is read by pyarrow, which is not here: pip install 'saetui[arrow]'.") from error
    with pa.memory_map(str(path)) as mapped:
        try:
            reader = pa.ipc.open_stream(mapped)
        except pa.ArrowInvalid:  # a file of Feather, with its index at the end
            reader = pa.ipc.open_file(mapped)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
            return
        yield from reader


def _column(schema: Any, hook: str, path: Path) -> str:
    """The column of activations: the only one of lists of numbers, or the one named as the hook point."""
    found = [one.name for one in schema if _is_rows(one.type) and one.name not in OTHER]
    if hook in found:
        return hook
    if len(found) != 1:
        has = f"several columns of activations ({', '.join(found)})" if found else "no column of activations"
        raise UserError(f"{path} has {has}: keep one.")
    return str(found[0])


def _is_rows(kind: Any) -> bool:
    import pyarrow as pa

    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    lists = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, lists = kind.value_type, lists + 1
    return lists > 0 and pa.types.is_floating(kind)


def _values(column: Any, path: Path) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The numbers of a column, and (images, tokens, d). UserError where its lists are of different lengths."""
    import pyarrow as pa

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    images, lengths = len(column), []
    while not pa.types.is_floating(column.type):
        if column.null_count:
            raise UserError(f"{path} has rows without activations: leave them out.")
        lengths.append(_length(column, path))
        column = column.flatten()
    d = lengths[-1]
    values = column.to_numpy(zero_copy_only=False)
    return values, (images, len(values) // max(1, images * d), d)


def _length(column: Any, path: Path) -> int:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = np.diff(column.offsets.to_numpy())
    if len(lengths) and (lengths != lengths[0]).any():
        raise UserError(f"{path} has lists of different lengths: images of one number of tokens are needed.")
    return int(lengths[0]) if len(lengths) else 0
