"""Images in tar shards and zip archives, read in place.

Beside an image may stand what it shows, as in a WebDataset: ``KEY.cls`` (a class), ``KEY.json`` (an object with fields
as in :func:`engine.images.classes.of_record`, or a class) or ``KEY.txt`` (one line). The first of these that says it
counts, and the folder before a ``.txt``, which is mostly a caption. The ``metadata.csv`` or ``metadata.jsonl`` of a
Hugging Face image folder goes before them all. The key of a WebDataset ends at the first dot of the file's name, so
that ``7.cls`` belongs to ``7.png`` and ``7.seg.png``; where names have more dots, the member that differs in its last
suffix alone (``f.001.cls`` for ``f.001.png``) goes before that of the key.

Members in folders that are hidden, or hidden themselves, are passed over; of members of one name the last counts.
"""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from engine.errors import UserError, reason
from engine.images.classes import Class, of_folders, of_record, of_text
from engine.images.entry import ImageEntry, Listing, stamp, unzip, unzipped
from engine.images.lists import METADATA, NOT_THERE, metadata
from engine.records import parse_json
from engine.regular import open_regular

_BESIDE = (".cls", ".json", ".txt")
_LONGEST = 1 << 20  # bytes of what stands beside an image, and of a header of a tar
_TRIES = 8  # of reading at the end of a tar
_RECORD = 1 << 20  # bytes, the longest record that tar fills up with zeros


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    """As it is written there."""
    path: tuple[str, ...]
    """Its folders and name."""
    size: int
    offset: int = 0


def read_tar(path: Path, listing: Listing) -> None:
    """Add the images of a shard; its name stands before their paths. UserError when it is damaged or compressed."""
    try:
        with (
            io.BufferedReader(open_regular(path)) as whole,
            tarfile.open(fileobj=cast(Any, _Headers(whole)), mode="r:") as tar,
        ):
            members = _of_tar(tar, listing)
            _check_end(whole, tar.offset)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {reason(error)}.") from error
    except Exception as error:  # tarfile raises nearly anything on damaged headers
        raise UserError(
            f"{path} is not an intact uncompressed .tar ({reason(error)}): unpack compressed ones first, and fetch "
            "it again if it was cut short."
        ) from error
    file, seen = os.path.abspath(path), stamp(str(path))
    with open_regular(path) as opened:
        classes = _Classes(members, lambda one: os.pread(opened.fileno(), one.size, one.offset), listing)
        pictures = _pictures(members, listing)
        classes.count_missing(pictures)
        for one in pictures:
            said = classes.of(one)
            listed = f"{path.name}/{one.name.removeprefix('./')}"
            listing.entries.append(ImageEntry(listed, one.size, *said, file, one.offset, stamp=seen))


class _Headers:
    """A tar as tarfile reads it, which believes what headers say of their own length, and reads on at the end."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self._beyond = 0

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data = self._file.read(size)
        self._beyond = 0 if data else self._beyond + 1
        if self._beyond > _TRIES:
            raise tarfile.ReadError("it ends within a header")
        return data


def _check_end(whole: BinaryIO, offset: int) -> None:
    """ReadError where the tar does not end at ``offset``, where no header was found: tarfile takes one that is damaged
    or cut short for the end, and what follows would be missing unsaid."""
    whole.seek(offset)
    end = whole.read(_RECORD)
    if len(end) < tarfile.BLOCKSIZE or end.strip(b"\0"):
        raise tarfile.ReadError(f"it does not end at byte {offset:,} as a whole one does")


def _of_tar(tar: tarfile.TarFile, listing: Listing) -> list[_Member]:
    """Its files, and hard links as the files that they are."""
    found: dict[str, _Member] = {}
    for info in tar:
        path = _parts(info.name)
        if info.size < 0:
            raise tarfile.ReadError(f"{info.name} of {info.size:,} bytes")
        if info.isreg() and info.sparse is None:
            size, offset = info.size, info.offset_data
        elif info.islnk() and (to := found.get(info.linkname)):
            size, offset = to.size, to.offset
        else:
            if not info.isdir() and listing.takes(info.name):
                listing.left_out["symbolic links or sparse files of a tar"] += 1
            continue
        found.pop(info.name, None)
        found[info.name] = _Member(info.name, path, size, offset)
    return list(found.values())


def read_zip(path: Path, listing: Listing) -> None:
    """Add the images of an archive; its name stands before their paths.

    UserError when it is damaged or encrypted, or holds a name that leads out of it.
    """
    try:
        with io.BufferedReader(open_regular(path)) as whole, zipfile.ZipFile(whole) as archive:
            infos = {_written(info): info for info in archive.NameToInfo.values() if not info.is_dir()}
            members = [_Member(info.filename, _parts(written), info.file_size) for written, info in infos.items()]
            pictures = _pictures(members, listing)
            _check(path, [archive.NameToInfo[one.name] for one in pictures])
            classes = _Classes(members, lambda one: unzipped(archive, one.name), listing)
            classes.count_missing(pictures)
            said = [classes.of(one) for one in pictures]
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"Cannot read {path}: {reason(error)}.") from error
    except Exception as error:  # so does zipfile
        raise UserError(f"{path} is not an intact .zip ({reason(error)}): fetch it again.") from error
    file, seen = os.path.abspath(path), stamp(str(path))
    for one, what in zip(pictures, said, strict=True):
        listed = f"{path.name}/{one.name}"
        listing.entries.append(ImageEntry(listed, one.size, *what, file, member=one.name, stamp=seen, reader=unzip))


def _written(info: zipfile.ZipInfo) -> str:
    return info.filename.replace("\\", "/")  # some write names as Windows does


_ENCRYPTED = 0x1  # of a member's flags (APPNOTE.TXT 4.4.4)


def _check(path: Path, infos: Iterable[zipfile.ZipInfo]) -> None:
    for info in infos:
        folders = _written(info).split("/")[:-1]
        if ".." in folders or folders[:1] == [""]:
            raise UserError(f"{path} holds {info.filename!r}, which leads out of it: make the archive anew without.")
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{path} is encrypted ({info.filename}): unpack it and give the folder.")


def _parts(name: str) -> tuple[str, ...]:
    """Folders and name, from the last ``..`` on, as tar unpacks them."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    outside = len(parts) - parts[::-1].index("..") if ".." in parts else 0
    return tuple(parts[outside:])


def _pictures(members: Iterable[_Member], listing: Listing) -> list[_Member]:
    shown = (one for one in members if one.path and not any(part.startswith(".") for part in one.path))
    return [one for one in shown if not _is_beside(one.path[-1]) and listing.takes(one.path[-1])]


def _is_beside(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _BESIDE


class _Classes:
    """What the members beside the images of an archive say of them."""

    def __init__(self, members: Iterable[_Member], read: Callable[[_Member], bytes], listing: Listing):
        self._read = read
        self._listing = listing
        self._beside: dict[tuple[str, ...], dict[str, _Member]] = {}
        self._known: dict[str, Class] = {}  # by metadata, the outermost first
        for one in sorted(members, key=lambda one: len(one.path)):
            if one.path and one.path[-1] in METADATA and not any(part.startswith(".") for part in one.path):
                self._known |= metadata(one.path[-1], one.path[:-1], partial(self._text, one), listing)
            if one.path and _is_beside(one.path[-1]) and one.size <= _LONGEST:
                stem, suffix = os.path.splitext(one.path[-1])
                self._beside.setdefault((*one.path[:-1], stem), {})[suffix.lower()] = one

    def of(self, image: _Member) -> Class:
        if (known := self._known.get("/".join(image.path))) and known.label:
            return known
        *folders, name = image.path
        stems = dict.fromkeys((os.path.splitext(name)[0], name.partition(".")[0]))
        beside = [self._beside.get((*folders, stem), {}) for stem in stems]
        return next(filter(lambda said: said.label, self._said(beside, tuple(folders))), Class())

    def count_missing(self, pictures: Iterable[_Member]) -> None:
        """Note how many of the images that metadata names are not among ``pictures``."""
        if missing := self._known.keys() - {"/".join(one.path) for one in pictures}:
            self._listing.left_out[NOT_THERE] += len(missing)

    def _said(self, beside: list[dict[str, _Member]], folders: tuple[str, ...]) -> Iterator[Class]:
        for suffix, parsed in ((".cls", of_text), (".json", self._of_json)):
            yield from (parsed(self._text(one[suffix])) for one in beside if suffix in one)
        yield of_folders(folders)
        captions = (self._text(one[".txt"]).strip() for one in beside if ".txt" in one)
        yield from (of_text(caption) for caption in captions if "\n" not in caption)

    def _text(self, member: _Member) -> str:
        return self._read(member).decode("utf-8-sig", "replace")

    def _of_json(self, text: str) -> Class:
        try:
            value = parse_json(text)
        except ValueError:
            self._listing.left_out["damaged .json"] += 1
            return Class()
        if isinstance(value, dict):
            return of_record(value)
        return of_record({"taxonomy" if isinstance(value, list) else "label": value})
