"""Runs: what was asked, how it is going, and how to start, follow and stop it. Needs no torch.

A run is a directory ``runs/<id>/`` with ``command.json`` (task, settings, workspace, cwd, argv), ``events.jsonl``,
``status.json``, ``log.txt`` (what libraries print) and ``control`` (``stop`` or ``pause``). A worker holds a lock on
the directory while it lives: so a run whose worker was killed is never shown as running.
"""

import fcntl
import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import engine
from engine.errors import UserError
from engine.files import read_json, write_json, write_text
from engine.runs.events import Event, read_events
from engine.workspace import Workspace

STARTING = 60.0  # seconds that a worker may take to import what it needs before it counts as dead
ENDED = ("done", "stopped", "failed", "died")


@dataclass(frozen=True)
class Run:
    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def command(self) -> dict[str, Any]:
        return read_json(self.path / "command.json")

    @property
    def status(self) -> dict[str, Any]:
        """status.json with the ``state`` that is true now: starting, running, paused, done, stopped, failed, died."""
        try:
            status = read_json(self.path / "status.json")
        except UserError:
            status = {"state": "died"}
        if status["state"] not in ENDED and not self.alive:
            young = status["state"] == "starting" and time.time() - status.get("started", 0) < STARTING
            if not young:
                again = read_json(self.path / "status.json")  # it may have ended between the two looks
                status = again if again["state"] in ENDED else {**again, "state": "died"}
        return status

    @property
    def alive(self) -> bool:
        """Whether a worker holds this run."""
        try:
            with open(self.path / "worker.lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def control(self, wish: str) -> None:
        """``stop``, ``pause``, or the empty string to go on."""
        write_text(self.path / "control", wish)

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        return read_events(self.path / "events.jsonl", offset)

    def follow(self, poll: float = 0.1) -> Iterator[Event]:
        """Every event from the first on, until the run has ended."""
        offset = 0
        while True:
            ended = self.status["state"] in ENDED
            events, offset = self.events(offset)
            yield from events
            if ended:
                return
            time.sleep(poll)


def create(workspace: Workspace, task: str, settings: dict[str, Any], argv: Sequence[str]) -> Run:
    """A new run directory; nothing is started yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        path = workspace.runs / (f"{stamp}-{task}" + (f"-{attempt}" if attempt else ""))
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    write_json(path / "command.json", request(workspace, task, settings) | {"cwd": os.getcwd(), "argv": list(argv)})
    write_json(path / "status.json", {"state": "starting", "started": time.time()})
    return Run(path)


def request(workspace: Workspace, task: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "task": task, "settings": settings, "workspace": str(workspace.root)}


def detach(run: Run) -> None:
    """Start the run's worker so that it outlives this process and its terminal."""
    with open(run.path / "log.txt", "ab") as log:
        subprocess.Popen(
            python_module("engine.runs.worker", str(run.path)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run.command["cwd"],
            env=environment(),
            start_new_session=True,
        )


def attach(ask: dict[str, Any], log: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    """Start a worker that dies with us: events are JSON lines on its stdout, ``stop`` on its stdin stops it."""
    process = subprocess.Popen(
        python_module("engine.runs.worker", "-"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment(),
        start_new_session=True,  # so that Ctrl-C reaches it as a wish to stop, not as a signal in the middle of work
    )
    assert process.stdin
    process.stdin.write(json.dumps(ask).encode() + b"\n")
    process.stdin.flush()
    return process


def resume(run: Run) -> None:
    """Start a run that ended early again; its stages continue where they stopped."""
    state = run.status["state"]
    if state == "done":
        raise UserError(f"Run {run.id} is done: there is nothing to resume.")
    if state == "paused":
        run.control("")
        return
    if state not in ENDED:
        raise UserError(f"Run {run.id} is {state}: follow it with saetui jobs follow {run.id}.")
    run.control("")
    write_json(run.path / "status.json", {"state": "starting", "started": time.time()})
    detach(run)


def runs(workspace: Workspace) -> list[Run]:
    """All runs of the workspace, the oldest first."""
    if not workspace.runs.is_dir():
        return []
    return [Run(p) for p in sorted(workspace.runs.iterdir()) if (p / "command.json").is_file()]


def find(workspace: Workspace, given: str) -> Run:
    """The run whose id is, or uniquely begins or ends with, ``given``; ``last`` is the newest."""
    known = runs(workspace)
    if given == "last" and known:
        return known[-1]
    found = [r for r in known if r.id == given] or [r for r in known if r.id.startswith(given) or r.id.endswith(given)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{given!r} fits {len(found)} runs: give more of the id ({found[0].id}, ...).")
    raise UserError(f"No run {given!r} in {workspace.root}: saetui jobs lists those that there are.")


def hold(run: Path) -> IO[str]:
    """Take the worker's lock of a run for as long as the returned file lives."""
    file = open(run / "worker.lock", "w")  # noqa: SIM115 - held until the worker ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"Run {run.name} is going on already: follow it with saetui jobs follow {run.name}.") from None
    return file


def python_module(module: str, argument: str) -> list[str]:
    """The command that runs ``module`` of ours in a process of its own."""
    # -P: a directory called engine where the user happens to stand must not shadow ours
    return [sys.executable, "-P", "-m", module, argument]


def environment() -> dict[str, str]:
    """The environment in which such a process finds this very ``engine``, also when it runs from a checkout."""
    home = str(Path(engine.__file__).parent.parent)
    if home in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
