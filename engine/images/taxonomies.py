"""A taxonomy that no folder spells: a table of parents, or WordNet. The class of an image is looked up in it.

A table is a ``.csv`` with columns ``child`` and ``parent``; a parent that is nobody's child is a root. A class is
found by its whole name, else by its last part, else by the folder of its images, else by another name of it. Names must
be unique: where one has two parents, nothing says which is meant. WordNet is that of nltk, where it and its data are
installed; nothing is downloaded.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from engine.errors import UserError, reason
from engine.files import path_of, value_sha256
from engine.images.lists import read_text
from engine.integrity import content_sha256

_SYNSET = re.compile(r"n\d{8}")


@runtime_checkable
class ClassTaxonomy(Protocol):
    """What says where a class lies."""

    sha256: str

    def path(self, label: str | None, folder: str = "", also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """From the root down to the class; () for one that is not known. ``folder``: where its images are, whose name
        may be a number that ``label`` says in words; ``also``: other names of the class."""


def open_taxonomy(table: str, wordnet: bool) -> ClassTaxonomy | None:
    """None where neither is asked for. UserError for both, a table that is no tree, and where there is no WordNet."""
    if table and wordnet:
        raise UserError("A table and WordNet are two taxonomies: give --taxonomy or --wordnet.")
    return WordNet() if wordnet else ParentTable(table) if table else None


class WordNet:
    """The hypernyms of nouns. A class is a synset by its number, as ImageNet's folder ``n02123045``, else the first
    sense of its last part. Of several ways up the shortest one, the first by name of equals."""

    def __init__(self) -> None:
        try:
            from nltk.corpus import wordnet

            wordnet.ensure_loaded()
        except ImportError as error:
            raise UserError(
                "WordNet needs nltk: install it (pip install nltk), or give a table to --taxonomy."
            ) from error
        except LookupError as error:
            raise UserError(
                "nltk has no WordNet here: get its data (nltk.download('wordnet')), or give a table to --taxonomy."
            ) from error
        self._wordnet = wordnet
        self.sha256 = value_sha256(["WordNet", wordnet.get_version()])

    def path(self, label: str | None, folder: str = "", also: tuple[str, ...] = ()) -> tuple[str, ...]:
        word = folder if label and _SYNSET.fullmatch(folder) else (label or "").rpartition("/")[2]
        if _SYNSET.fullmatch(word):
            try:
                with warnings.catch_warnings(action="ignore"):
                    found = [self._wordnet.synset_from_pos_and_offset("n", int(word[1:]))]
            except Exception:  # what a number that is none's raises depends on where in its file it points
                found = []
        else:
            found = self._wordnet.synsets(word.replace(" ", "_"), pos="n")
        if not found or found[0] is None:
            return ()
        ways = [tuple(one.name() for one in way) for way in found[0].hypernym_paths()]
        return min(ways, key=lambda way: (len(way), way))


class ParentTable:
    """UserError for what is no tree."""

    def __init__(self, spec: str):
        path = path_of(spec)
        self.sha256, self._parent = "", dict[str, str]()
        for line, child, parent in _rows(path):
            other = self._parent.setdefault(child, parent)
            if other != parent:
                raise UserError(
                    f"{path} gives {child!r} a second parent in line {line}, {parent!r} after {other!r}: tell the two "
                    "apart by other names, or keep one."
                )
        if not self._parent:
            raise UserError(f"{path} has no rows: give one with child and parent on each line.")
        self._check_ends(path)
        self._known = {*self._parent, *self._parent.values()}
        self.sha256 = content_sha256(path)

    def _check_ends(self, path: Path) -> None:
        ends: set[str] = set()
        for name in self._parent:
            above: dict[str, None] = {}
            while name in self._parent and name not in ends:
                if name in above:
                    raise UserError(f"{path} makes {name!r} an ancestor of its own: correct that.")
                above[name] = None
                name = self._parent[name]
            ends |= above.keys()

    def path(self, label: str | None, folder: str = "", also: tuple[str, ...] = ()) -> tuple[str, ...]:
        """From the root down to the class; () for one that is not in the table."""
        names = (label, label.rpartition("/")[2], folder, *also) if label else ()
        name = next((one for one in names if one in self._known), None)
        found: list[str] = []
        while name:
            found.append(name)
            name = self._parent.get(name)
        return tuple(reversed(found))


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a .csv with columns child and parent.")
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if missing := [name for name in ("child", "parent") if name not in (rows.fieldnames or ())]:
        raise UserError(f"{path} has no column {missing[0]}: its first line must be child,parent.")
    try:
        for row in rows:
            child, parent = ((row[name] or "").strip() for name in ("child", "parent"))
            if child and parent:
                yield rows.line_num, child, parent
            elif not child:
                raise UserError(f"{path} names no child in line {rows.line_num}: give child and parent.")
    except csv.Error as error:
        raise UserError(f"{path} is no table ({reason(error)}): give a .csv with columns child and parent.") from error
