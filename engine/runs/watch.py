"""The runs of a workspace as the interface shows them: looked at in a thread, a little at a time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import UserError, sentence_of
from engine.files import Stamp, stamp
from engine.runs.events import State, Status
from engine.runs.rate import Rate, seconds_left
from engine.runs.run import ENDED, STATUS, Command, Later, Run, RunList, archived, later_runs, work_of
from engine.workspace import Workspace


@dataclass(frozen=True)
class RunSnapshot:
    """One run, now."""

    id: str
    task: str
    name: str
    """What it makes: the name of the store or SAE."""
    state: State | Literal["damaged"]
    stage: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float | None = None
    """Units a second over the last seconds."""
    error: str = ""
    started: float = 0.0
    ended: float | None = None
    waits_for: str = ""
    """What it does that tells no progress; empty where it does."""
    waited: int = 0
    """Seconds since it began that."""
    took: int | None = None
    """Seconds, until now or its end."""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """As they were asked."""
    later: Later | None = None
    """Of one that ended early: another run that did its work, or is at it."""

    @property
    def label(self) -> str:
        return f"{self.task} {self.name}".rstrip()

    @property
    def failed(self) -> bool:
        return self.state in ("failed", "died") and self.later is None

    @property
    def live(self) -> bool:
        return self.state not in (*ENDED, "damaged")

    @property
    def share(self) -> float | None:
        return self.done / self.total if self.total and not self.waits_for else None

    @property
    def seconds_left(self) -> float | None:
        return seconds_left(self.done, self.total, self.rate) if self.state == "running" else None


class RunWatch:
    """Reads runs that may still change; those that have ended are read once for each stamp of their status.

    What cannot be read is ``damaged``, and says why.
    """

    def __init__(self, workspace: Workspace):
        self._list = RunList(workspace)
        self._ended: dict[Path, tuple[Stamp | None, RunSnapshot]] = {}
        self._found: list[RunSnapshot] = []
        self._seen: dict[str, tuple[RunSnapshot, Rate]] = {}

    def look(self) -> list[RunSnapshot]:
        """Every run of the workspace, the newest first. A run that is being written or removed is left out."""
        listed, anew = self._list.look()
        if anew or any(run.live for run in self._found):
            found = [seen for run in reversed(listed) if (seen := self._look(run, anew)) is not None]
            self._found = _with_later(found)
        return self._found

    def _look(self, run: Run, anew: bool) -> RunSnapshot | None:
        known = self._ended.get(run.path)
        if known is not None and not (anew and known[0] != stamp(run.path / STATUS)):
            return known[1]
        at = stamp(run.path / STATUS)
        try:
            seen = _snapshot(run.id, run.command, run.status)
        except (UserError, OSError) as error:  # it may be mended without any stamp of another file
            self._ended.pop(run.path, None)
            return RunSnapshot(run.id, "", "", "damaged", error=sentence_of(error)) if run.is_there else None
        if seen.live:
            self._ended.pop(run.path, None)
            return seen if seen.rate else replace(seen, rate=self._rate(seen))
        self._ended[run.path] = at, seen
        return seen

    def _rate(self, run: RunSnapshot) -> float | None:
        """Of a run that an older version wrote, which does not tell it: as it is seen from here."""
        before, rate = self._seen.get(run.id, (None, Rate()))
        if before is None or before.stage != run.stage:
            rate.restart()
        if before is None or (before.stage, before.done) != (run.stage, run.done):
            rate.see(time.monotonic(), run.done)
        self._seen[run.id] = run, rate
        return rate.value


def _with_later(found: list[RunSnapshot]) -> list[RunSnapshot]:
    """The newest first. What went wrong with one whose work was done later, or is being done, is no news any more."""
    later = later_runs((run.id, work_of(run.task, run.settings), run.state) for run in reversed(found))
    return [
        replace(run, later=later[run.id], error=later[run.id].sentence) if run.id in later else run for run in found
    ]


def archived_runs(workspace: Workspace) -> list[RunSnapshot]:
    """Those that are listed no more, the newest first."""
    found = []
    for run in reversed(archived(workspace)):
        try:
            found.append(_snapshot(run.id, run.command, run.status))
        except (UserError, OSError) as error:
            found.append(RunSnapshot(run.id, "", "", "damaged", error=sentence_of(error)))
    return found


def _snapshot(id: str, command: Command, status: Status) -> RunSnapshot:
    settings, progress = command.settings, status.progress
    return RunSnapshot(
        id=id,
        task=command.task,
        name=command.makes,
        state=status.state,
        stage=status.stage or "",
        done=progress.done if progress else 0,
        total=progress.total if progress else 0,
        unit=progress.unit if progress else "",
        rate=status.rate,
        error=status.error or "",
        started=status.started or 0.0,
        ended=status.ended,
        waits_for=status.waits_for,
        waited=status.waited,
        took=_took(status),
        settings=settings,
    )


def _took(status: Status) -> int | None:
    if status.took is not None:
        return int(status.took)
    if status.started and status.ended:
        return max(int(status.ended - status.started), 0)
    return None if status.state in ENDED or not status.started else max(int(time.time() - status.started), 0)
