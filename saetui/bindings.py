"""Key bindings of the workbench: each has an id, by which it is remapped, searched and explained."""

import difflib
import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

from textual.binding import Binding

DECLARED: dict[str, str] = {}
"""The keys of every binding of the modules that are loaded, with commas between them, by id."""
EVERYWHERE = {"app", "pane", "table"}
"""Places of ids whose keys work in every mode."""
_INSIDE = {"rack": "steer", "outline": "hierarchy"}
_DIALOGS = {"ask", "text", "pick", "form", "choice", "path", "help", "jobs", "rows", "versions"}
_LISTS = {"pick", "jobs", "rows", "versions"}  # dialogs with a table


def key(id: str, keys: str, action: str, description: str, *, show: bool = False, priority: bool = False) -> Binding:
    """A binding with an ``id`` (``place.verb``). ``show``: the key bar shows it; help lists all bindings."""
    DECLARED[id] = keys
    return Binding(keys, action, description, show=show, priority=priority, id=id)


def mistakes(remapped: Mapping[str, str]) -> list[str]:
    """What is wrong with keys that a person has given, by id: names of nothing, and keys that are bound twice.

    Loads every module that has bindings: for a thread, and only where some are remapped.
    """
    _load()
    unknown = [_unknown(id) for id in remapped if id not in DECLARED]
    now = DECLARED | {id: keys for id, keys in remapped.items() if id in DECLARED}
    before = set(_twice(DECLARED))
    return unknown + [
        f"{shown} is bound to both {one} and {other}: give one of them another key under [keys]."
        for shown, one, other in _twice(now)
        if (shown, one, other) not in before
    ]


def _load() -> None:
    for package in ("saetui.modes", "saetui.widgets"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    importlib.import_module("saetui.app")


def _unknown(id: str) -> str:
    near = difflib.get_close_matches(id, DECLARED, n=2, cutoff=0.5)
    return f"[keys] has {id!r}, which is no id: " + (
        f"did you mean {' or '.join(near)}?" if near else "? in the workbench lists them."
    )


def _twice(bound: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Keys that two ids have which may be active at once, with the ids."""
    owners: dict[str, list[str]] = defaultdict(list)
    for id, keys in bound.items():
        for one in {part.strip() for part in keys.split(",")} - {""}:
            owners[one].append(id)
    for one, ids in owners.items():
        yield from ((one, first, second) for first, second in combinations(sorted(ids), 2) if _meet(first, second))


def _meet(one: str, other: str) -> bool:
    """Whether the keys of both ids may work at the same time."""
    here, there = (id.partition(".")[0] for id in (one, other))
    if here == there:
        return True
    if here in EVERYWHERE or there in EVERYWHERE:
        if not {here, there} & _DIALOGS:
            return True
        return "table" in (here, there) and bool({here, there} & _LISTS)
    return _INSIDE.get(here) == there or _INSIDE.get(there) == here
