"""The runs of a workspace as the interface shows them: looked at in a thread, a little at a time."""

import time
from collections import deque
from dataclasses import dataclass, field, replace

from engine.errors import UserError
from engine.runs.events import State, Status
from engine.runs.run import ENDED, Command, runs
from engine.workspace import Workspace

_WINDOW = 10.0  # seconds over which a rate is taken


@dataclass(frozen=True)
class RunSnapshot:
    """One run, now."""

    id: str
    task: str
    name: str
    """What it makes: the name of the store or SAE."""
    state: State
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
        return self.state not in ENDED

    @property
    def share(self) -> float | None:
        return self.done / self.total if self.total else None

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


@dataclass
class RunWatch:
    """Reads runs that may still change; those that have ended are read once."""

    workspace: Workspace
    _ended: dict[str, RunSnapshot] = field(default_factory=dict)
    _seen: dict[str, deque[tuple[float, str, int]]] = field(default_factory=dict)

    def look(self) -> list[RunSnapshot]:
        """Every run of the workspace, the newest first. A run that is being written or removed is left out."""
        found = []
        for run in reversed(runs(self.workspace)):
            if run.id in self._ended and not run.alive:
                found.append(self._ended[run.id])
                continue
            try:
                seen = _snapshot(run.id, run.command, run.status)
            except (UserError, OSError):
                continue
            self._ended.pop(run.id, None)
            if seen.live:
                seen = replace(seen, rate=self._rate(seen))
            else:
                self._ended[run.id] = seen
            found.append(seen)
        return found

    def _rate(self, run: RunSnapshot) -> float | None:
        seen = self._seen.setdefault(run.id, deque())
        now = time.monotonic()
        if seen and (seen[-1][1] != run.stage or seen[-1][2] > run.done):
            seen.clear()
        if not seen or seen[-1][2] != run.done:
            seen.append((now, run.stage, run.done))
        while len(seen) > 2 and now - seen[0][0] > _WINDOW:
            seen.popleft()
        elapsed, moved = seen[-1][0] - seen[0][0], seen[-1][2] - seen[0][2]
        return moved / elapsed if elapsed > 0.2 and moved > 0 else None


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
        error=status.error or "",
        started=status.started or 0.0,
        ended=status.ended,
    )
