"""Runs that were archived or removed since the workbench was opened: the newest is put back first."""

from engine.errors import UserError
from engine.runs.removal import Moved, archive, remove, sweep_removed, unfinished
from engine.runs.run import Run, runs
from engine.workspace import Workspace

_TRAINING = "training "


class PutAway:
    """Each method returns what to say. UserError or OSError where it cannot be done."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._moved: list[Moved] = []

    def archive(self, run: Run) -> str:
        return self._done(archive(run), "archived: A lists those")

    def unarchive(self, run: Run) -> str:
        place = self._workspace.runs / run.id
        if place.exists():
            raise UserError(f"{place} is there again: move it away first.")
        run.path.rename(place)
        return f"Run {run.id} is listed again."

    def remove(self, run: Run) -> str:
        return self._done(remove(self._workspace, [run]), "removed")

    def remove_training(self, name: str) -> str:
        """The runs that trained or imported ``name``, and what they left that is no finished SAE."""
        folder = self._workspace.root / "saes" / name
        of_it = [run for run in runs(self._workspace) if _makes(run, name)]
        left = folder if unfinished(folder) else None
        if not of_it and left is None:
            raise UserError(f"{name} is an SAE without a run: move saes/{name} away to be rid of it.")
        return self._done(remove(self._workspace, of_it, f"{_TRAINING}{name}", left), "removed")

    @property
    def next_training(self) -> str:
        """The training that :meth:`undo` puts back; empty where that is something else."""
        what = self._moved[-1].what if self._moved else ""
        return what.removeprefix(_TRAINING) if what.startswith(_TRAINING) else ""

    def undo(self) -> str:
        if not self._moved:
            raise UserError("Nothing was archived or removed since the workbench was opened.")
        moved = self._moved[-1]
        moved.undo()
        self._moved.pop()
        return f"{_start(moved.what)} is back."

    def end(self) -> None:
        """Nothing can be put back any more."""
        sweep_removed(self._workspace)

    def _done(self, moved: Moved, how: str) -> str:
        self._moved.append(moved)
        return f"{_start(moved.what)} is {how}. u takes that back, until the workbench is closed."


def _start(what: str) -> str:
    return what[0].upper() + what[1:]


def _makes(run: Run, name: str) -> bool:
    try:
        command = run.command
        return command.task in ("train", "import") and command.settings.get("name") == name
    except (UserError, OSError):
        return False
