"""Where images come from: a directory tree, a text or CSV list, tar shards or zip archives.

A further kind of source is a ``Source`` more in ``SOURCES``.
"""

import csv
import glob
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from PIL import Image

from engine.errors import UserError
from engine.files import value_sha256
from engine.images.decoding import BrokenImage, decode

_JPEG, _NETPBM = (".jpg", ".jpeg", ".jpe", ".jfif"), (".ppm", ".pgm", ".pbm", ".pnm")
SUFFIXES = frozenset((*_JPEG, *_NETPBM, ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"))
_INATURALIST = re.compile(r"\d+((?:_[^_]+){3,})")


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of a source, as listed; nothing has been read yet."""

    path: str  # relative to the source, unique in a tree or shard
    size: int  # bytes; 0 when there is no such file
    label: str | None = None  # its class
    taxonomy: tuple[str, ...] = ()  # from the root downwards; empty without one
    file: str = ""  # where it is
    offset: int = 0  # and from which byte on, in a shard


def read_range(entry: ImageEntry) -> bytes:
    """``size`` bytes of its file, from ``offset`` on; fewer where it has become shorter. Raises OSError."""
    with open(entry.file, "rb", buffering=0) as file:
        return os.pread(file.fileno(), entry.size, entry.offset)


@dataclass(frozen=True)
class Source:
    """One way in which images are kept."""

    takes: Callable[[Path], bool]
    """Whether a path may be such a source."""
    entries: Callable[[Path], list[ImageEntry]]
    """Its images, in a fixed order; none where it is something else after all. UserError when it is damaged."""
    read: Callable[[ImageEntry], bytes] = read_range
    """An image as stored. Raises OSError. For several threads."""


class Images:
    """An ordered list of images. Safe to read from several threads."""

    def __init__(self, spec: str, entries: list[ImageEntry], read: Callable[[ImageEntry], bytes] = read_range):
        self.spec = spec
        self.entries = entries
        self._read = read

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def sha256(self) -> str:
        """Identity of the list: paths and sizes in order. Contents are not read for it."""
        return value_sha256([[entry.path, entry.size] for entry in self.entries])

    def read_bytes(self, index: int) -> bytes:
        """The file as stored. Raises BrokenImage when it cannot be read."""
        entry = self.entries[index]
        try:
            data = self._read(entry)
        except OSError as error:
            raise BrokenImage(entry.path, error.strerror or str(error)) from error
        if len(data) < entry.size:
            raise BrokenImage(entry.path, "it is shorter than when it was listed")
        return data

    def load(self, index: int) -> Image.Image:
        """The image, upright and RGB. Raises BrokenImage."""
        return decode(self.read_bytes(index), self.entries[index].path)


def open_images(spec: str | Path, limit: int = 0) -> Images:
    """The images that ``spec`` means, in a fixed order; only the first ``limit`` of them if that is not 0.

    - a directory: every image below it, sorted; the folder is the class. Folders in folders, and iNaturalist-style
      names (``00012_Kingdom_Phylum_Class_Order_Family_Genus_species``), are a taxonomy. Hidden files and files
      without an image's suffix are passed over; symbolic links are followed.
    - a ``.csv`` file with a column ``path`` and perhaps ``class``; any other file: one path a line, perhaps a tab or
      comma and the class. Paths are relative to the list.
    - ``.tar`` files (one, a glob, or a directory of them): images with their folder as class, or WebDataset samples
      whose ``key.cls`` is the class. They are read in place, never unpacked.
    - ``.zip`` files, in the same ways: images with their folder as class. Encrypted images, and names that lead out of
      the archive, are refused.

    Raises UserError when nothing is there, or a list or shard cannot be read.
    """
    text = str(spec)
    path = Path(text).expanduser()
    able = [source for source in SOURCES if source.takes(path)]
    if not able:
        raise UserError(f"No images at {text}: there is no such directory, list, .tar or .zip file; check the path.")
    for source in able:
        if entries := source.entries(path):
            return Images(text, entries[:limit] if limit > 0 else entries, source.read)
    raise UserError(f"No images in {text}: give a directory, list, .tar or .zip with {_short(SUFFIXES)} files.")


def taxonomy_of(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The taxonomy path that folder names spell: an iNaturalist-style last name, else nested folders."""
    match = _INATURALIST.fullmatch(folders[-1]) if folders else None
    if match:
        return tuple(match[1].split("_")[1:])
    return folders if len(folders) > 1 else ()


def _tree(root: Path) -> list[ImageEntry]:
    """Depth first, every folder in the order of its names. Millions of files: hence strings and directory entries."""
    entries: list[ImageEntry] = []

    def visit(folder: str, names: tuple[str, ...], around: frozenset[str]) -> None:
        label, taxonomy = "/".join(names) or None, taxonomy_of(names)
        real = os.path.realpath(folder)
        if real in around:  # a link back up
            return
        for child in _children(folder):
            if _is_folder(child):
                visit(child.path, (*names, child.name), around | {real})
            elif os.path.splitext(child.name)[1].lower() in SUFFIXES:
                path = "/".join((*names, child.name))
                entries.append(ImageEntry(path, _size(child.path), label, taxonomy, child.path))

    visit(str(root), (), frozenset())
    return entries


def _children(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((c for c in found if not c.name.startswith(".")), key=lambda c: c.name)
    except OSError as error:
        raise UserError(f"Cannot read the directory {folder}: {error.strerror}.") from error


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link to itself, or into a place that is closed to us: reading it says so, if it is an image
        return False


def _matching(pattern: Path) -> list[Path]:
    """What a pattern with ``*``, ``?`` or ``[`` finds; nothing for a path that exists."""
    return [] if pattern.exists() else sorted(map(Path, glob.glob(str(pattern))))


def _globbed(pattern: Path) -> list[ImageEntry]:
    found = _matching(pattern)
    if all(p.suffix == ".tar" for p in found):
        return _tars(found)
    files = [p for p in found if p.suffix.lower() in SUFFIXES and p.is_file()]
    return [ImageEntry(str(p), _size(p), file=str(p)) for p in files]


def _listed(path: Path) -> list[ImageEntry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable list of images ({error}): give a text or CSV file.") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _text_rows(path.parent, text)
    entries = []
    for name, label in rows:
        file = path.parent / Path(name).expanduser()
        entries.append(ImageEntry(name, _size(file), label, file=str(file)))
    return entries


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, str | None]]:
    reader = csv.DictReader(text.splitlines())
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
    if "path" not in columns:
        raise UserError(f"{path} has no column named path: its first line must be path or path,class.")
    label = columns.get("class", columns.get("label"))
    for row in reader:
        if row[columns["path"]]:
            yield row[columns["path"]], (row[label] or None) if label else None


def _text_rows(folder: Path, text: str) -> Iterator[tuple[str, str | None]]:
    for line in filter(str.strip, text.splitlines()):
        name, tab, label = line.partition("\t")
        if not tab and "," in line and not (folder / line).exists():
            name, _, label = line.rpartition(",")
        yield name.strip(), label.strip() or None


def _is_shard(path: Path) -> bool:
    return path.is_file() and (".tar" in path.suffixes or path.suffix == ".tgz")


def _shards_in(folder: Path) -> list[ImageEntry]:
    return _tars(sorted(p for p in folder.iterdir() if p.suffix == ".tar" and p.is_file()))


def _tars(paths: Iterable[Path]) -> list[ImageEntry]:
    return [entry for path in paths for entry in _tar(path)]


def _tar(path: Path) -> list[ImageEntry]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = [m for m in tar if m.isreg() and m.sparse is None]
    except tarfile.TarError as error:
        raise UserError(
            f"{path} is not an intact uncompressed .tar ({error}): unpack compressed ones first, and fetch it again "
            "if it was cut short."
        ) from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    classes = {_key(m.name): m for m in members if m.name.endswith(".cls")}
    entries = []
    for member in members:
        name = Path(member.name)
        if name.suffix.lower() not in SUFFIXES or name.name.startswith("."):
            continue
        folders = tuple(part for part in name.parts[:-1] if part != ".")
        written = classes.get(_key(member.name))
        entries.append(
            ImageEntry(
                path=f"{path.name}/{member.name.removeprefix('./')}",
                size=member.size,
                label=_class(path, written) if written else "/".join(folders) or None,
                taxonomy=taxonomy_of(folders),
                file=str(path),
                offset=member.offset_data,
            )
        )
    return entries


def _class(path: Path, member: tarfile.TarInfo) -> str:
    with open(path, "rb") as file:
        return os.pread(file.fileno(), member.size, member.offset_data).decode("utf-8", "replace").strip()


def _key(name: str) -> str:
    """A WebDataset sample's key: everything before the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _archives(path: Path) -> list[Path]:
    """The archives that a path means: itself, those in it, or those that it matches."""
    found = sorted(path.glob("*.zip")) if path.is_dir() else [path] if path.is_file() else _matching(path)
    return found if all(one.suffix.lower() == ".zip" for one in found) else []


def _zips(path: Path) -> list[ImageEntry]:
    return [entry for archive in _archives(path) for entry in _zip(archive)]


def _zip(path: Path) -> list[ImageEntry]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.NameToInfo.values()  # of one name the last, as it is the one that is read
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not an intact .zip ({error}): fetch it again.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    entries = []
    for member in members:
        *folders, name = member.filename.replace("\\", "/").split("/")  # some write names as Windows does
        if os.path.splitext(name)[1].lower() not in SUFFIXES or name.startswith("."):
            continue
        if ".." in folders or folders[:1] == [""]:
            raise UserError(f"{path} holds {member.filename!r}, which leads out of it: make the archive anew without.")
        if member.flag_bits & _ENCRYPTED:
            raise UserError(f"{path} is encrypted ({member.filename}): unpack it and give the folder.")
        names = tuple(folder for folder in folders if folder not in ("", "."))
        label = "/".join(names) or None
        listed = f"{path.name}/{member.filename}"
        entries.append(ImageEntry(listed, member.file_size, label, taxonomy_of(names), str(path)))
    return entries


_ENCRYPTED = 0x1  # of a member's flags (APPNOTE.TXT 4.4.4)
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, NotImplementedError, RuntimeError)


def _unzip(entry: ImageEntry) -> bytes:
    """An image of an archive, its checksum verified."""
    found = os.stat(entry.file)
    name = entry.path.removeprefix(f"{os.path.basename(entry.file)}/")
    try:
        return _opened(entry.file, found.st_mtime_ns, found.st_size).read(name)
    except _UNREADABLE as error:
        raise OSError(f"it cannot be unpacked ({error})") from error


@lru_cache(maxsize=4)
def _opened(path: str, modified: int, size: int) -> zipfile.ZipFile:
    """Kept open, since its directory may list a million images. It locks itself against other threads."""
    return zipfile.ZipFile(path)


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _short(names: Iterable[str]) -> str:
    return " ".join([*sorted(names)[:4], "..."])


SOURCES = (
    Source(Path.is_dir, _tree),
    Source(Path.is_dir, _shards_in),
    Source(_is_shard, _tar),
    Source(lambda path: bool(_archives(path)), _zips, _unzip),
    Source(Path.is_file, _listed),
    Source(lambda path: bool(_matching(path)), _globbed),
)
"""Asked in this order: the first that takes a path and finds images there."""
