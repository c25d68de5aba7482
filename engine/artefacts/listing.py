"""All artefacts of a workspace, for whoever lists them. Never raises, and reads little.

Of a store only the head of its manifest is read, and what was read of a file is kept for as long as the file stays as
it is.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.artefacts.entries import Entry, NeuronsEntry, RecipeEntry, SAEEntry, StoreEntry, read_entry
from engine.errors import UserError
from engine.images.sources import is_there
from engine.neurons.file import Neurons
from engine.workspace import Workspace, folders, neurons_files, recipe_files

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class SourceEntry:
    """An image source that artefacts or workspace.toml name, or a folder of the workspace's own."""

    spec: str
    images: int | None
    """How many; None where not known."""
    exists: bool
    used_by: tuple[str, ...]
    """Names of stores and neurons files."""


@dataclass(frozen=True)
class Inventory:
    """Every artefact of a workspace, by name."""

    stores: tuple[StoreEntry, ...] = ()
    embeddings: tuple[StoreEntry, ...] = ()
    saes: tuple[SAEEntry, ...] = ()
    neurons: tuple[NeuronsEntry, ...] = ()
    recipes: tuple[RecipeEntry, ...] = ()
    sources: tuple[SourceEntry, ...] = ()


def inventory(workspace: Workspace) -> Inventory:
    """What the workspace holds now. A damaged artefact is listed with its ``error``."""
    root = workspace.root
    found = Inventory(
        stores=_entries(StoreEntry, folders(root / "activations")),
        embeddings=_entries(StoreEntry, folders(root / "embeddings")),
        saes=_entries(SAEEntry, folders(root / "saes")),
        neurons=_entries(NeuronsEntry, sorted(neurons_files(workspace))),
        recipes=_entries(RecipeEntry, recipe_files(workspace)),
    )
    return replace(found, sources=_sources(workspace, found))


def _entries(kind: type[E], paths: Iterable[Path]) -> tuple[E, ...]:
    return tuple(entry for path in paths if (entry := read_entry(kind, path)) is not None)


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
        add(store.source, store.of_images, store.name)
    for scores in found.neurons:
        add(scores.source, None, scores.name)
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
