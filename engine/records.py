"""Typed records to JSON values and back: the one border between what a file or a pipe holds and what code handles.

A record is a frozen dataclass of plain values, records, tuples and mappings of these. A closed union of records is
told apart by the field ``kind`` on the wire: see :func:`union`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import UserError

T = TypeVar("T")


@functools.cache
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    converter = make_converter(omit_if_default=False, prefer_attrib_converters=False)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    for kind in (str, int, bool):  # no value is repaired by guessing
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(float, _number)
    return converter


def _strict(kind: type[Any]) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def union(tags: dict[str, type[Any]], kinds: Any) -> None:
    """Let ``kinds``, a union of records, travel as JSON objects whose ``kind`` is a key of ``tags``."""
    from cattrs.strategies import configure_tagged_union

    names = {record: tag for tag, record in tags.items()}
    configure_tagged_union(kinds, _converter(), tag_name="kind", tag_generator=names.__getitem__)


def to_json(record: Any, kinds: Any = None) -> Any:
    """``record`` as JSON values; of a union (``kinds``), with its ``kind``."""
    return _converter().unstructure(record, unstructure_as=kinds)


def from_json(kind: Any, value: Any, where: str) -> Any:
    """The record of type ``kind`` in the JSON ``value``. Unknown fields are passed over, as newer writers add some.

    UserError, in which ``where`` names the place, for a value that is no such record.
    """
    try:
        return _converter().structure(value, kind)
    except Exception as error:
        raise UserError(f"{where} is damaged ({'; '.join(_reasons(error))}): make it again.") from error


def _reasons(error: BaseException) -> Sequence[str]:
    from cattrs import transform_error

    return transform_error(error, path="it")[:3]
