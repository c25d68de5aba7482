"""All artefacts of a workspace, for whoever lists them. Never raises, and reads little.

Of a store only the head of its manifest is read, and what was read of a file is kept for as long as the file stays as
it is.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.artefacts.entries import Entry, NeuronsEntry, RecipeEntry, SAEEntry, StoreEntry, read_entry
from engine.artefacts.kinds import ENTRY_OF
from engine.artefacts.results import ConceptsEntry, ResultEntry
from engine.artefacts.twins import Twins
from engine.errors import UserError
from engine.images.sources import is_there
from engine.kinds import ACTIVATIONS, EMBEDDINGS, NEURONS, RECIPES, RUNS, SAES
from engine.neurons.file import Neurons
from engine.workspace import Workspace, folders


@dataclass(frozen=True)
class SourceEntry:
    """An image source that artefacts or workspace.toml name, or a folder of the workspace's own."""

    spec: str
    images: int | None
    """How many; None where not known."""
    exists: bool
    used_by: tuple[str, ...]
    """Names of stores, neurons files and results."""


@dataclass(frozen=True)
class Inventory:
    """Every artefact of a workspace, by name."""

    stores: tuple[StoreEntry, ...] = ()
    embeddings: tuple[StoreEntry, ...] = ()
    saes: tuple[SAEEntry, ...] = ()
    neurons: tuple[NeuronsEntry, ...] = ()
    recipes: tuple[RecipeEntry, ...] = ()
    results: tuple[ResultEntry[Any], ...] = ()
    """Of whatever was measured of SAEs beside their scores."""
    sources: tuple[SourceEntry, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All artefacts, in the order in which one is made from another."""
        return (*self.stores, *self.embeddings, *self.saes, *self.neurons, *self.results, *self.recipes)

    @property
    def twins(self) -> Twins:
        """What its SAEs are held against; what is damaged is no control."""
        return Twins(self.saes, self.neurons, [one for one in self.results if isinstance(one, ConceptsEntry)])


def inventory(workspace: Workspace) -> Inventory:
    """What the workspace holds now. A damaged artefact is listed with its ``error``."""
    by = {kind: _entries(entry, kind.all_in(workspace.root)) for kind, entry in ENTRY_OF.items() if kind != RUNS}
    results = [one for found in by.values() for one in found if isinstance(one, ResultEntry)]
    found = Inventory(by[ACTIVATIONS], by[EMBEDDINGS], by[SAES], by[NEURONS], by[RECIPES], tuple(results))
    return replace(found, sources=_sources(workspace, found))


def _entries(entry: type[Entry], paths: Iterable[Path]) -> tuple[Any, ...]:
    return tuple(found for path in paths if (found := read_entry(entry, path)) is not None)


def _sources(workspace: Workspace, found: Inventory) -> tuple[SourceEntry, ...]:
    """Image sources by spec, each once, with whoever uses them."""
    images: dict[str, int | None] = {}
    users: dict[str, list[str]] = {}

    def add(spec: Any, count: int | None = None, *user: str) -> None:
        if isinstance(spec, str) and spec:
            known = images.get(spec)
            images[spec] = count if known is None else max(known, count or 0)
            users.setdefault(spec, []).extend(user)

    for store in (*found.stores, *found.embeddings):
        add(store.source, store.pictures, store.name)
    for scores in found.neurons:
        add(scores.source, None, scores.name)
    for result in found.results:
        for one in result.made_from:
            if one.kind == "images":
                add(one.path, None, f"{result.kind.folder}/{result.name}")
    for spec in _asked(workspace):
        add(spec)
    return tuple(
        SourceEntry(spec, images[spec], is_there(spec), tuple(dict.fromkeys(users[spec]))) for spec in sorted(images)
    )


def _asked(workspace: Workspace) -> Iterator[Any]:
    with contextlib.suppress(UserError):  # commands say so; a listing goes on
        yield workspace.defaults().get("images")
    yield from map(str, folders(workspace.root / "images"))


def sources(workspace: Workspace, neurons: str) -> list[str]:
    """Image sources of the workspace: what was scored, its default, and its own folders; each once."""
    found = []
    if neurons:
        with Neurons.open(neurons) as opened:
            found.append(opened.summary.settings.images)
    if default := workspace.defaults().get("images"):
        found.append(str(default))
    found += map(str, folders(workspace.root / "images"))
    return list(dict.fromkeys(found))


def first_source(workspace: Workspace, neurons: str) -> str:
    """The first of ``sources``; UserError when there is none."""
    found = sources(workspace, neurons)
    if not found:
        raise UserError("This workspace has no images of its own: o opens a file, :source FOLDER steps through one.")
    return found[0]
