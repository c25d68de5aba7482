"""Where images come from: a directory tree, a text or CSV list, or tar shards."""

import csv
import glob
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from engine.errors import UserError
from engine.images.decoding import BrokenImage, decode
from engine.workspace import value_sha256

_JPEG, _NETPBM = (".jpg", ".jpeg", ".jpe", ".jfif"), (".ppm", ".pgm", ".pbm", ".pnm")
SUFFIXES = frozenset((*_JPEG, *_NETPBM, ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"))
_INATURALIST = re.compile(r"\d+((?:_[^_]+){6,})")


@dataclass(frozen=True)
class ImageEntry:
    """One image of a source, as listed; nothing has been read yet."""

    path: str  # relative to the source, unique in a tree or shard
    size: int  # bytes; 0 when there is no such file
    label: str | None = None  # its class
    taxonomy: tuple[str, ...] = ()  # from the root downwards; empty without one
    read: Callable[[], bytes] = field(default=bytes, repr=False, compare=False)


class Images:
    """An ordered list of images. Safe to read from several threads."""

    def __init__(self, spec: str, entries: list[ImageEntry]):
        self.spec = spec
        self.entries = entries

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
            return entry.read()
        except OSError as error:
            raise BrokenImage(entry.path, error.strerror or str(error)) from error

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

    Raises UserError when nothing is there, or a list or shard cannot be read.
    """
    text = str(spec)
    path = Path(text).expanduser()
    if path.is_dir():
        shards = sorted(p for p in path.iterdir() if p.suffix == ".tar" and p.is_file())
        entries = _tree(path) or _tars(shards)
    elif path.is_file():
        entries = _tars([path]) if ".tar" in path.suffixes or path.suffix == ".tgz" else _listed(path)
    else:
        found = sorted(Path(name) for name in glob.glob(os.path.expanduser(text)))
        if not found:
            raise UserError(f"No images at {text}: there is no such directory, list or .tar file; check the path.")
        entries = _globbed(found)
    if not entries:
        raise UserError(f"No images in {text}: give a directory, list or .tar with {_short(SUFFIXES)} files.")
    return Images(text, entries[:limit] if limit > 0 else entries)


def taxonomy_of(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The taxonomy path that folder names spell: an iNaturalist-style last name, else nested folders."""
    match = _INATURALIST.fullmatch(folders[-1]) if folders else None
    if match:
        return tuple(match[1].split("_")[1:])
    return folders if len(folders) > 1 else ()


def _tree(root: Path) -> list[ImageEntry]:
    entries = []
    for file in _walk(root, frozenset({os.path.realpath(root)})):
        folders = file.relative_to(root).parts[:-1]
        entries.append(
            ImageEntry(
                path=file.relative_to(root).as_posix(),
                size=_size(file),
                label="/".join(folders) or None,
                taxonomy=taxonomy_of(folders),
                read=file.read_bytes,
            )
        )
    return entries


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Image files below ``folder``, sorted. ``above``: real paths of the folders around it, so that links end."""
    try:
        children = sorted(folder.iterdir(), key=lambda child: child.name)
    except OSError as error:
        raise UserError(f"Cannot read the directory {folder}: {error.strerror}.") from error
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            real = os.path.realpath(child)
            if real not in above:
                yield from _walk(child, above | {real})
        elif child.suffix.lower() in SUFFIXES:
            yield child


def _globbed(found: list[Path]) -> list[ImageEntry]:
    if all(p.suffix == ".tar" for p in found):
        return _tars(found)
    files = [p for p in found if p.suffix.lower() in SUFFIXES and p.is_file()]
    return [ImageEntry(path=str(p), size=_size(p), read=p.read_bytes) for p in files]


def _listed(path: Path) -> list[ImageEntry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable list of images ({error}): give a text or CSV file.") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _text_rows(path.parent, text)
    entries = []
    for name, label in rows:
        file = path.parent / Path(name).expanduser()
        entries.append(ImageEntry(path=name, size=_size(file), label=label, read=file.read_bytes))
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
    classes = {_key(m.name): _slice(path, m.offset_data, m.size) for m in members if m.name.endswith(".cls")}
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
                label=written.decode("utf-8", "replace").strip() if written is not None else "/".join(folders) or None,
                taxonomy=taxonomy_of(folders),
                read=partial(_slice, path, member.offset_data, member.size),
            )
        )
    return entries


def _key(name: str) -> str:
    """A WebDataset sample's key: everything before the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _slice(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise OSError(None, f"{path.name} ends within this member")
    return data


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _short(names: Iterable[str]) -> str:
    return " ".join([*sorted(names)[:4], "..."])
