"""Files that others wrote lead nowhere else: neither the names that they tell, nor symbolic links.

Workspaces come from other people, links and all. Reading follows links; nothing is written or deleted through one, but
for one that a person makes to a larger disk: the folder of a kind, as ``activations``, may lead to a folder that holds
artefacts of that kind alone and is no other workspace's.
"""

import os
import re
from pathlib import Path

from engine.errors import UserError
from engine.kinds import BY_FOLDER, Kind
from engine.regular import special

_IS_FILE = re.compile(r"\.(json|jsonl|safetensors|h5|txt|lock)$|^control$")


def file_name(text: str) -> str:
    """``text``, which a file tells as the name of another one beside it. UserError when it leads elsewhere."""
    if text in ("", ".", "..") or "/" in text or os.sep in text or "\0" in text:
        raise UserError(f"{text!r} is no name of a file beside it")
    return text


def check_own(artefact: Path) -> None:
    """UserError where writing to ``artefact``, or deleting in it, would reach out of its workspace, or cannot be.

    An artefact is no link, nor has it folders that are; one whose files are appended to has no links at all. Pipes,
    sockets and devices lead to another program. A folder in a file's place would be found at the end of the work.
    """
    home, kind = artefact.parent, BY_FOLDER.get(artefact.parent.name)
    if home.is_symlink():
        _check_home(home, kind, Path(os.path.realpath(home)))
    if artefact.is_symlink() and kind and not kind.suffix:  # of a file, the link itself is replaced
        raise _linked(artefact)
    for file in _odd(artefact):
        if what := special(file):
            raise UserError(f"{file} is a {what}, not a file, and nothing is written to it: move it away.")
        if (kind and kind.appended) or file.name.startswith(".") or not file.is_file():
            raise _linked(file)
    for folder in _misplaced(artefact):
        raise UserError(f"{folder} is a folder, where a file is to be written: move it away.")


def _check_home(home: Path, kind: Kind | None, real: Path) -> None:
    if real.is_relative_to(os.path.realpath(home.parent)):
        return
    if real.name == home.name and any((real.parent / mark).exists() for mark in ("workspace.toml", "runs")):
        raise _elsewhere(home, f"{real}, of another workspace")
    if not real.is_dir() or not all(kind and _is(kind, path) for path in real.glob("[!.]*")):
        raise _elsewhere(home, f"{real}, which is no folder of {home.name} alone")


def _is(kind: Kind, path: Path) -> bool:
    """Whether ``path`` is an artefact of that kind, or one that is being begun."""
    if kind.suffix:
        return path.suffix == kind.suffix
    inside = {file.name for file in path.glob("[!.]*")} if path.is_dir() else {path.name}
    return not inside or not inside.isdisjoint(kind.marks)


def _misplaced(artefact: Path) -> list[Path]:
    """The folders in it, or itself, that have the name of a file."""
    kind = BY_FOLDER.get(artefact.parent.name)
    if kind and kind.suffix:
        return [artefact] if artefact.is_dir() else []
    try:
        with os.scandir(artefact) as found:
            return [Path(one) for one in found if one.is_dir() and _IS_FILE.search(one.name)]
    except OSError:  # nothing is there yet, or it is a file
        return []


def _odd(folder: Path) -> list[Path]:
    """What in it is a link, or neither file nor folder."""
    try:
        with os.scandir(folder) as files:
            return [Path(one) for one in files if one.is_symlink() or not (one.is_file() or one.is_dir())]
    except OSError:  # nothing is there yet, or it is a file
        return []


def _elsewhere(home: Path, where: str) -> UserError:
    return UserError(
        f"{home} is a symbolic link to {where}, and nothing is written through it: link to a folder of its own, or "
        "choose another --workspace."
    )


def _linked(path: Path) -> UserError:
    return UserError(
        f"{path} is a symbolic link, and nothing is written through it: put what it leads to in its place, or choose "
        "another name."
    )
