"""The runs of a workspace as the interface shows them: looked at in a thread, a little at a time."""

import time
from collections import deque
from dataclasses import dataclass, field, replace

from engine.errors import UserError
from engine.runs import run as jobs
from engine.workspace import Workspace

_WINDOW = 10.0  # seconds over which a rate is taken


@dataclass(frozen=True)
class RunSnapshot:
    """One run, now."""

    id: str
    task: str
    name: str
    """What it makes: the name of the store or SAE."""
    state: str
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
        return self.state not in jobs.ENDED

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
        for run in reversed(jobs.runs(self.workspace)):
            if run.id in self._ended and not run.alive:
                found.append(self._ended[run.id])
                continue
            try:
                job = self._job(run)
            except (UserError, OSError, KeyError, TypeError, AttributeError):
                continue
            self._ended.pop(run.id, None)
            if not job.live:
                self._ended[run.id] = job
            found.append(job)
        return found

    def _job(self, run: jobs.Run) -> RunSnapshot:
        status, command = run.status, run.command
        settings = command.get("settings", {})
        progress = status.get("progress") or {}
        job = RunSnapshot(
            id=run.id,
            task=str(command.get("task", "")),
            name=str(settings.get("name") or settings.get("sae") or settings.get("plan") or ""),
            state=status["state"],
            stage=str(status.get("stage") or ""),
            done=int(progress.get("done", 0)),
            total=int(progress.get("total", 0)),
            unit=str(progress.get("unit", "")),
            error=str(status.get("error") or ""),
            started=float(status.get("started", 0.0)),
            ended=status.get("ended"),
        )
        return replace(job, rate=self._rate(job)) if job.live else job

    def _rate(self, job: RunSnapshot) -> float | None:
        seen = self._seen.setdefault(job.id, deque())
        now = time.monotonic()
        if seen and (seen[-1][1] != job.stage or seen[-1][2] > job.done):
            seen.clear()
        if not seen or seen[-1][2] != job.done:
            seen.append((now, job.stage, job.done))
        while len(seen) > 2 and now - seen[0][0] > _WINDOW:
            seen.popleft()
        elapsed, moved = seen[-1][0] - seen[0][0], seen[-1][2] - seen[0][2]
        return moved / elapsed if elapsed > 0.2 and moved > 0 else None
