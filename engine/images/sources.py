"""Where images come from: a directory tree, a text or CSV list, tar shards, zip archives, a file, or several of these.

A further kind of source is a ``Source`` more in ``SOURCES``.
"""

import glob
import hashlib
import itertools
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from engine.config import Transparency
from engine.errors import UNREAD, UserError, counted, passing, reason, refusal
from engine.files import path_of, value_sha256
from engine.images.archives import read_tar, read_zip
from engine.images.classes import Class, of_folders
from engine.images.contents import contents
from engine.images.decoding import BrokenImage, decode
from engine.images.entry import ImageEntry, Listing, check_unchanged, read, stamp
from engine.images.kinds import SUFFIXES, in_words, is_read, left_out
from engine.images.lists import CLASS_NAMES, METADATA, NOT_THERE, Called, class_names, metadata, read_list, read_text
from engine.places import NO_PATH
from engine.reporter import Reporter, StageBegan

_READERS = 8  # threads that read images for their hashes alone
MOST_BRACED = 100_000  # names that braces may stand for
GONE = 32  # images in a row that a disk does not give, and which then are not taken for broken


class Images:
    """An ordered list of images. Safe to read from several threads."""

    def __init__(
        self,
        spec: str,
        entries: list[ImageEntry],
        left_out: Counter[str] | None = None,
        transparency: Transparency = "white",
        notes: Iterable[str] = (),
    ):
        self.spec = spec
        self.entries = entries
        self.transparency = transparency
        self.left_out = dict(left_out or {})
        """How many files of the source are pictures of kinds that are not read."""
        self.notes = tuple(notes)
        """Sentences about the source that who reads it is told."""
        self.crops: int | None = None
        """Where they are crops of those of the source: how many of each."""
        self._contents = contents()
        self._known: dict[int, str] = {}  # of those, by number here
        self._unread = _Unread()

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def sha256(self) -> str:
        """Identity of the list: paths, classes, taxonomy and contents in order. Reads what is not known yet."""
        self.learn()
        return identity((one.path, one.label, one.taxonomy, self.content(i)) for i, one in enumerate(self.entries))

    @cached_property
    def listed_sha256(self) -> str:
        """What once was the identity: paths and sizes in order. Stores and scores of that time name it."""
        return value_sha256([[entry.path, entry.size] for entry in self.entries])

    def content(self, index: int) -> str | None:
        """SHA-256 of the file as stored; None when it is not known (see ``learn``) or cannot be read."""
        if index not in self._known and (found := self._contents.get(self.entries[index])):
            self._known[index] = found
        return self._known.get(index)

    def remember(self, index: int, sha256: str) -> None:
        """Note the content of an image that was just read. UserError when its file is another than was listed."""
        entry = self.entries[index]
        check_unchanged(entry)
        self._known[index] = sha256
        if stamp(entry.file) == entry.stamp:
            self._contents.add(entry, sha256)

    def keep(self) -> None:
        """Let other processes know what was remembered."""
        self._contents.save()

    def learn(self, indices: Iterable[int] | None = None, reporter: Reporter | None = None) -> None:
        """Read those images (all, if none are given) whose content is not known by their file's stamp."""
        given = range(len(self)) if indices is None else indices
        unknown = [i for i in given if self.entries[i].stamp is not None and self.content(i) is None]
        if not unknown:
            return
        reporter = reporter or Reporter()
        reporter.event(StageBegan("reading what the images hold"))
        with ThreadPoolExecutor(_READERS, "contents") as pool:
            try:
                for done, _ in enumerate(pool.map(self._learn, unknown), 1):
                    reporter.progress(done, len(unknown), "images")
                    reporter.check()
            finally:
                pool.shutdown(cancel_futures=True)
                self.keep()

    def _learn(self, index: int) -> None:
        try:
            data = self.read_bytes(index)
        except BrokenImage:
            return
        self.remember(index, hashlib.sha256(data).hexdigest())

    def read_bytes(self, index: int) -> bytes:
        """The file as stored. Raises BrokenImage when it cannot be read, Refused where the machine is at fault.

        What the disk does not give is asked for twice. Then that image is broken, until so many in a row are that it is
        the disk.
        """
        entry, number = self.entries[index], self._unread.begin()
        try:
            data = _read_twice(entry)
        except OSError as error:
            disk = error.errno in UNREAD and self._unread.in_a_row(number) >= GONE
            gone = refusal(error, Path(entry.file)) if disk else passing(error, entry.file)
            raise gone or BrokenImage(entry.path, reason(error)) from error
        finally:
            self._unread.end(number)
        if len(data) < entry.size:
            raise BrokenImage(entry.path, "it is shorter than when it was listed")
        return data

    def load(self, index: int) -> Image.Image:
        """The image, upright and RGB. Raises BrokenImage."""
        return self.decode(index, self.read_bytes(index))

    def decode(self, index: int, data: bytes) -> Image.Image:
        """The image whose file holds ``data``. Raises BrokenImage."""
        return decode(data, self.entries[index].path, self.transparency)


class _Unread:
    """What the disk did not give, in the order in which it was asked for, whichever thread has its answer first."""

    def __init__(self) -> None:
        self._lock, self._begun = threading.Lock(), 0
        self._open, self._lost = set[int](), set[int]()

    def begin(self) -> int:
        """The number of a reading that begins."""
        with self._lock:
            self._begun += 1
            self._open.add(self._begun)
            return self._begun

    def end(self, number: int) -> None:
        """That reading was answered."""
        with self._lock:
            self._open.discard(number)

    def in_a_row(self, number: int) -> int:
        """That reading came to nothing: how many around it did, as far as none was answered; less those between them
        that still may be."""
        with self._lock:
            self._open.discard(number)
            self._lost.add(number)
            return 1 + self._along(range(number - 1, 0, -1)) + self._along(range(number + 1, self._begun + 1))

    def _along(self, numbers: Iterable[int]) -> int:
        count = most = 0
        for number in itertools.takewhile(lambda one: one in self._lost or one in self._open, numbers):
            count += 1 if number in self._lost else -1
            most = max(count, most)
        return most


def _read_twice(entry: ImageEntry) -> bytes:
    try:
        return read(entry)
    except OSError as error:
        if error.errno not in UNREAD:
            raise
        return read(entry)


def identity(images: Iterable[tuple[str, str | None, Sequence[str], str | None]]) -> str:
    """Of a list of images: SHA-256 over path, class, taxonomy and content (None: unreadable) of each, in order."""
    whole = hashlib.sha256()
    for path, label, taxonomy, content in images:
        whole.update(json.dumps([path, label, list(taxonomy), content]).encode() + b"\n")
    return whole.hexdigest()


def open_images(spec: str | Path, limit: int = 0, transparency: Transparency = "white") -> Images:
    """The images that ``spec`` means, in a fixed order; only the first ``limit`` of them if that is not 0.

    ``transparency``: what shows through them when they are loaded.

    - a directory: every image below it, sorted; the folder is the class, by the name that a ``classes.txt`` or
      ``LOC_synset_mapping.txt`` in the directory gives it. Folders in folders, and iNaturalist-style names
      (``00012_Kingdom_Phylum_Class_Order_Family_Genus_species``), are a taxonomy. Hidden files are passed over;
      symbolic links are followed. What a ``metadata.csv`` or ``metadata.jsonl`` of Hugging Face says of the class
      goes before the folder, in archives too.
    - ``.tar`` files (one, or a directory of them): images with their folder as class, or WebDataset samples
      (:mod:`engine.images.archives`). They are read in place, never unpacked.
    - ``.zip`` files, in the same ways. Encrypted images, and names that lead out of the archive, are refused.
    - a ``.csv``, ``.tsv``, ``.jsonl`` or ``.json`` file with a column ``path`` (or ``file_name``) and perhaps
      ``class``; any other file: one path a line, perhaps a tab, comma or space and the class. Paths are relative to the
      list. ``a/b`` as a class is a taxonomy, as folders are.
    - one image.
    - several of these, by ``*``, ``?``, ``[ab]``, ``{a,b}`` and ``{000..127}``.

    Pictures of kinds that are not read are counted (``left_out``). Raises UserError when nothing is there, or a list or
    shard cannot be read.
    """
    text = str(spec)
    paths = there(text)
    listing = Listing()
    lists = all(map(_is_list, paths))  # a list among images that a pattern finds is none of them
    for path, names in zip(paths, _folders_of(paths), strict=True):
        before = len(listing.entries)
        for source in SOURCES:
            if source.takes(path) and (lists or not _is_list(path)):
                source.add(path, names, listing)
                if len(listing.entries) > before:
                    break
    if not listing.entries:
        others = f" (it holds {in_words(listing.left_out)}, which are not read)" if listing.left_out else ""
        raise UserError(f"No images in {text}{others}: give a directory, list, .tar or .zip with {_SHORT} files.")
    entries = _told_apart(listing.entries)
    shown = entries[:limit] if limit > 0 else entries
    return Images(text, shown, listing.left_out, transparency, dict.fromkeys(listing.notes))


def there(spec: str) -> list[Path]:
    """The paths that a source means. UserError where there are none."""
    paths = meant(spec)
    if not paths:
        raise UserError(
            f"No images at {spec}: there is no such directory, list, .tar, .zip or image file; check the path, or "
            "after a move run saetui relink OLD NEW."
        )
    return paths


def check_images(spec: str) -> None:
    """UserError where there are no images in a source, as :func:`open_images` says it, and as soon: of one that has
    some the first is enough."""
    if not any(map(_has_some, there(spec))):
        open_images(spec)


def _has_some(path: Path) -> bool:
    """Whether that is plain without reading files."""
    if path.is_dir():
        return any(is_read(name) or name.endswith((".tar", ".zip")) for _, _, names in os.walk(path) for name in names)
    return is_read(path.name) or path.stat().st_size > LONG


LONG = 1 << 20  # bytes of a list or an archive: a longer one is not read for a look


def meant(spec: str) -> list[Path]:
    """The paths that a source with ``*``, ``?``, ``[ab]``, ``{a,b}`` or ``{000..127}`` means, or the one that it is.

    UserError when one that braces name is not there.
    """
    if (path := path_of(spec)).exists():
        return [path]
    if elsewhere := NO_PATH.match(spec):
        raise UserError(
            f"Images are read from files, not from {elsewhere[0][:-1]}: copy those of {spec} here, and give "
            "their folder, list or .tar shards."
        )
    found: list[Path] = []
    braced = list(itertools.islice(_braced(spec), MOST_BRACED + 1))
    if len(braced) > MOST_BRACED:
        raise UserError(f"{spec[:80]} names more than {counted(MOST_BRACED, 'file')}: give a folder or a list of them.")
    for one in braced:
        path = path_of(one)
        matching = [path] if path.exists() else sorted(map(Path, glob.glob(str(path))))
        if not matching and len(braced) > 1:
            raise UserError(
                f"There is no {one}, which {spec} names: check the path, or after a move run saetui relink OLD NEW."
            )
        found += matching
    return list(dict.fromkeys(found))


def is_there(spec: str) -> bool:
    """Whether a source is where ``spec`` says, whatever is in it."""
    try:
        return bool(meant(spec))
    except UserError:
        return False


_BRACES = re.compile(r"\{([^{}]*,[^{}]*|[0-9]{1,18}\.\.[0-9]{1,18}(?:\.\.[0-9]{1,18})?|[a-zA-Z]\.\.[a-zA-Z])\}")


def _braced(text: str) -> Iterator[str]:
    """As a shell expands braces: ``{a,b}``, ``{000..127}``, ``{0..9..3}``, ``{a..e}``."""
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    before, after = text[: found.start()], text[found.end() :]
    for option in _options(found[1]):
        yield from _braced(before + option + after)


def _options(inside: str) -> Iterable[str]:
    if "," in inside:
        return inside.split(",")
    first, last, *step = inside.split("..")
    if not (first.isascii() and first.isdigit()):
        return map(chr, _range(ord(first), ord(last), 1))
    width = max(len(first), len(last)) if "0" in (first[:1], last[:1]) else 0
    return (f"{number:0{width}d}" for number in _range(int(first), int(last), int(step[0]) if step else 1))


def _range(first: int, last: int, step: int) -> range:
    step = max(step, 1)
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)


def _folders_of(paths: list[Path]) -> list[tuple[str, ...]]:
    """Of each path, the folders below what all have in common: as if that had been given. None for a single one."""
    if len(paths) == 1:
        return [()]
    whole = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath(map(os.path.dirname, whole))
    return [Path(os.path.relpath(path, root)).parts for path in whole]


def _told_apart(entries: list[ImageEntry]) -> list[ImageEntry]:
    """With the folders of shards in their paths where two have one name."""
    shards = dict.fromkeys(one.file for one in entries if one.offset or one.member)
    if len({os.path.basename(file) for file in shards}) == len(shards):
        return entries
    root = os.path.commonpath(map(os.path.dirname, shards))
    names = {file: os.path.relpath(file, root) for file in shards}
    return [
        replace(one, path=names[one.file] + one.path[len(os.path.basename(one.file)) :]) if one.file in names else one
        for one in entries
    ]


def _tree(root: Path, names: tuple[str, ...], listing: Listing) -> None:
    """Depth first, every folder in the order of its names. Millions of files: hence strings and directory entries."""
    missing: set[str] = set()
    file, called = _called(root, listing)
    named, unnamed = set[str](), set[str]()

    def visit(folder: str, names: tuple[str, ...], around: frozenset[str], known: Mapping[str, Class]) -> None:
        here = of_folders(tuple(called[name].name if name in called else name for name in names))
        others = [called[name] for name in names if name in called]
        also = tuple(itertools.chain.from_iterable(one.also for one in others))
        real = os.path.realpath(folder)
        if real in around:  # a link back up
            return
        children = _children(folder)
        for child in children:
            if child.name in METADATA:
                said = metadata(child.name, names, partial(read_text, Path(child.path)), listing)
                missing.update(said)
                known = {**known, **{path: one for path, one in said.items() if one.label}}
        for child in children:
            if _is_folder(child):
                visit(child.path, (*names, child.name), around | {real}, known)
            elif listing.takes(child.name):
                path = "/".join((*names, child.name))
                seen = stamp(child.path)
                missing.discard(path)
                own = known.get(path)
                size = seen[1] if seen else 0
                listing.entries.append(
                    ImageEntry(path, size, *(own or here), child.path, stamp=seen, also=() if own else also)
                )
                if file and names:
                    named.update(name for name in names if name in called)
                    unnamed.update(() if others else ["/".join(names)])

    visit(os.path.abspath(root), names, frozenset(), {})
    if missing:
        listing.left_out[NOT_THERE] += len(missing)
    listing.notes += _unmatched(file, sorted(unnamed), sorted(called.keys() - named))


def _unmatched(file: str, folders: Sequence[str], names: Sequence[str]) -> list[str]:
    """What is said of a file of names, and of the class folders, that do not fit together."""
    told, ways = [], []
    if folders:
        told.append(f"it does not name {counted(len(folders), 'folder')} of images, as {folders[0]}")
        ways.append("add those, or their classes are called as the folders are")
    if names:
        several = "names folders" if len(names) > 1 else "names a folder"
        told.append(f"it {several} without images, {len(names):,} in all, as {names[0]}")
        ways.append("correct or remove names without images; left as they are, they do no harm")
    return [f"{file} and the folders beside it differ: {'; '.join(told)}: {'; '.join(ways)}."] if told else []


def _called(root: Path, listing: Listing) -> tuple[str, dict[str, Called]]:
    """The file in ``root`` that says what folders are called, and what it says; an empty name where none does."""
    for path in (root / name for name in CLASS_NAMES):
        if path.is_file():
            try:
                return str(path), class_names(read_text(path))
            except UserError:
                listing.left_out[f"{path.name} that is not understood"] += 1
    return "", {}


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link to itself
        return False


def _children(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((c for c in found if not c.name.startswith(".")), key=lambda c: c.name)
    except OSError as error:
        raise UserError(f"Cannot read the directory {folder}: {reason(error)}.") from error


def _shards_in(folder: Path, names: tuple[str, ...], listing: Listing) -> None:
    """The tars in a directory and below it, else its zips."""
    files = list(_files(str(folder), frozenset()))
    for suffix, add in ((".tar", read_tar), (".zip", read_zip)):
        for path in (one for one in files if one.suffix.lower() == suffix):
            listing.left_out -= Counter({left_out(path.name) or "": 1})  # it was left out of a tree
            add(path, listing)
        if listing.entries:
            return


def _files(folder: str, around: frozenset[str]) -> Iterator[Path]:
    """Those in a directory and below it, in the order and over the links of a tree."""
    real = os.path.realpath(folder)
    if real in around:
        return
    for child in _children(folder):
        if _is_folder(child):
            yield from _files(child.path, around | {real})
        elif (path := Path(child.path)).is_file():
            yield path


def _image(path: Path, names: tuple[str, ...], listing: Listing) -> None:
    if listing.takes(path.name):
        seen = stamp(str(path))
        listed = str(path) if names else path.name
        listing.entries.append(
            ImageEntry(listed, seen[1] if seen else 0, file=os.path.abspath(path), stamp=seen),
        )


def _is_tar(path: Path) -> bool:
    return path.is_file() and (".tar" in map(str.lower, path.suffixes) or path.suffix.lower() == ".tgz")


def _is_zip(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".zip"


def _is_image(path: Path) -> bool:
    return path.is_file() and bool(path.suffix) and (is_read(path.name) or left_out(path.name) is not None)


def _is_list(path: Path) -> bool:
    return path.is_file() and not (_is_tar(path) or _is_zip(path) or _is_image(path))


@dataclass(frozen=True)
class Source:
    """One way in which images are kept."""

    takes: Callable[[Path], bool]
    """Whether a path may be such a source."""
    add: Callable[[Path, tuple[str, ...], Listing], None]
    """Adds its images, in a fixed order; none where it is something else after all. UserError when it is damaged.

    It is also told which folders the path lies in, where it is one of several.
    """


SOURCES = (
    Source(Path.is_dir, _tree),
    Source(Path.is_dir, _shards_in),
    Source(_is_tar, lambda path, names, listing: read_tar(path, listing)),
    Source(_is_zip, lambda path, names, listing: read_zip(path, listing)),
    Source(_is_image, _image),
    Source(_is_list, lambda path, names, listing: read_list(path, names[:-1], listing)),
)
"""Asked in this order: the first that takes a path and finds images there."""
_SHORT = " ".join([*sorted(SUFFIXES)[:4], "..."])
