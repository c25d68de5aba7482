"""HDF5 files for reading, through files of Python.

HDF5 itself locks what it opens, which fails where a file system has no locks and where a notebook has the file open,
and refuses a file that this process has open under other options. We replace files, and never change one that others
may read: there is nothing to lock. So too, what the system refuses comes as the system's own error.

HDF5 can also fetch data from other files, run filters that it loads from disk, and claim shapes that nothing fills. A
file may come from a stranger: it is looked through before anything in it is read, and only its own data are. Texts,
which are kept as a length and a place in a heap, are read here: HDF5 takes memory for whatever length before it looks
there, and walks for ever through a heap of zeros. It does so for texts that are attributes, too.
"""

import atexit
import io
import math
import os
import struct
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import h5py
import numpy as np

from engine.errors import UserError, reason
from engine.regular import open_regular

FILTERS = {*range(1, 7), 32000}  # deflate, shuffle, fletcher32, szip, nbit, scaleoffset; lzf, which h5py brings along
OBJECTS = 10_000  # in a file
MOST = 256 << 20  # bytes of what is read at once, ...
RATIO = 100  # ... or this many times those that lie in the file, if that is more
_HEADER = 1 << 16  # bytes of a part of an object's header, at most
_OPEN: "WeakValueDictionary[int, HDF5File]" = WeakValueDictionary()  # by the number that HDF5 gives them


class HDF5File(h5py.File):  # type: ignore[misc]  # h5py has no types
    """An HDF5 file, open for reading."""

    def __init__(self, path: Path):
        """Raises OSError: with an ``errno`` what the system says, without one what is wrong with the file. UserError
        for one that leads to other files, or that needs more than HDF5 itself."""
        self._disk: Any = io.BufferedReader(open_regular(path))
        try:
            super().__init__(self._disk, "r")
        except BaseException:
            self._disk.close()
            raise
        _OPEN[self.id.id] = self
        try:
            _look_through(self, path)
        except (OSError, UserError):
            self.close()
            raise
        except Exception as error:  # h5py raises nearly anything on damaged files
            self.close()
            raise OSError(reason(error)) from error

    def close(self) -> None:
        super().close()
        self._disk.close()


def read_array(dataset: h5py.Dataset) -> Any:
    """All of it; texts as bytes. OSError where it claims far more than lies in the file."""
    check_size(dataset)
    return _texts(dataset) if dataset.dtype.hasobject and dataset.size else dataset[()]


def read_row(dataset: h5py.Dataset, number: int) -> np.ndarray:
    """What lies at ``number`` of its first dimension, of numbers. OSError as in ``read_array``."""
    check_size(dataset, dataset.shape[0])
    if dataset.dtype.hasobject:
        raise OSError(f"{dataset.name} holds no numbers")
    return dataset[number]


def read_number(item: h5py.HLObject, name: str) -> int:
    """The attribute ``name``. OSError where there is none, or it is no integer."""
    if name not in item.attrs or item.attrs.get_id(name).dtype.kind not in "iu":
        raise OSError(f"{item.name} has no number {name}")
    return int(item.attrs[name])


def read_text(item: h5py.HLObject, name: str) -> str:
    """The attribute ``name``, a text; empty where there is none. OSError where it is something else, or kept otherwise
    than h5py does unasked."""
    if name not in item.attrs:
        return ""
    kind = item.attrs.get_id(name)
    if kind.shape != () or not h5py.check_string_dtype(kind.dtype):
        raise OSError(f"{item.name} has no text {name}")
    if not kind.dtype.hasobject:
        return bytes(item.attrs[name]).decode("utf-8", "replace")
    disk, base = _OPEN[item.file.id.id]._disk.fileno(), item.file.userblock_size
    stored = _attribute(disk, base, h5py.h5o.get_info(item.id).addr, name.encode())
    if len(stored) != _TEXT.itemsize:
        raise OSError(f"{item.name} has a text {name} that is not where it should be")
    length, heap, number = np.frombuffer(stored, _TEXT)[0].tolist()
    texts = _heap(disk, base + heap, item.file.id.get_filesize())[0] if length else {}
    text = texts.get(number, b"")
    if len(text) != length:
        raise OSError(f"{item.name} has lost its text {name}")
    return text.decode("utf-8", "replace")


_PREFIX, _MESSAGE, _PART = struct.Struct("<BxH4xI4x"), struct.Struct("<HH4x"), struct.Struct("<QQ")
_CONTINUED, _ATTRIBUTE = 0x10, 0x0C


def _attribute(disk: int, base: int, at: int, name: bytes) -> bytes:
    """What the attribute ``name`` of the object whose header is at byte ``at`` holds; nothing where it is not found.

    (HDF5 File Format Specification 3.0, IV.A.1.a "Version 1 Data Object Header Prefix", IV.A.2.m "The Attribute
    Message" and IV.A.2.q "The Object Header Continuation Message".)
    """
    version, count, size = _PREFIX.unpack(os.pread(disk, _PREFIX.size, base + at).ljust(_PREFIX.size))
    parts = [(at + _PREFIX.size, size)] if version == 1 else []
    while parts and count > 0:
        start, size = parts.pop(0)
        content, place = os.pread(disk, min(size, _HEADER), min(base + start, 1 << 62)), 0
        while place + _MESSAGE.size <= len(content):
            kind, length = _MESSAGE.unpack_from(content, place)
            place, count = place + _MESSAGE.size, count - 1
            body = content[place : place + length]
            place += length
            if kind == _CONTINUED and length == _PART.size:
                parts.append(_PART.unpack(body.ljust(_PART.size)))
            elif kind == _ATTRIBUTE and (found := _held(body, name)) is not None:
                return found
    return b""


def _held(message: bytes, name: bytes) -> bytes | None:
    """What an attribute's message holds, if it is that of ``name``."""
    version, _, *sizes = struct.unpack_from("<BBHHH", message.ljust(8))
    if version == 1:
        start, sizes = 8, [-(-size // 8) * 8 for size in sizes]
    else:
        start = 8 if version == 2 else 9
    named = message[start : start + sizes[0]].split(b"\0")[0] == name
    return message[start + sum(sizes) :][: _TEXT.itemsize] if named else None


def check_size(dataset: h5py.Dataset, parts: int = 1) -> None:
    """OSError where one of as many ``parts`` of it claims more bytes than MOST, and RATIO times those in the file."""
    claimed, stored = _bytes(dataset.id) // max(parts, 1), dataset.id.get_storage_size()
    if claimed > max(MOST, RATIO * stored):
        raise OSError(f"{dataset.name} claims {claimed:,} bytes and has {stored:,}")


_TEXT = np.dtype([("bytes", "<u4"), ("heap", "<u8"), ("number", "<u4")])  # where a text is
_HEAP, _ITEM = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")  # what stands before a heap, and each text in it


def _texts(dataset: h5py.Dataset) -> Any:
    """Its texts, in its shape. OSError where they are damaged, or kept otherwise than h5py does.

    (HDF5 File Format Specification 3.0, III.E "Global Heap" and VIII "References to texts of variable length".)
    """
    at, stored, has = dataset.id.get_offset(), dataset.id.get_storage_size(), dataset.file.id.get_filesize()
    plain = h5py.check_string_dtype(dataset.dtype) and stored == _TEXT.itemsize * dataset.size
    if at is None or at + stored > has or not plain:
        raise OSError(f"{dataset.name} holds no texts that lie side by side")
    disk = _OPEN[dataset.file.id.id]._disk.fileno()
    wanted = np.frombuffer(os.pread(disk, stored, at), _TEXT)
    if wanted["bytes"].sum(dtype=np.int64) > has:
        raise OSError(f"{dataset.name} claims more text than the file has")
    base, found, room = dataset.file.userblock_size, np.empty(dataset.size, object), has
    heaps: dict[int, dict[int, bytes]] = {}
    for place, (length, heap, number) in enumerate(wanted.tolist()):
        if length and heap not in heaps:
            heaps[heap], size = _heap(disk, base + heap, room)
            room -= size  # no byte is in two heaps
        found[place] = heaps[heap].get(number, b"") if length else b""
        if len(found[place]) != length:
            raise OSError(f"{dataset.name} has lost a text")
    return found.reshape(dataset.shape)[()]


def _heap(disk: int, at: int, most: int) -> tuple[dict[int, bytes], int]:
    """The texts of the heap at byte ``at`` by their numbers, and how many bytes it has, ``most`` at most."""
    head = os.pread(disk, _HEAP.size, min(at, 1 << 62))  # of nonsense, nothing: it is behind the end
    mark, version, size = _HEAP.unpack(head.ljust(_HEAP.size))
    if (mark, version) != (b"GCOL", 1) or size > most:
        raise OSError("texts are not where they should be")
    content, texts, start = os.pread(disk, size, at), {}, _HEAP.size
    while start + _ITEM.size <= len(content):
        number, _, length = _ITEM.unpack_from(content, start)
        if not number:  # what follows is free
            break
        start += _ITEM.size
        texts[number] = content[start : start + length]
        start += -(-length // 8) * 8
    return texts, size


def _look_through(file: h5py.File, path: Path) -> None:
    """UserError unless all that is in the file comes from it alone."""
    groups, seen, size = [file.id], set(), path.stat().st_size
    while groups:
        group = groups.pop()
        for name in group:
            kind = group.links.get_info(name).type
            if kind == h5py.h5l.TYPE_SOFT:  # leads to something in this file
                continue
            if kind != h5py.h5l.TYPE_HARD:
                raise _refused(path, name, "leads to another file")
            item = h5py.h5o.open(group, name)
            where = h5py.h5o.get_info(item).addr
            if where in seen:  # under another name, perhaps within itself
                continue
            seen.add(where)
            if len(seen) > OBJECTS:
                raise UserError(f"{path} holds more than {OBJECTS:,} objects: give a file with fewer.")
            if isinstance(item, h5py.h5g.GroupID):
                groups.append(item)
            elif isinstance(item, h5py.h5d.DatasetID):
                _look_at(item, path, name, size)


def _look_at(dataset: Any, path: Path, name: bytes, size: int) -> None:
    if dataset.dtype.hasobject:  # where its texts are told when they are read; HDF5 would read one that fills gaps
        return
    how = dataset.get_create_plist()
    layout = how.get_layout()
    if layout == h5py.h5d.VIRTUAL or how.get_external_count():
        raise _refused(path, name, "is kept in another file")
    if foreign := {how.get_filter(n)[0] for n in range(how.get_nfilters())} - FILTERS:
        raise _refused(path, name, f"needs a filter that is not HDF5's own (number {min(foreign)})")
    if layout == h5py.h5d.CHUNKED:
        chunk = math.prod(how.get_chunk()) * dataset.get_type().get_size()
        if chunk > MOST:
            raise OSError(f"{_said(name)} has chunks of {chunk:,} bytes")
    elif (claimed := _bytes(dataset)) > size:
        raise OSError(f"{_said(name)} claims {claimed:,} bytes of {size:,}")


def _bytes(dataset: Any) -> int:
    return math.prod(dataset.shape or ()) * dataset.get_type().get_size()


def _said(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _refused(path: Path, name: bytes, why: str) -> UserError:
    return UserError(f"{path} is not read: {_said(name)} {why}; copy the data into a file of its own.")


@atexit.register
def _close_all() -> None:
    """HDF5 would close them when Python's files can no longer be called, and crash."""
    for file in list(_OPEN.values()):
        file.close()
