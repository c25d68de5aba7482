"""Lists of images: a line, row or record an image, with its class. Paths are relative to the list."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from engine import files
from engine.errors import UserError, reason
from engine.images.classes import Class, of_record, of_text
from engine.images.entry import ImageEntry, Listing, stamp
from engine.images.kinds import is_read
from engine.records import parse_json

TABLES = (".csv", ".tsv")
LONGEST = 1 << 30  # bytes of a list: about ten million images
METADATA = ("metadata.csv", "metadata.jsonl")
"""Of an image folder of Hugging Face: rows with ``file_name``, relative to their folder, and a class."""
CLASS_NAMES = ("classes.txt", "LOC_synset_mapping.txt")
"""Of an image folder: what its folders are called, ``n01440764 tench, Tinca tinca`` a line, as ImageNet has it."""
NOT_THERE = "named in metadata and not there"
_PATH = ("path", "file_name", "filename", "file", "image", "image_path", "filepath")
_DELIMITERS = ",\t;"
csv.field_size_limit(LONGEST)  # a caption may be long
GAPS = 64  # of a line that are tried as the end of its path
_QUOTED = re.compile(r'("[^"]+")(?:[;\s]\s*(.*))?')  # with commas csv knows how
_GAP = re.compile(r"\s*[,;\s]\s*")


def read_list(path: Path, folders: Sequence[str], listing: Listing) -> None:
    """Add the images that a list names, whether they are there or not. UserError when it is none.

    ``folders``: those that tell it from other lists, which go before the names of its images.
    """
    folder = os.path.abspath(path.parent)
    for name, said in _rows(path, read_text(path)):
        file = os.path.join(folder, os.path.expanduser(name))
        seen = stamp(file)
        inside = name if name.startswith(("/", "~")) else "/".join((*folders, name))
        listing.entries.append(ImageEntry(inside, seen[1] if seen else 0, *said, file, stamp=seen))


def read_text(path: Path) -> str:
    """What a list holds. UserError when it cannot be read."""
    try:
        text = files.read_text(path, LONGEST, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if "\0" in text:
        raise UserError(f"{path} is not a list of images (it holds zero bytes): give a text or CSV file.")
    return text


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a readable list of images ({reason(error)}): give a text or CSV file.")


def metadata(name: str, folders: Sequence[str], read: Callable[[], str], listing: Listing) -> dict[str, Class]:
    """What a file ``name`` (of METADATA) in ``folders`` says of images, by path; nothing if it is not understood."""
    try:
        return {"/".join((*folders, os.path.normpath(one))): said for one, said in _rows(Path(name), read())}
    except UserError:
        listing.left_out[f"{name} that is not understood"] += 1
        return {}


class Called(NamedTuple):
    """What a folder is called."""

    name: str
    also: tuple[str, ...]
    """The folder's own name, and other words for it."""


def class_names(text: str) -> dict[str, Called]:
    """What folders are called, by their names: the first of the words for it that is no other folder's, too, else all
    of them, else these and the folder's name."""
    lines = (line.strip().split(None, 1) for line in text.split("\n"))
    called = {line[0]: line[1].replace("/", "-") for line in lines if len(line) == 2}  # a slash would be a folder
    first = {folder: words.split(",")[0].strip() for folder, words in called.items()}
    firsts, wholes = Counter(first.values()), Counter(called.values())
    alike = {folder: words if wholes[words] == 1 else f"{words} {folder}" for folder, words in called.items()}
    names = {folder: one if firsts[one] == 1 else alike[folder] for folder, one in first.items()}
    others = {folder: (folder, *map(str.strip, words.split(","))) for folder, words in called.items()}
    return {
        folder: Called(name, tuple(dict.fromkeys(one for one in others[folder] if one and one != name)))
        for folder, name in names.items()
    }


def _rows(path: Path, text: str) -> Iterator[tuple[str, Class]]:
    """Path and class of each image of a list. UserError when it names no paths."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return _records(path, text)
    if suffix == ".json":
        return _array(path, text)
    return _table(path, text) if suffix in TABLES else _lines(path.parent, text)


def _array(path: Path, text: str) -> Iterator[tuple[str, Class]]:
    """A JSON array of records; or a record a line, which some call .json as well."""
    try:
        records = parse_json(text)
    except ValueError:
        yield from _records(path, text)
        return
    if not isinstance(records, list):
        raise UserError(
            f"{path} is no list of images, but one JSON {'object' if isinstance(records, dict) else 'value'}: give an "
            "array of objects with path or file_name, and label, or a .jsonl with one a line."
        )
    for number, record in enumerate(records, 1):
        yield _record(path, f"item {number}", record)


def _records(path: Path, text: str) -> Iterator[tuple[str, Class]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                record = parse_json(line)
            except ValueError as error:
                raise UserError(f"{path} is no JSON in line {number} ({reason(error)}): correct it.") from error
            yield _record(path, f"line {number}", record)


def _record(path: Path, where: str, record: Any) -> tuple[str, Class]:
    fields = {str(key).strip().lower(): value for key, value in record.items()} if isinstance(record, dict) else {}
    name = next(filter(None, (_written(fields.get(key)) for key in _PATH)), "")
    if not name:
        raise UserError(f"{path} names no path in {where}: each must have a path or file_name.")
    return name, of_record(record)


def _written(value: Any) -> str:
    """A path in a record, also as Hugging Face writes images: ``{"path": ..., "bytes": null}``; empty for none."""
    if isinstance(value, dict):
        value = value.get("path")
    return str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _named(record: Mapping[str, Any]) -> str | None:
    """The key under which the path is."""
    keys = {str(key).strip().lower(): key for key in record}
    return next((keys[name] for name in _PATH if name in keys), None)


def _table(path: Path, text: str) -> Iterator[tuple[str, Class]]:
    """With a header that names the path, or with paths in the first column and classes in the second."""
    for delimiter in _DELIMITERS:
        try:
            table = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
        except csv.Error as error:
            raise _unreadable(path, error) from error
        if table and (column := _named(dict.fromkeys(table[0]))) is not None:
            return _below(table, table[0].index(column))
        if table and is_read(table[0][0]) and not any(other in table[0][0] for other in _DELIMITERS):
            return ((row[0], of_text(delimiter.join(row[1:]))) for row in table)
    raise UserError(f"{path} has no column named path: its first line must be path or path,class.")


def _below(table: list[list[str]], column: int) -> Iterator[tuple[str, Class]]:
    header = table[0]
    for row in table[1:]:
        if len(row) > len(header) > 1:  # a comma in the last column that nobody quoted
            row = [*row[: len(header) - 1], ",".join(row[len(header) - 1 :])]
        if len(row) > column and row[column].strip():
            yield row[column].strip(), of_record(dict(zip(header, row, strict=False)))


def _lines(folder: Path, text: str) -> Iterator[tuple[str, Class]]:
    for line in filter(None, map(str.strip, text.split("\n"))):
        name, label = _split(folder, line)
        yield _unquoted(name), of_text(_unquoted(label))


def _split(folder: Path, line: str) -> tuple[str, str]:
    """The path and the class in a line: a tab, comma, semicolon or space apart.

    Either may hold commas and spaces: the path ends where a file is, else where an image's suffix does.
    """
    if "\t" in line:
        name, _, label = line.partition("\t")
        return name, label
    if (quoted := _QUOTED.fullmatch(line)) and not (folder / line).exists():
        return quoted[1], quoted[2] or ""
    if line.startswith('"') and len(cells := next(csv.reader([line], skipinitialspace=True), [])) > 1:
        return cells[0], ",".join(cells[1:])
    ends = [(line[: gap.start()], line[gap.end() :]) for gap in islice(_GAP.finditer(line), GAPS)]
    likely = [(name, label) for name, label in [*ends, (line, "")] if is_read(name)]
    if len(likely) != 1:
        there = [one for one in likely or [(line, ""), *ends] if os.path.exists(folder / one[0])]
        name, _, label = line.rpartition(",") if "," in line else (line, "", "")
        return (there or likely or [(name, label)])[0]
    return likely[0]


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1] else text
