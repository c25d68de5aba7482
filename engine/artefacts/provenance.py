"""One artefact, what it came from, and whether that is still what it was."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.artefacts.entries import Entry, Origin, read_entry
from engine.artefacts.kinds import identity, kind_of
from engine.errors import UserError
from engine.files import path_of
from engine.kinds import ARTEFACTS, BY_FOLDER, BY_NAME
from engine.places import workspace_of
from engine.records import to_json
from engine.workspace import Workspace

NOT_COMPARED = "not compared"
"""State of what is no artefact, wherever it lies, as a model or images: to hash it would take long."""


@dataclass(frozen=True)
class Description:
    """An artefact, and the tree of what it was made from, by content hash."""

    entry: Entry
    chain: tuple[Origin, ...]
    namesakes: tuple[str, ...] = ()
    """Others that have the name: how they are told apart from it."""

    def to_json(self) -> dict[str, Any]:
        entry = self.entry
        about = {"kind": entry.kind.name, "name": entry.name, "path": str(entry.path)}
        return about | {"namesakes": list(self.namesakes)} | entry.to_json() | {"chain": to_json(self.chain)}


def describe(given: str, workspace: Workspace) -> Description:
    """The artefact at the path, or of the name, ``given``. UserError when there is none or it is damaged."""
    path, *others = _found(given, workspace)
    entry = _read(path)
    namesakes = tuple(f"{one.parent.name}/{given}" for one in others)
    return Description(entry, origins_now(entry), namesakes)


def origins_now(entry: Entry) -> tuple[Origin, ...]:
    """What it was made from, as that is now."""
    home = workspace_of(entry.path)
    return tuple(_now(one, home) for one in entry.made_from)


def find(given: str, workspace: Workspace) -> Path:
    """The artefact that ``given`` names: a path, or a name in the workspace that only one artefact has."""
    return _found(given, workspace)[0]


def _found(given: str, workspace: Workspace) -> list[Path]:
    """The artefact that ``given`` names, and those behind it that have its name too."""
    for path in (path_of(given), workspace.root / given if os.sep in given else Path()):
        if path != Path() and (place := _place(path)) is not None:
            return [Path(os.path.abspath(place))]
    found = {kind.place(workspace.root, given): kind for kind in ARTEFACTS}
    first, second = (
        [place for place, kind in found.items() if kind.second == last and place.exists()] for last in (False, True)
    )
    named = first or second
    if len(named) == 1:
        return [*named, *(second if first else ())]
    if named:
        shown = ", ".join(str(p.relative_to(workspace.root)) for p in named)
        raise UserError(f"{given!r} names several things: give one of the paths {shown}.")
    raise UserError(
        f"There is no artefact {given!r} in {workspace.root}: give a path, or the name of a file or folder in it."
    )


def _place(path: Path) -> Path | None:
    """The artefact at ``path``, which may lack its suffix, or be the file by which a command names its folder."""
    if path.exists():
        kind = BY_FOLDER.get(path.parent.parent.name)
        return path.parent if kind and kind.second and path.name in kind.marks else path
    kind = BY_FOLDER.get(path.parent.name)
    whole = kind and kind.place(path.parent.parent, path.name)
    return whole if whole and whole.exists() else None


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
    kind = BY_NAME.get(origin.kind)
    if kind is None:
        return replace(origin, state=NOT_COMPARED)
    said, here = home / origin.path, kind.place(home, Path(origin.name).name)
    copied = said.parts[-2:] == here.parts[-2:] and not said.is_relative_to(home)
    places = (here,) if not origin.path else (here, said) if copied else (said, here)
    place = next((p for p in places if origin.name and p.exists()), None)
    if place is None:
        return replace(origin, state="missing")
    try:
        state = "unchanged" if identity(place) == origin.sha256 else "changed"
        made_from = _read(place).made_from
    except (UserError, OSError) as error:
        return replace(origin, state=f"unreadable ({error})")
    return replace(origin, state=state, chain=tuple(_now(one, workspace_of(place)) for one in made_from))
