"""Typed records to JSON values and back: the one border between what a file or a pipe holds and what code handles.

A record is a frozen dataclass of plain values, records, tuples and mappings of these. A closed union of records is
told apart by the field ``kind`` on the wire: see :func:`union`. :func:`seldom` and :func:`beside` are fields that lie
otherwise on the wire than in the record. A record that was written otherwise once has a static method ``renewed``: of
the object in its JSON, it as it is written now.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import field, fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from engine.errors import UserError

T = TypeVar("T")
_BRIEF = 40  # characters of a wrong value that its refusal shows
DEEPEST = 64  # values within values in JSON: what is nested as deep as Python can read cannot be written again


def parse_json(text: str | bytes) -> Any:
    """The value in JSON from outside. ValueError for whatever is wrong with it, as for values nested too deeply."""
    deep = ValueError("its values are nested too deeply")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise deep from error
    level = _inside([value])
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return value
    raise deep


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    """The objects and lists in it."""
    return [one for one in (value.values() if isinstance(value, dict) else value) if isinstance(one, dict | list)]


def seldom(default: Any = None) -> Any:
    """A field that is left out of the JSON while it has its default."""
    return field(default=default, metadata={"json": "seldom"})


def beside() -> Any:
    """A field that maps names to numbers (or None), which lie beside the other fields in the JSON, not within one."""
    return field(default_factory=dict, metadata={"json": "beside"})


@functools.cache
def _converter() -> Any:
    from cattrs.preconf.json import make_converter

    converter = make_converter(omit_if_default=False, prefer_attrib_converters=False)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    for kind in PLAIN:
        converter.register_structure_hook(kind, _strict)
    converter.register_unstructure_hook_factory(lambda kind: bool(_marked(kind)), lambda kind: _writer(kind, converter))
    converter.register_structure_hook_factory(lambda kind: "beside" in _marked(kind).values(), _reader(converter))
    converter.register_structure_hook_factory(lambda kind: hasattr(kind, "renewed"), _renewing(converter))
    return converter


def _marked(kind: Any) -> dict[str, str]:
    """The fields of ``kind`` that lie otherwise in the JSON, and how."""
    known = fields(kind) if isinstance(kind, type) and is_dataclass(kind) else ()
    return {one.name: one.metadata["json"] for one in known if "json" in one.metadata}


def _writer(kind: type[Any], converter: Any) -> Callable[[Any], dict[str, Any]]:
    from cattrs.gen import make_dict_unstructure_fn, override

    marked = _marked(kind)
    seldoms: Any = {name: override(omit_if_default=True) for name, how in marked.items() if how == "seldom"}
    plain = make_dict_unstructure_fn(kind, converter, **seldoms)
    besides = [name for name, how in marked.items() if how == "beside"]

    def write(record: Any) -> dict[str, Any]:
        values = plain(record)
        for name in besides:
            values |= values.pop(name)
        return values

    return write


def _reader(converter: Any) -> Callable[[type[Any]], Callable[[Any, Any], Any]]:
    from cattrs.gen import make_dict_structure_fn

    def reader(kind: type[Any]) -> Callable[[Any, Any], Any]:
        plain = make_dict_structure_fn(kind, converter)
        (name,) = (name for name, how in _marked(kind).items() if how == "beside")
        others = {one.name for one in fields(kind)} - {name}

        def read(value: Any, _: Any) -> Any:
            own = {key: found for key, found in value.items() if key in others}
            free = {key: found for key, found in value.items() if key not in others and _measured(found)}
            return plain(own | {name: free}, kind)

        return read

    return reader


def _renewing(converter: Any) -> Callable[[type[Any]], Callable[[Any, Any], Any]]:
    from cattrs.gen import make_dict_structure_fn

    def reader(kind: type[Any]) -> Callable[[Any, Any], Any]:
        plain = make_dict_structure_fn(kind, converter)
        return lambda value, _: plain(kind.renewed(value) if isinstance(value, dict) else value, kind)

    return reader


def _measured(value: Any) -> bool:
    return value is None or type(value) in (int, float)


PLAIN: dict[type[Any], str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def plain(value: Any, kind: type[T]) -> T | None:
    """``value`` if it is a ``kind``, one of ``PLAIN``; None if it is not. A whole number may stand for a float."""
    fits = isinstance(value, bool) is (kind is bool) and isinstance(value, (int, float) if kind is float else kind)
    try:
        return kind(value) if fits else None  # type: ignore[call-arg]  # each of PLAIN takes a value
    except OverflowError:  # a whole number that is too large for a float
        return None


def _strict(value: Any, kind: type[T]) -> T:
    found = plain(value, kind)
    if found is None:
        raise UserError(f"{brief(value)} is not {PLAIN[kind]}")
    return found


def brief(value: Any) -> str:
    """A value that is wrong, as JSON, to quote inside a sentence."""
    try:
        text = json.dumps(value, default=str)
    except (RecursionError, ValueError):  # nested too deeply, or of too many digits to be written
        return "a number of thousands of digits" if isinstance(value, int) else "nested too deeply"
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 3]}..."


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
    """The first three things that are wrong, each as ``field.in.field: what``."""
    from cattrs import transform_error

    found = (reason.rpartition(" @ it") for reason in transform_error(error, "it", _phrase))
    return [f"{place.lstrip('.')}: {what}" if place else what for what, _, place in islice(found, 3)]


def _phrase(error: BaseException, kind: Any) -> str:
    if isinstance(error, UserError):
        return str(error)
    if get_origin(kind) is Literal:
        return f"none of {', '.join(map(str, get_args(kind)))}"
    if isinstance(error, KeyError):
        return "missing" if kind else f"no known kind of record ({brief(error.args[0])})"
    return "of another form"
