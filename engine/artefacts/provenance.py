"""One artefact, what it came from, and whether that is still what it was."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.activations.manifest import FILE as MANIFEST
from engine.activations.store import Store
from engine.artefacts.entries import (
    Entry,
    NeuronsEntry,
    Origin,
    RecipeEntry,
    RunEntry,
    SAEEntry,
    StoreEntry,
    read_entry,
)
from engine.errors import UserError
from engine.files import path_of
from engine.integrity import content_sha256
from engine.places import workspace_of
from engine.records import to_json
from engine.sae.config import CONFIG, TRAINING, weights_sha256
from engine.workspace import Workspace

_FOLDERS = {"activations": "activations", "embeddings": "embeddings", "sae": "saes", "saes": "saes"}  # by kind


@dataclass(frozen=True)
class Description:
    """An artefact, and the tree of what it was made from, by content hash."""

    entry: Entry
    chain: tuple[Origin, ...]

    def to_json(self) -> dict[str, Any]:
        entry = self.entry
        about = {"kind": entry.KIND, "name": entry.name, "path": str(entry.path)}
        return about | entry.to_json() | {"chain": to_json(self.chain)}


def describe(given: str, workspace: Workspace) -> Description:
    """The artefact at the path, or of the name, ``given``. UserError when there is none or it is damaged."""
    path = find(given, workspace)
    entry, home = _read(path), workspace_of(path)
    return Description(entry, tuple(_now(one, home) for one in entry.made_from))


def find(given: str, workspace: Workspace) -> Path:
    """The artefact that ``given`` names: a path, or a name in the workspace that only one artefact has."""
    for path in (path_of(given), workspace.root / given if os.sep in given else Path()):
        if path != Path() and path.exists():
            return Path(os.path.abspath(path))
    places = [
        *(workspace.root / kind / given for kind in ("activations", "embeddings", "saes", "runs")),
        workspace.root / "neurons" / given,
        workspace.root / "neurons" / f"{given}.h5",
        workspace.root / "recipes" / f"{given}.toml",
    ]
    found = [place for place in places if place.exists()]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(str(p.relative_to(workspace.root)) for p in found)
        raise UserError(f"{given!r} names several things: give one of the paths {shown}.")
    raise UserError(
        f"There is no artefact {given!r} in {workspace.root}: give a path, or the name of a file or folder in it."
    )


def kind_of(path: Path) -> type[Entry]:
    """What kind of artefact ``path`` is. UserError when it is none."""
    if (path / MANIFEST).is_file():
        return StoreEntry
    if (path / CONFIG).is_file() or (path / TRAINING).is_file():
        return SAEEntry
    if os.path.lexists(path / "command.json"):
        return RunEntry
    if path.suffix == ".h5":
        return NeuronsEntry
    if path.suffix == ".toml" and path.parent.name == "recipes":
        return RecipeEntry
    raise UserError(f"{path} is no artefact of saetui: show takes stores, SAEs, neurons files, recipes and runs.")


def identity(path: Path) -> str:
    """The content hash by which other artefacts name this one."""
    kind = kind_of(path)
    if kind is StoreEntry:
        return Store.open(path).sha256
    return weights_sha256(path) if kind is SAEEntry else content_sha256(path)


def _read(path: Path) -> Entry:
    entry = read_entry(kind_of(path), path)
    if entry is None:
        raise UserError(f"{path} holds nothing that is finished: run the command that makes it to the end.")
    if entry.error:
        raise UserError(entry.error)
    return entry


def _now(origin: Origin, home: Path) -> Origin:
    """``origin`` as it is now, of an artefact in the workspace ``home``.

    What has the name of one in another workspace is looked for here first: this may be a copy of that.
    """
    if origin.kind not in _FOLDERS:
        return replace(origin, state="outside")
    said, here = home / origin.path, home / _FOLDERS[origin.kind] / Path(origin.name).name
    copied = said.parts[-2:] == here.parts[-2:] and not said.is_relative_to(home)
    places = (here, said) if copied else (said, here)
    place = next((p for p in places if origin.name and p.exists()), None)
    if place is None:
        return replace(origin, state="missing")
    try:
        state = "unchanged" if identity(place) == origin.sha256 else "changed"
        made_from = _read(place).made_from
    except (UserError, OSError) as error:
        return replace(origin, state=f"unreadable ({error})")
    return replace(origin, state=state, chain=tuple(_now(one, workspace_of(place)) for one in made_from))
