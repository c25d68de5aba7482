"""The runs of a workspace as the interface shows them: looked at in a thread, a little at a time."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.errors import UserError, sentence_of
from engine.files import Stamp, stamp
from engine.runs.events import State, Status
from engine.runs.rate import Rate, seconds_left
from engine.runs.run import ENDED, STATUS, Command, Run, RunList
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

    @property
    def label(self) -> str:
        return f"{self.task} {self.name}".rstrip()

    @property
    def live(self) -> bool:
        return self.state not in (*ENDED, "damaged")

    @property
    def share(self) -> float | None:
        return self.done / self.total if self.total else None

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
            self._found = [seen for run in reversed(listed) if (seen := self._look(run, anew)) is not None]
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


def _snapshot(id: str, command: Command, status: Status) -> RunSnapshot:
    settings, progress = command.settings, status.progress
    return RunSnapshot(
        id=id,
        task=command.task,
        name=str(settings.get("name") or settings.get("sae") or settings.get("plan") or ""),
        state=status.state,
        stage=status.stage or "",
        done=progress.done if progress else 0,
        total=progress.total if progress else 0,
        unit=progress.unit if progress else "",
        rate=status.rate,
        error=status.error or "",
        started=status.started or 0.0,
        ended=status.ended,
    )
