"""A task in a worker that dies with this process: what a command does, or a question of the workbench."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, assert_never

from engine.errors import UserError
from engine.records import parse_json, to_json
from engine.regular import open_regular
from engine.reporter import Done, End, Event, Failed, StoppedEarly, event_from_json
from engine.runs.memory import killed, memory_kills
from engine.runs.run import CUT, Command, Run, environment, last_lines, python_module
from engine.runs.tasks import TASKS
from engine.workspace import Workspace

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU)
"""Signals by which somebody ends a process; others tell of a crash."""


def _unheard(event: Event) -> None:
    pass


_NO_MEMORY = re.compile("cannot allocate memory|bad_alloc|out of memory|allocation failed", re.IGNORECASE)
"""What libraries print before they end a process for lack of memory."""


class Attached:
    """``end`` and ``result`` block; ``stop`` and ``cancel`` are for any other thread, or a signal handler.

    ``run``: where the work is recorded; without it, it leaves nothing behind.
    """

    def __init__(self, workspace: Workspace, task: str, settings: Mapping[str, Any], run: Run | None = None):
        self._command = Command.of(workspace, task, settings)
        self._run = run
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self.cancelled = False
        self.printed: list[str] = []
        """The last lines that the worker printed, once it has ended."""

    def result(self, heard: Callable[[Event], None] = _unheard) -> Any:
        """What the task returns; None when it was cancelled. UserError in which it says why it failed."""
        end = self.end(heard)
        if self.cancelled:
            return None
        match end:
            case Done(result):
                return TASKS[self._command.task].read(result)
            case StoppedEarly():
                raise UserError(f"{self._command.task} was stopped.")
            case Failed(error):
                raise UserError(error)
        assert_never(end)

    def end(self, heard: Callable[[Event], None] = _unheard) -> End:
        """How the work ended. ``heard`` gets every event before that."""
        with self._log() as log:
            kills, process = memory_kills(), self._start(log)
            if process is None:
                return StoppedEarly()
            assert process.stdin and process.stdout
            with process.stdin, process.stdout:
                end = _listen(process.stdout, heard)
                code = process.wait()  # with its stdin open: else it would die before it has written its last event
            self.printed = last_lines(Path(log.name))
        if end is None and self.cancelled:
            return StoppedEarly()
        return end or _unexplained(code, self.printed, kills)

    def stop(self) -> None:
        """Ask the worker to stop at the next point from which it can go on."""
        self._stopping = True
        if self._process is not None:
            _write(self._process, "stop")

    def cancel(self) -> None:
        """End the worker at once, or keep it from being started."""
        with self._lock:
            self.cancelled = True
            if self._process is not None:
                self._process.kill()

    def _log(self) -> Any:
        return open_regular(self._run.path / "log.txt", "ab") if self._run else tempfile.NamedTemporaryFile()

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self.cancelled:
                return None
            process = subprocess.Popen(
                python_module("engine.runs.worker", "-"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,  # so that Ctrl-C asks it to stop, and is no signal in the middle of work
            )
            _write(process, json.dumps(to_json(self._command) | {"run": str(self._run.path) if self._run else None}))
            self._process = process  # only now: what was asked of it, as by Ctrl-C, comes after what it is to do
        if self.cancelled:
            self.cancel()
        elif self._stopping:
            self.stop()
        return process


def _listen(lines: IO[bytes], heard: Callable[[Event], None]) -> End | None:
    """Hear events until the one that ends the work; None where the worker dies without it."""
    for line in lines:
        try:
            event = event_from_json(parse_json(line))
        except ValueError:  # torn by a kill
            continue
        if isinstance(event, End):
            return event
        if event is not None:
            heard(event)
    return None


def _write(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin
    with suppress(OSError, ValueError):  # it has ended: whoever reads from it tells
        os.write(process.stdin.fileno(), f"{line}\n".encode())


def _unexplained(code: int, printed: list[str], kills: int | None) -> Failed:
    """The end of a worker that did not say why it ended; ``kills``: see memory_kills, when it was started."""
    if code == -signal.SIGKILL:
        why = killed(kills)
        way = "run" if why.endswith("not for memory") else "close what else takes memory and run"
        return Failed(f"The worker was {why}: {way} the same command again, it continues.", mistake=True)
    if -code in ENDING:
        name = signal.Signals(-code).name
        return Failed(f"The worker was ended by {name}: run the same command again, it continues.", mistake=True)
    if code == -signal.SIGBUS:
        return Failed(f"{CUT} and run the same command again, it continues.", mistake=True)
    if any(_NO_MEMORY.search(line) for line in printed):
        way = "close what else takes it, or raise the limit (ulimit -v), and run the same command again, it continues"
        return Failed(f"Memory is full: {way}.", mistake=True)
    said = next((f": {line.strip()}" for line in reversed(printed) if line.strip()), "")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return Failed(f"the worker {how}{said}")
