"""The class of an image and its taxonomy, from what stands beside it: folders, a class in words, a record of fields."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_INATURALIST = re.compile(r"\d+((?:_[^_]+){3,})")
_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
_PATHS = (("category", "subcategory"), ("supercategory", "category"), ("superclass", "class"))
_NAMES = ("class", "label", "class_name", "label_name", "cls", "category")


class Class(NamedTuple):
    """What an image shows."""

    label: str | None = None
    taxonomy: tuple[str, ...] = ()
    """From the root downwards; empty without one."""


def of_folders(folders: tuple[str, ...]) -> Class:
    """Folder names, joined, are the class."""
    return Class("/".join(folders) or None, taxonomy_of(folders))


def of_text(text: str) -> Class:
    """A class in words; ``a/b`` is what the folder b in the folder a would be."""
    return of_folders(tuple(name for part in text.strip().split("/") if (name := part.strip())))


def of_record(record: Mapping[str, Any]) -> Class:
    """The class that the fields of a row or of a JSON object give, none where they give none.

    The taxonomy is the field taxonomy (a list, or a/b); else kingdom to species; else category and subcategory,
    supercategory and category, superclass and class; else a label that is a list; else what the label spells. The label
    is the first of class, label, class_name, label_name, cls and category that is no part of the taxonomy, else the
    taxonomy, joined.
    """
    fields = {str(key).strip().lower().replace("-", "_"): value for key, value in record.items()}
    used, path = _path(fields)
    label = next((said for name in _NAMES if name not in used and (said := _word(fields.get(name)))), "")
    return Class(label or "/".join(path), path) if path else of_text(label)


def taxonomy_of(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The taxonomy path that folder names spell: an iNaturalist-style last name, else nested folders."""
    match = _INATURALIST.fullmatch(folders[-1]) if folders else None
    if match:
        names = match[1].split("_")[1:]
        last = len(_RANKS) - 1  # a species may have underscores in its name
        return (*names[:last], "_".join(names[last:])) if len(names) > last else tuple(names)
    return folders if len(folders) > 1 else ()


def _path(fields: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that spell a taxonomy, and the taxonomy."""
    said = fields.get("taxonomy")
    parts = said if isinstance(said, list) else _word(said).split("/")
    if path := tuple(filter(None, map(_word, parts))):
        return ("taxonomy",), path
    if _word(fields.get("kingdom")):
        return _RANKS, tuple(word for rank in _RANKS if (word := _word(fields.get(rank))))
    for pair in _PATHS:
        words = tuple(_word(fields.get(name)) for name in pair)
        if all(words):
            return pair, words
    for name in _NAMES:
        if isinstance(listed := fields.get(name), list) and (path := tuple(filter(None, map(_word, listed)))):
            return (name,), path
    return (), ()


def _word(value: Any) -> str:
    """A field as text; empty for what is no name: nothing, true, a list."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or isinstance(value, (bool, list, dict)) else str(value).strip()
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # JSON may hold half a character
