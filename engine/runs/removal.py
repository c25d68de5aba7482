"""Runs put away: archived, to be listed no more, or removed with what they left unfinished, until that is undone.

An archived run lies in ``runs/archive/``. What is removed lies in ``runs/.removed-PID/`` as long as the process of that
number lives, so that it can be put back; then it is deleted.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.activations.manifest import FILE as MANIFEST
from engine.activations.manifest import read_manifest
from engine.errors import UserError
from engine.links import check_own
from engine.runs.run import ARCHIVE, ENDED, Run, runs
from engine.sae.config import CONFIG
from engine.workspace import Workspace, check_name

_REMOVED = ".removed-"


@dataclass(frozen=True)
class Moved:
    """What was put away, and can be put back."""

    what: str
    moves: tuple[tuple[Path, Path], ...]
    """From where to where."""

    def undo(self) -> None:
        """UserError where something else is in its place by now."""
        for old, _ in self.moves:
            if os.path.lexists(old):
                raise UserError(f"{old} is there again: move it away to put back {self.what}.")
        for old, new in reversed(self.moves):
            old.parent.mkdir(parents=True, exist_ok=True)
            os.rename(new, old)


def archive(run: Run) -> Moved:
    """UserError for one that goes on."""
    _check_ended(run)
    return _moved(f"run {run.id}", [(run.path, run.path.parent / ARCHIVE / run.id)])


def restored(run: Run) -> Run:
    """The run where runs are listed, put back if it was archived."""
    if run.path.parent.name != ARCHIVE:
        return run
    place = run.path.parent.parent / run.id
    Moved(f"run {run.id}", ((place, run.path),)).undo()
    return Run(place)


def remove(workspace: Workspace, chosen: Sequence[Run], what: str = "", folder: Path | None = None) -> Moved:
    """The ``chosen`` runs, with what they left that is not finished, and ``folder``, of which no run need be known."""
    for run in chosen:
        _check_ended(run)
    home = workspace.runs / f"{_REMOVED}{os.getpid()}"
    left = {one for run in chosen for one in leftovers(workspace, run)} | ({folder} if folder else set())
    paths = [run.path for run in chosen] + sorted(left)
    moves = [(path, _free(home / path.relative_to(workspace.root))) for path in paths]
    return _moved(what or f"run {chosen[0].id}", moves)


def leftovers(workspace: Workspace, run: Run) -> list[Path]:
    """Folders of artefacts that the run did not finish, and no other run works on."""
    try:
        command = run.command
        name = check_name(str(command.settings.get("name") or ""), "run")  # others may have written it: no path
        kinds = {"train": ["saes"], "import": ["saes", "activations"], "extract": ["activations", "embeddings"]}
        places = [workspace.root / kind / name for kind in kinds.get(command.task, [])]
    except (UserError, OSError):
        return []
    busy = {str(other.command.settings.get("name")) for other in runs(workspace) if other.alive and other.id != run.id}
    return [place for place in places if name not in busy and unfinished(place)]


def unfinished(place: Path) -> bool:
    """Whether there is an artefact of which not all is made."""
    if not place.is_dir() or place.is_symlink():
        return False
    if place.parent.name == "saes":
        return not (place / CONFIG).exists()
    try:
        return not (place / MANIFEST).exists() or not read_manifest(place).complete
    except (UserError, OSError):
        return False


def sweep_removed(workspace: Workspace) -> None:
    """Delete what this process, and those that are gone, have removed."""
    for place in workspace.runs.glob(f"{_REMOVED}*"):
        number = place.name.removeprefix(_REMOVED)
        if number.isdigit() and not place.is_symlink() and (int(number) == os.getpid() or not _lives(int(number))):
            shutil.rmtree(place, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _check_ended(run: Run) -> None:
    try:
        state = run.status.state
    except UserError:  # what cannot be read may go
        state = "running" if run.alive else "died"
    if state not in ENDED:
        raise UserError(f"Run {run.id} is {state}: stop it first (x).")


def _moved(what: str, moves: list[tuple[Path, Path]]) -> Moved:
    done: list[tuple[Path, Path]] = []
    for old, new in moves:
        check_own(old)
        new.parent.mkdir(parents=True, exist_ok=True)
        os.rename(old, new)
        done.append((old, new))
    return Moved(what, tuple(done))


def _free(place: Path) -> Path:
    return next(one for n in range(10_000) if not os.path.lexists(one := place.with_name(f"{place.name}.{n}")))
