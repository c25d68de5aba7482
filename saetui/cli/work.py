"""Run a task in a worker and show how it goes: a progress bar for people, one JSON object for machines."""

import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

import typer

from engine.config import to_mapping
from engine.errors import UserError
from engine.records import to_json
from engine.runs import run as jobs
from engine.runs.tasks import TASKS
from engine.workspace import Workspace
from saetui.formatting import duration, literal

Show = Callable[[Any], None]


def perform(workspace: Workspace, task: str, settings: Any, *, as_json: bool, show: Show, keep: bool = True) -> None:
    """Do ``task`` in an attached worker, then print its result. ``keep``: the run is recorded under runs/."""
    result = compute(workspace, task, settings, quiet=as_json, keep=keep)
    if as_json:
        print(json.dumps(to_json(result), ensure_ascii=False))
    else:
        show(result)


def compute(workspace: Workspace, task: str, settings: Any, *, quiet: bool, keep: bool) -> dict[str, Any]:
    """The result of ``task``, done in a worker that lives and dies with this process."""
    ask = jobs.request(workspace, task, to_mapping(settings))
    new = not workspace.root.exists()
    run = jobs.create(workspace, task, to_mapping(settings), sys.argv[1:]) if keep else None
    with _log(run) as log:
        process = jobs.attach(ask | {"run": str(run.path) if run else None}, log)
        with _interrupts(process):
            end = _watch(process, quiet)
            process.wait()
        if end["kind"] == "done":
            return TASKS[task].read(end["result"])
        if end["kind"] == "stopped":
            note(f"Stopped; everything so far is kept. Continue with: {shlex.join(['saetui', *sys.argv[1:]])}")
            raise typer.Exit(130)
        if end.get("mistake"):
            if run:
                _forget(run, workspace, new)
            raise UserError(end["error"])
        where = f"the traceback is in {run.path / 'log.txt'}" if run else _tail(log)
        note(f"saetui: a defect of ours ended {task} ({end['error']}): {where}")
        raise typer.Exit(1)


def _log(run: jobs.Run | None) -> IO[bytes]:
    return open(run.path / "log.txt", "ab") if run else tempfile.TemporaryFile()


def detach(workspace: Workspace, task: str, settings: Any, as_json: bool) -> None:
    """Start ``task`` as a run that outlives this terminal, and say its id."""
    run = jobs.create(workspace, task, to_mapping(settings), sys.argv[1:])
    jobs.detach(run)
    if as_json:
        print(json.dumps({"run": run.id, "path": str(run.path)}))
    else:
        print(f"{run.id} is running: saetui jobs follow {run.id}")


def note(sentence: str) -> None:
    print(literal(sentence), file=sys.stderr)


class Progress:
    """What a worker's events look like: stages, a bar with rate and ETA, warnings, streamed answers."""

    def __init__(self, quiet: bool):
        self.tty = sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self._bar: Any = None
        self._stage = ""
        self._answer = ""
        self._line = time.monotonic()
        self._first: tuple[float, int] | None = None

    def show(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "stage":
                self._close()
                self._stage, self._first = event["name"], None
            case "progress":
                self._progress(event)
            case "warning":
                self._close()
                note(f"saetui: {event['message']}")
            case "token" if not self.quiet and sys.stdout.isatty():
                self._token(event)

    def close(self) -> None:
        self._close()
        if self._answer:
            print()

    def _progress(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        self._first = self._first or (now, event["done"])
        elapsed, done = now - self._first[0], event["done"] - self._first[1]
        rate = done / elapsed if elapsed > 0.5 and done > 0 else None
        if self.tty:
            self._draw(event, rate)
        elif not self.quiet and now - self._line > 10:
            self._line = now
            note(f"{self._stage}: {progress_text(event, rate)}")

    def _draw(self, event: dict[str, Any], rate: float | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(None),
                TextColumn("{task.fields[words]}", markup=False),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, expand=True)
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=event["total"], words="")
        words = progress_text(event, rate)
        self._bar.update(self._task, completed=event["done"], total=event["total"], words=words)

    def _token(self, event: dict[str, Any]) -> None:
        if event["answer"] != self._answer:
            self._close()
            print(("\n" if self._answer else "") + f"{event['answer']:>10}  ", end="", flush=True)
            self._answer = event["answer"]
        print(literal(event["text"]), end="", flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress_text(event: dict[str, Any], rate: float | None) -> str:
    """``done/total unit  rate  ETA  metrics`` of a progress event, with ``rate`` in units a second."""
    parts = [f"{event['done']:,}/{event['total']:,} {event['unit']}"]
    if rate:
        left = max(event["total"] - event["done"], 0) / rate
        parts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s", f"{duration(left)} left"]
    known = ("done", "total", "unit", "kind", "seq", "time")
    parts += [f"{k} {v:.3g}" for k, v in event.items() if k not in known and isinstance(v, (int, float))]
    return "  ".join(parts)


def _watch(process: "subprocess.Popen[bytes]", as_json: bool) -> dict[str, Any]:
    """Show events until the one that ends the work; that one. A worker that dies without one has ``failed``."""
    progress = Progress(quiet=as_json)
    assert process.stdout
    try:
        for event in _events(process.stdout):
            if event["kind"] in ("done", "stopped", "failed"):
                return event
            progress.show(event)
    finally:
        progress.close()
    code = process.wait()
    if code == -signal.SIGKILL:
        return {"kind": "failed", "mistake": True, "error": "The worker was killed, perhaps for memory: lower "
                "--batch-size and run the same command again, it continues."}  # fmt: skip
    return {"kind": "failed", "error": f"the worker ended with code {code}"}


def _events(stream: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in stream:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


@contextlib.contextmanager
def _interrupts(process: "subprocess.Popen[bytes]") -> Any:
    """The first Ctrl-C or SIGTERM asks the worker to stop at a point from which it can go on; the second kills it."""
    asked = threading.Event()

    def interrupt(*_: Any) -> None:
        if asked.is_set():
            process.kill()
            return
        asked.set()
        with contextlib.suppress(OSError):
            assert process.stdin
            process.stdin.write(b"stop\n")
            process.stdin.flush()
        note("Stopping at the next safe point (Ctrl-C again kills) ...")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget(run: jobs.Run, workspace: Workspace, new: bool) -> None:
    """A command that was refused leaves nothing behind, not even the workspace that it would have made."""
    shutil.rmtree(run.path, ignore_errors=True)
    with contextlib.suppress(OSError):
        workspace.runs.rmdir()
        if new:
            workspace.root.rmdir()


def _tail(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return "\n" + "\n".join(lines[-12:])
