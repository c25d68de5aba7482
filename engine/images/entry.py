"""One image of a source, as listed, and its bytes. Nothing is read until they are asked for."""

import bz2
import copy
import io
import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from engine.errors import UserError
from engine.files import Stamp, stamp_of
from engine.images.kinds import is_read, left_out
from engine.regular import open_regular


@dataclass(frozen=True, slots=True)
class ImageEntry:
    path: str  # relative to the source, unique in a tree or shard
    size: int  # bytes; 0 when there is no such file
    label: str | None = None  # its class
    taxonomy: tuple[str, ...] = ()  # from the root downwards; empty without one
    file: str = ""  # where it is
    offset: int = 0  # and from which byte on, in a shard
    member: str = ""  # or under which name, in an archive
    stamp: Stamp | None = None  # of the file when it was listed; None when there was none
    reader: Callable[["ImageEntry"], bytes] | None = None  # where its bytes do not stand in the file as they are
    also: tuple[str, ...] = ()  # other names of its class: its folder, where that is called otherwise, and synonyms


def crop_of(path: str, left: int, top: int, width: int, height: int) -> str:
    """What a crop of the image ``path`` is called."""
    return f"{path}@{left},{top},{width}x{height}"


def picture_of(path: str) -> str:
    """The image that ``path`` names, or of which it names a crop."""
    return re.sub(r"@\d+,\d+,\d+x\d+$", "", path)


@dataclass
class Listing:
    """The images of a source, in order, how many files of which kind were left out, and what else is to be said."""

    entries: list[ImageEntry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def takes(self, name: str) -> bool:
        """Whether the file ``name`` is read as an image. If not, and it is a picture of another kind, it counts."""
        if is_read(name):
            return True
        if kind := left_out(name):
            self.left_out[kind] += 1
        return False


LARGEST = 600_000_000  # bytes of an image: more than MAX_PIXELS take, 16 bits a sample and not compressed


def read(entry: ImageEntry) -> bytes:
    """The image as stored; less of it where it ends too early. Raises OSError. For several threads."""
    if entry.size > LARGEST:
        raise OSError(f"it has {entry.size:,} bytes, more than the {LARGEST:,} allowed")
    return (entry.reader or _read_range)(entry)


def _read_range(entry: ImageEntry) -> bytes:
    with open_regular(entry.file) as file:
        return os.pread(file.fileno(), entry.size, entry.offset)


def check_unchanged(entry: ImageEntry) -> None:
    """UserError when the file of ``entry`` is not the one that was listed: what was read may be another picture. A new
    owner, mode or link alone, which changes the change time, is none."""
    now = stamp(entry.file)
    if entry.stamp is not None and (now is None or now[:3] != entry.stamp[:3]):
        raise UserError(f"{entry.file} changed while its images were read: run the same command again.")


def stamp(path: str) -> Stamp | None:
    """Of a file; None when there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a zero byte in its name
        return None
    return stamp_of(found) if stat.S_ISREG(found.st_mode) else None


def unzip(entry: ImageEntry) -> bytes:
    """An image of an archive, its checksum verified."""
    try:
        return unzipped(_opened(entry.file, stamp(entry.file)), entry.member)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what a damaged archive raises depends on where in it the damage is
        raise OSError(f"it cannot be unpacked ({error})") from error


def unzipped(archive: zipfile.ZipFile, member: str) -> bytes:
    """A member of an archive, of which no more is unpacked than it is said to have."""
    info = archive.getinfo(member)
    if info.compress_type == zipfile.ZIP_BZIP2:  # of which zipfile unpacks gigabytes at once
        return _unpacked_bzip2(archive, info)
    with archive.open(info) as file:
        return b"".join(iter(lambda: file.read(info.file_size), b""))


def _unpacked_bzip2(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    packed = copy.copy(info)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
    del packed.CRC  # of what is unpacked
    with archive.open(packed) as file:
        data = bz2.BZ2Decompressor().decompress(file.read(), info.file_size)
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"bad CRC-32 of {info.filename}")
    return data


@lru_cache(maxsize=4)
def _opened(path: str, stamp: Stamp | None) -> zipfile.ZipFile:
    """Kept open, since its directory may list a million images. It locks itself against other threads."""
    return zipfile.ZipFile(io.BufferedReader(open_regular(path)))
