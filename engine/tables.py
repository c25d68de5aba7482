"""Tables for other programs: CSV and JSON, with numbers as they are, whatever room a column of the screen has."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import utf8, write_text
from engine.literal import literal
from engine.numbers import typed

DIGITS = 7  # of a number in CSV, those that a float32 has
SUFFIXES = (".csv", ".json")
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r")
"""What a spreadsheet takes for the beginning of a formula, wide forms included: OWASP, CSV injection."""


@dataclass(frozen=True)
class TableOfValues:
    """Rows under headings, of one length. A value is a text, a number, None, or a list of texts."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @classmethod
    def of(cls, records: Sequence[dict[str, Any]]) -> "TableOfValues":
        """A column for each name that any of the ``records`` has."""
        headings = list(dict.fromkeys(name for record in records for name in record))
        return cls(headings, [[record.get(name) for name in headings] for record in records])

    def csv(self) -> str:
        """One line a row. Undefined numbers are empty; what a spreadsheet would run as a formula stays text."""
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow([_text(heading) for heading in self.headings])
        writer.writerows([_cell(value) for value in row] for row in self.rows)
        return lines.getvalue()

    def json(self) -> str:
        """A list with an object for each row; null for undefined numbers."""
        rows = [dict(zip(self.headings, map(_known, row), strict=True)) for row in self.rows]
        return utf8(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)).decode() + "\n"


def check_suffix(path: Path) -> None:
    """UserError for a file whose name does not say what is to be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path.name!r} ends in neither .csv nor .json: give a file that does.")


def write_table(path: Path, table: TableOfValues) -> None:
    """Write ``table`` in the format that the name of ``path`` says. UserError for another one, and OSError."""
    check_suffix(path)
    write_text(path, table.json() if path.suffix.lower() == ".json" else table.csv())


def _cell(value: Any) -> str:
    match _known(value):
        case None:
            return ""
        case bool(truth):
            return "yes" if truth else "no"
        case float(number):
            return f"{number:.{DIGITS}g}"
        case int(number):
            return str(number)
        case list() | tuple() as several:
            return _text(" · ".join(map(str, several)))
        case text:
            return _text(str(text))


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(text: str) -> str:
    """``text`` that neither a terminal nor a spreadsheet obeys: the latter shows no quote that stands before a cell."""
    begins = text.lstrip(" \n").startswith(_FORMULA)
    shown = "\n".join(map(literal, text.split("\n")))
    return f"'{shown}" if begins and typed(text, float) is None else shown
