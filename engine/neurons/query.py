"""The filter language of the table of latents: ``ms>.5 freq<1% marked pencil``.

Conditions are a field, one of ``< <= > >= = !=`` and a number, which may be a percentage; a property alone asks for
the latents that have it (``dead``), and ``=0`` for the others (``marked=0``). All of them must hold. The words that
remain are one text to search for; what stands in double quotes is always text (``"dead"``). Undefined values (NaN)
satisfy no comparison.
"""

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from engine.errors import UserError
from engine.neurons.quantities import FIELDS

PROPERTIES: dict[str, tuple[str, ...]] = {"marked": (), "labelled": ("labeled",), "alive": (), "dead": ()}
"""What a latent has (1) or has not (0)."""

ALIASES = {field: quantity.aliases for field, quantity in FIELDS.items()} | PROPERTIES
"""All that conditions may name, with other names for it."""

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}

_NAMED = {name: field for field, others in ALIASES.items() for name in (field, *others)}
_PART = re.compile(
    r"""
    "(?P<quoted>[^"]*)"?
    | (?P<field>\w+) \s* (?P<operator><=|>=|!=|<|>|=) (?: (?P<value>[^\s"]+) | \s+ (?P<later>[-+.\d][^\s"]*) )?
    | (?P<word>[^\s"]+)
    """,
    re.VERBOSE,
)
_VALUE = re.compile(r"(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)(?P<percent>%?)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Condition:
    """One comparison that a latent must satisfy."""

    field: str  #: one of ``quantities.FIELDS`` or ``PROPERTIES``
    operator: str
    value: float

    def holds(self, values: Shaped[np.ndarray, " w"]) -> Bool[np.ndarray, " w"]:
        """For which of the latents' ``values`` of the field it holds; for NaN never."""
        return OPERATORS[self.operator](values, self.value) & (values == values)


@dataclass(frozen=True)
class Query:
    """What a person asked the table for."""

    conditions: tuple[Condition, ...] = ()
    text: str = ""
    mistakes: tuple[str, ...] = ()  #: a sentence for each condition that was left out; only while typing

    @classmethod
    def parse(cls, text: str, typing: bool = False) -> "Query":
        """UserError for a condition that cannot be read; while ``typing`` it is left out, as it may be half typed."""
        conditions: list[Condition] = []
        words: list[str] = []
        mistakes: list[str] = []
        for part in _PART.finditer(text):
            word = part["word"]
            if part["field"] is not None:
                try:
                    conditions.append(_condition(part))
                except UserError as error:
                    if not typing:
                        raise
                    mistakes.append(str(error))
            elif word is not None and _NAMED.get(word.lower()) in PROPERTIES:
                conditions.append(Condition(_NAMED[word.lower()], "=", 1.0))
            else:
                words.append((part["quoted"] if word is None else word).strip())
        return cls(tuple(conditions), " ".join(filter(None, words)), tuple(mistakes))


def _condition(part: re.Match[str]) -> Condition:
    field = _NAMED.get(part["field"].lower())
    if field is None:
        near = difflib.get_close_matches(part["field"].lower(), _NAMED, n=3, cutoff=0.5)
        raise UserError(
            f"Latents have no {part['field']!r} to compare: use {' or '.join(near or FIELDS)}, "
            "or put text that is searched for in double quotes."
        )
    given = part["value"] or part["later"] or ""
    value = _VALUE.fullmatch(given)
    if value is None:
        wrong = f"{given!r} is no number" if given else "a number is missing"
        raise UserError(f"{wrong} after {field}{part['operator']}: write it like {field}{part['operator']}.5 or 1%.")
    return Condition(field, part["operator"], float(value["number"]) / (100 if value["percent"] else 1))
