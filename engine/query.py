"""The filter line of every table: ``ms>.5 freq<1% marked pencil OR NOT dead``.

    line      = all {"OR" all}
    all       = item {["AND"] item}              every one of them; a space is AND
    item      = "NOT" item | "(" line ")" | condition | property | text
    condition = field ("<" | "<=" | ">" | ">=" | "=" | "!=") value
    value     = number | number "%" | number "kB" ... "TB" | [h:]mm:ss | text, in which * stands for any | "text"

A field is the heading of a column, or another name of it. A property alone (``dead``) asks for the rows that have it,
``dead=0`` and ``NOT dead`` for the others. Other words are a text to search for, those of one ``all`` together, unless
AND stands between them; what stands in double quotes is always text (``"dead"``, ``"OR"``). OR, AND and NOT are
written in capitals. An undefined value (NaN) satisfies no condition, so NOT asks for it too. Equal to a decimal
fraction is what rounds to it: ``ms=.34`` asks for what a column shows as .34, from .335 to .345; ``k=4`` for 4, and a
setting, as a learning rate, for itself.

A line is understood as a whole or refused as a whole, in a sentence: no part of it is passed over.
"""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar, assert_never

from engine.errors import UserError
from engine.numbers import exact, typed

R = TypeVar("R")

Kind = Literal["number", "setting", "size", "time", "text", "property"]
"""What a field holds; settings are numbers that are shown in full, sizes are bytes, times seconds."""

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
DEEPEST = 40  # parentheses and NOTs within one another
MOST_NAMED = 8  # fields that a sentence lists where none is like the one that was written

_ALSO = {"≤": "<=", "≥": ">=", "≠": "!="}
_FIELD, _WORD = r"[^\s\"()<>=!≤≥≠]+", r"[^\s\"()<>=≤≥≠]+(?:\([^\s\"()<>=≤≥≠]*\)[^\s\"()<>=≤≥≠]*)*"
_PART = re.compile(
    rf"""
    "(?P<quoted>[^"]*)"?
    | (?P<bracket>[()])
    | (?P<field>{_FIELD})? \s* (?P<operator><=|>=|!=|[<>=≤≥≠]) (?: \s* "(?P<text>[^"]*)"? | \s* (?P<value>[^\s"()]+) )?
    | (?P<word>{_WORD})
    """,
    re.VERBOSE,
)
_SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SUFFIXED = re.compile(r"(?P<number>.*?)\s*(?P<unit>%|[kMGT]?B)?", re.DOTALL)
_TIME = re.compile(r"(?:(\d+):)?(\d+):([0-5]?\d)", re.ASCII)
_LIKE = {
    "number": "{}.5 or {}1%",
    "setting": "{}2 or {}3e-4",
    "size": "{}1.5GB",
    "time": "{}1:30 or {}90",
    "text": "{}word or {}word*",
    "property": "{}1 or {}0",
}


@dataclass(frozen=True)
class Condition:
    """One comparison that a row must satisfy."""

    field: str
    operator: str
    value: float | str
    exactly: bool = False
    """Whether only that very value is equal to it, and not what rounds to it."""

    def __str__(self) -> str:
        value = f'"{self.value}"' if isinstance(self.value, str) else exact(self.value)
        return f"{self.field}{self.operator}{value}"

    def holds(self, values: Any) -> Any:
        """For which of the rows' ``values`` of the field, an array of numbers or of texts, it holds; for NaN never."""
        if isinstance(self.value, str):
            return _fitting(values, self.value, wanted=self.operator == "=")
        if self.operator in ("=", "!=") and not self.exactly and (within := _half_a_digit(self.value)):
            return ((abs(values - self.value) <= within) == (self.operator == "=")) & (values == values)
        return OPERATORS[self.operator](values, self.value) & (values == values)


@dataclass(frozen=True)
class Words:
    """A text to search for."""

    text: str

    def __str__(self) -> str:
        return f'"{self.text}"'


@dataclass(frozen=True)
class Not:
    of: Expression

    def __str__(self) -> str:
        return f"NOT {_inside(self.of)}"


@dataclass(frozen=True)
class All:
    """Every one; without any, all rows."""

    of: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        between = " AND " if sum(isinstance(one, Words) for one in self.of) > 1 else " "
        return between.join(map(_inside, self.of))


@dataclass(frozen=True)
class Either:
    of: tuple[Expression, ...]

    def __str__(self) -> str:
        return " OR ".join(_inside(one) if isinstance(one, Either) else str(one) for one in self.of)


Expression = Condition | Words | Not | All | Either
ALL = All()


def _inside(one: Expression) -> str:
    """``one`` as a part of what holds its parts together more closely."""
    return f"({one})" if isinstance(one, All | Either) else str(one)


def _fitting(values: Sequence[str], pattern: str, wanted: bool) -> Any:
    """Which of ``values`` are ``pattern``, with ``*`` for any text; none of no text ever is.

    In capitals or not, its words joined by spaces, by ``_`` or by ``-``. Of a value of several lines one must be it.
    """
    import numpy as np

    fits = re.compile(fnmatch.translate(_spaced(pattern.replace("[", "[[]").replace("?", "[?]")))).match
    known = {value: bool(value) and any(map(fits, _spaced(value).split("\n"))) == wanted for value in set(values)}
    return np.fromiter(map(known.__getitem__, values), bool, len(values))


def _spaced(text: str) -> str:
    return text.casefold().replace("_", " ").replace("-", " ")


def holds(expression: Expression, column: Callable[[str], Any], found: Callable[[str], Any], rows: int) -> Any:
    """For which of the ``rows`` it holds. ``column``: the values of a field; ``found``: which rows a text finds."""
    match expression:
        case Condition():
            return expression.holds(column(expression.field))
        case Words(text):
            return found(text)
        case Not(of):
            return ~holds(of, column, found, rows)
        case All(parts) | Either(parts):
            import numpy as np

            every = isinstance(expression, All)
            shown = np.full(rows, every)
            for part in parts:
                shown = OPERATORS_OF[every](shown, holds(part, column, found, rows))
            return shown
        case _:
            assert_never(expression)


OPERATORS_OF = {True: operator.and_, False: operator.or_}


def texts(expression: Expression) -> list[str]:
    """The texts that it searches for, without those that must not be found."""
    match expression:
        case Words(text):
            return [text]
        case All(parts) | Either(parts):
            return [text for part in parts for text in texts(part)]
    return []


def asks_about(expression: Expression, field: str) -> bool:
    """Whether a condition of it is on ``field``."""
    match expression:
        case Condition():
            return expression.field == field
        case Not(of):
            return asks_about(of, field)
        case All(parts) | Either(parts):
            return any(asks_about(part, field) for part in parts)
    return False


@dataclass(frozen=True)
class Language:
    """What can be asked of one table. ``things``: its rows, in the plural."""

    things: str
    kinds: Mapping[str, Kind]
    """By the name of a field."""
    aliases: Mapping[str, Iterable[str]] = field(default_factory=dict)
    """Other names, as the heading of its column."""

    @property
    def named(self) -> dict[str, str]:
        """Every name in small letters, and the field that it means."""
        others = {name.lower(): one for one in self.kinds for name in self.aliases.get(one, ())}
        return others | {one.lower(): one for one in self.kinds}

    def parse(self, line: str) -> Expression:
        """UserError for what cannot be understood."""
        return _Reader(self, line).read()

    def condition(self, name: str, sign: str, given: str | None) -> Condition:
        """The one that was written; ``given`` is None where there is no value."""
        named = self.named
        if name.lower() not in named:
            near = difflib.get_close_matches(name.lower(), named, n=3, cutoff=0.5) or [*self.kinds][:MOST_NAMED]
            raise UserError(
                f"{self.things} have no {name!r} to compare: use {' or '.join(near)}, "
                "or put text that is searched for in double quotes."
            )
        one = named[name.lower()]
        kind = self.kinds[one]
        if kind == "text" and sign not in ("=", "!="):
            raise UserError(f"{one} is text and has no order: write {one}=word, {one}!=word or {one}=word*.")
        value = given if kind == "text" else _value(given or "", kind)
        if kind == "number" and isinstance(value, float) and name.endswith("%") and not str(given).endswith("%"):
            value /= 100  # as the column with that heading shows it
        if value is None or value == "":
            what = "text" if kind == "text" else "number"
            wrong = f"{given!r} is no {what}" if given else f"a {what} is missing"
            like = _LIKE[kind].replace("{}", one + sign)
            raise UserError(f"{wrong} after {one}{sign}: write it like {like}.")
        return Condition(one, sign, value, exactly=kind == "setting")


def _value(text: str, kind: Kind) -> float | None:
    if kind == "time" and (time := _TIME.fullmatch(text)):
        return 3600 * float(time[1] or 0) + 60 * float(time[2]) + float(time[3])
    parts = _SUFFIXED.fullmatch(text)
    assert parts is not None
    unit = parts["unit"] or ""
    number = typed(parts["number"], float) if not unit or unit == "%" or kind == "size" else None
    if number is None:
        return None
    return number / 100 if unit == "%" else number * _SIZES.get(unit, 1.0)


def _half_a_digit(value: float) -> float:
    """Half of one in the last place of a decimal fraction; 0 of a whole number."""
    places = -int(Decimal(f"{value:.15g}").normalize().as_tuple().exponent)
    return 0.5 * 10.0**-places * (1 + 1e-9) if places > 0 else 0.0  # .345 is no binary fraction


def _nothing() -> UserError:
    return UserError("Nothing stands behind NOT: write what must not hold, or put it in double quotes.")


class _Reader:
    """Reads one line from left to right."""

    def __init__(self, language: Language, line: str):
        self._language = language
        self._properties = {name: one for name, one in language.named.items() if language.kinds[one] == "property"}
        self._parts = list(_PART.finditer(line))
        self._at = 0

    def read(self) -> Expression:
        if not self._parts:
            return ALL
        found = self._line(0)
        if self._at < len(self._parts):
            raise UserError("A ) closes nothing: add the ( that it belongs to, or put it in double quotes.")
        return found

    @property
    def _word(self) -> str | None:
        """The word or bracket that comes next; None at the end and for all else."""
        if self._at == len(self._parts):
            return None
        part = self._parts[self._at]
        return part["bracket"] or part["word"]

    @property
    def _ends(self) -> bool:
        return self._at == len(self._parts) or self._word in ("OR", "AND", ")")

    def _line(self, depth: int) -> Expression:
        either = [self._all(depth)]
        while self._word == "OR":
            self._at += 1
            either.append(self._all(depth))
        if len(either) > 1 and ALL in either:
            raise UserError("Nothing stands between the double quotes beside OR: write what it joins.")
        flat = [one for part in either for one in (part.of if isinstance(part, Either) else (part,))]
        return flat[0] if len(flat) == 1 else Either(tuple(flat))

    def _all(self, depth: int) -> Expression:
        found = self._items(depth)
        while self._word == "AND":
            self._at += 1
            found += self._items(depth)
        flat = [one for part in found for one in (part.of if isinstance(part, All) else (part,))]
        return flat[0] if len(flat) == 1 else All(tuple(flat))

    def _items(self, depth: int) -> list[Expression]:
        """What stands side by side up to the next AND or OR; its words are one text, at the place of the first."""
        if self._ends:
            before = self._parts[self._at - 1][0] if self._at else self._word
            raise UserError(f"Nothing stands beside {before}: write what it joins, or put it in double quotes.")
        found: list[Expression] = []
        words: list[str] = []
        place = 0
        while not self._ends:
            part = self._parts[self._at]
            if part["quoted"] is None and self._speaks(part):
                found.append(self._item(depth))
                continue
            text = (part["quoted"] if part["quoted"] is not None else part["word"]).strip()
            place = place if words else len(found)
            words += [text] if text else []
            self._at += 1
        if words:
            found.insert(place, Words(" ".join(words)))
        return found

    def _speaks(self, part: re.Match[str]) -> bool:
        """Whether it is more than a text."""
        word = part["word"]
        return word is None or word == "NOT" or word.lower() in self._properties

    def _item(self, depth: int) -> Expression:
        """NOT and what follows it, a group, a condition, a property, or one word."""
        if depth > DEEPEST:
            raise UserError("This filter is nested too deeply: use fewer ( and NOT within one another.")
        if self._ends:
            raise _nothing()
        part = self._parts[self._at]
        self._at += 1
        if part["bracket"]:
            found = self._line(depth + 1)
            if self._word != ")":
                raise UserError("A ( is not closed: add the ) that it belongs to, or put it in double quotes.")
            self._at += 1
            return found
        if part["operator"]:
            if part["field"] is None:
                raise UserError(f"{part[0]!r} compares nothing: write a field before it, or put it in double quotes.")
            value = part["value"] if part["text"] is None else part["text"]
            sign = _ALSO.get(part["operator"], part["operator"])
            return self._language.condition(part["field"], sign, value)
        if part["quoted"] is not None:
            return Words(part["quoted"].strip()) if part["quoted"].strip() else ALL
        if part["word"] == "NOT":
            if (of := self._item(depth + 1)) == ALL:
                raise _nothing()
            return Not(of)
        if one := self._properties.get(part["word"].lower()):
            return Condition(one, "=", 1.0)
        return Words(part["word"])


def turned(field: str, sort: str) -> str:
    """The sort by ``field``, the other way round where it is the ``sort`` already."""
    return f"-{field}" if sort == field else field


@dataclass(frozen=True)
class RowField(Generic[R]):
    """A field of rows that are held as records."""

    kind: Kind
    of: Callable[[R], Any]
    """None where it is undefined."""
    aliases: tuple[str, ...] = ()


class Rows(Generic[R]):
    """The filter line, and the order, of a table whose rows are records."""

    def __init__(self, things: str, fields: Mapping[str, RowField[R]]):
        self.fields = fields
        kinds = {name: one.kind for name, one in fields.items()}
        self.language = Language(things, kinds, {name: one.aliases for name, one in fields.items()})

    def filtered(self, rows: Sequence[R], line: str) -> list[R]:
        """Those that ``line`` asks for, in their order. UserError for a line that cannot be understood."""
        expression = self.language.parse(line)
        if expression == ALL or not rows:
            return list(rows)
        shown = holds(
            expression, lambda name: self._column(rows, name), lambda text: self._found(rows, text), len(rows)
        )
        return [row for row, wanted in zip(rows, shown.tolist(), strict=True) if wanted]

    def ordered(self, rows: Sequence[R], name: str) -> list[R]:
        """As a table is sorted: texts and times upwards, numbers and sizes the largest first, the other way round
        after a minus; as they are for none."""
        return self.sorted(rows, name.removeprefix("-"), self._falls(name)) if name else list(rows)

    def _falls(self, sort: str) -> bool:
        """Whether what is sorted by ``sort`` begins with the largest."""
        one = sort.removeprefix("-")
        return (self.fields[self.language.named[one.lower()]].kind in ("number", "setting", "size")) != (one != sort)

    def clicked(self, heading: str, sort: str) -> str:
        """What a table that stands by ``sort`` is sorted by when the ``heading`` of a column is clicked: by that, and
        once more the other way round; as it was where nothing is sorted by that."""
        field = self.language.named.get(heading.lower())
        return turned(field, sort) if field else sort

    def falls(self, heading: str, sort: str) -> bool | None:
        """Of a table that stands by ``sort``: whether the column with that ``heading`` begins with the largest; None
        where the rows do not stand by it."""
        field = self.language.named.get(heading.lower())
        stands = bool(sort) and field == self.language.named[sort.removeprefix("-").lower()]
        return self._falls(sort) if stands else None

    def sorted(self, rows: Sequence[R], name: str, descending: bool = False) -> list[R]:
        """By a field or another name of it; undefined last, and equals as they were."""
        one = self.fields[self.language.named[name.lower()]]
        known = [row for row in rows if _known(one.of(row))]
        key = (lambda row: one.of(row).casefold()) if one.kind == "text" else one.of
        return sorted(known, key=key, reverse=descending) + [row for row in rows if not _known(one.of(row))]

    def records(self, rows: Sequence[R]) -> list[dict[str, Any]]:
        """What each field is in each of ``rows``, exactly; None where it is undefined."""
        values = [{name: one.of(row) for name, one in self.fields.items()} for row in rows]
        return [{name: one if _known(one) else None for name, one in row.items()} for row in values]

    def _column(self, rows: Sequence[R], name: str) -> Any:
        import numpy as np

        one = self.fields[name]
        values = [one.of(row) for row in rows]
        if one.kind == "text":
            return [value or "" for value in values]
        return np.array([np.nan if value is None else value for value in values], float)

    def _found(self, rows: Sequence[R], text: str) -> Any:
        """The rows that have every word of ``text`` in one of their texts."""
        import numpy as np

        words = text.casefold().split()
        texts = [one.of for one in self.fields.values() if one.kind == "text"]
        said = ["\n".join(str(of(row) or "") for of in texts).casefold() for row in rows]
        return np.array([all(word in one for word in words) for one in said], bool)


def _known(value: Any) -> bool:
    return value is not None and value == value
