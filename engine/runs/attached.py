"""A question put to a worker that dies with the workbench: an estimate, a check. It leaves nothing behind."""

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from engine.errors import UserError
from engine.runs import run as jobs
from engine.runs.events import Event
from engine.runs.tasks import TASKS
from engine.workspace import Workspace


class Attached:
    """One task in a process of its own. ``result`` blocks and is for a thread; ``cancel`` is for any."""

    def __init__(self, workspace: Workspace, task: str, settings: dict[str, Any]):
        self._ask = jobs.request(workspace, task, settings)
        self._task = task
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.cancelled = False

    def result(self, heard: Callable[[Event], None] = lambda event: None) -> Any:
        """What the task returns; None when it was cancelled. ``heard`` gets every event before the last.

        Raises UserError: a mistake that the user can mend, or the last thing that the worker printed before it died.
        """
        with tempfile.TemporaryFile() as log:
            with self._lock:
                if self.cancelled:
                    return None
                process = self._process = jobs.attach(self._ask, log)
            end = self._listen(process, heard)
            process.wait()
            if self.cancelled:
                return None
            if end["kind"] == "done":
                return TASKS[self._task].read(end["result"])
            raise UserError(end.get("error") or f"{self._task} ended early: {_last_line(log)}")

    def cancel(self) -> None:
        """End the worker at once, or keep it from being started."""
        with self._lock:
            self.cancelled = True
            if self._process is not None:
                self._process.kill()

    def _listen(self, process: "subprocess.Popen[bytes]", heard: Callable[[Event], None]) -> Event:
        """Hear events until the one that ends the work; that one."""
        assert process.stdout and process.stdin
        with process.stdout, contextlib.suppress(ValueError):  # a line torn by a kill is the last
            for line in process.stdout:
                event = json.loads(line)
                if event["kind"] in ("done", "stopped", "failed"):
                    return event
                heard(event)
        return {"kind": "failed"}


def _last_line(log: Any) -> str:
    log.seek(max(log.seek(0, 2) - 4096, 0))
    lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it was killed, perhaps for memory.")
