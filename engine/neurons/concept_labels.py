"""Which concepts images have: their class, each level of their taxonomy, and what a table says of them.

A table is a .csv with a header or a .jsonl, with a column ``path`` that names images as their source does. Every other
column gives concepts ``column=value``: a text, each text of a list; of yes and no, the column alone. Numbers, and
columns with more texts than half of the images, as captions, name no concept.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from engine.errors import UserError, reason
from engine.files import path_of
from engine.images.lists import read_text
from engine.neurons.results import ScoredImage
from engine.numbers import typed
from engine.records import parse_json

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}


def read_labels(spec: str) -> dict[str, tuple[str, ...]]:
    """The concepts of each path in a table. UserError for what is none."""
    path = path_of(spec)
    rows = dict(table_rows(path))
    seen: dict[str, set[str]] = defaultdict(set)
    for fields in rows.values():
        for column, value in fields.items():
            if isinstance(value, str) and value.strip().lower() not in _TRUTH:
                seen[column].add(value)
    prose = {column for column, values in seen.items() if len(values) > max(len(rows) / 2, 2)}
    found = {
        image: tuple(word for column, value in fields.items() if column not in prose for word in _words(column, value))
        for image, fields in rows.items()
    }
    if not any(found.values()):
        raise UserError(f"{spec} names no concepts: give it columns with words beside the column path.")
    return found


def table_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each line of a .csv, .tsv or .jsonl says of the image whose path it names. UserError for what is none."""
    text = read_text(path)
    records = _lines(path, text) if path.suffix.lower() == ".jsonl" else _table(path, text)
    for where, record in records:
        image = record.pop("path", None) if isinstance(record, dict) else None
        if not isinstance(image, str) or not image:
            raise UserError(f"{path} names no path in line {where}: each line must have one, as the images are listed.")
        yield image, record


def _lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                raise UserError(f"{path} is no JSON in line {number} ({reason(error)}): correct it.") from error


def _table(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    tabs = path.suffix.lower() == ".tsv"
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",")
    if "path" not in (rows.fieldnames or ()):
        raise UserError(f"{path} has no column path: its first line must name its columns, path among them.")
    try:
        for row in rows:
            yield rows.line_num, {key: value for key, value in row.items() if isinstance(key, str)}
    except csv.Error as error:
        raise UserError(f"{path} is no table ({reason(error)}): give a .csv with a header, or a .jsonl.") from error


def _words(column: str, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        value = _TRUTH.get(value.strip().lower(), value)
    if value is True:
        yield column
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and one.strip() and typed(one, float) is None:
            yield f"{column}={one.strip()}"


def concepts(
    images: Sequence[ScoredImage], labels: dict[str, tuple[str, ...]] | None = None
) -> tuple[list[str], Bool[np.ndarray, "N C"]]:
    """Names of the concepts, and which image has which. Of concepts that the same images have, the first.

    A class is ``class=...``, a taxon its path from the root, as ``animal/cat``.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        found = [f"class={image.label}"] if image.label else []
        found += ["/".join(image.taxonomy[:level]) for level in range(1, len(image.taxonomy) + 1)]
        for name in dict.fromkeys([*found, *(labels or {}).get(image.path, ())]):
            members[name].append(number)
    names = {tuple(numbers): name for name, numbers in reversed(members.items())}
    kept = [name for name, numbers in members.items() if names[tuple(numbers)] == name]
    has = np.zeros((len(images), len(kept)), bool)
    for c, name in enumerate(kept):
        has[members[name], c] = True
    return kept, has
