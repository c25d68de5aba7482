"""Runs: what was asked, how it is going, and how to start, follow and stop it. Needs no torch.

A run is a directory ``runs/<id>/`` with ``command.json`` (task, settings, workspace, cwd, argv), ``events.jsonl``,
``status.json``, ``log.txt`` (what libraries print) and ``control`` (``stop`` or ``pause``). A worker holds a lock on
the directory while it lives: so a run whose worker was killed is never shown as running.
"""

import contextlib
import json
import math
import os
import shlex
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import engine
from engine.errors import Refused, UserError
from engine.files import Stamp, read_json, read_text, stamp, write_json, write_text
from engine.links import check_own
from engine.locks import Lock, held, take
from engine.places import changed_values, located_text, recorded_text, split
from engine.records import from_json, seldom, to_json
from engine.regular import open_regular
from engine.runs.events import Control, Logged, Status, parse_events, read_events
from engine.runs.memory import lost
from engine.runs.tasks import TASKS
from engine.settings import Place, places_of
from engine.workspace import Workspace

SETTLED = 1.0  # seconds after a change of a folder in which it is looked at again
REST = 5.0  # seconds after which what seems not to change is looked at again
STARTING = 60.0  # seconds that a worker may take to import what it needs before it counts as dead
HELD = "worker.lock"
STATUS = "status.json"
ARCHIVE = "archive"
"""The folder of runs that are listed no more."""
ENDED = ("done", "stopped", "failed", "died")
AT_WORK = ("starting", "running", "paused")
LATEST = 2.0**36  # seconds since the epoch, in the year 4147
MOST = 1 << 60  # units of progress
CUT = (
    "The worker was ended by SIGBUS, as when a file that it reads became shorter or its disk failed: look after "
    "the disk"
)
TAIL = 65_536  # bytes of a log that its end is read from


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a worker is asked to do: command.json, or the first line that an attached worker reads."""

    version: int = 2
    """1: places in the settings are from ``cwd``; 2: as engine.places writes them."""
    task: str
    """A key of engine.runs.tasks.TASKS."""
    settings: Mapping[str, Any]
    """As in a TOML file: see engine.config."""
    workspace: Path
    cwd: Path = Path()
    argv: tuple[str, ...] = ()
    order: int = seldom(0)
    """Its number among the runs of its workspace, in the order of their starts; 0: made before this was kept."""

    @classmethod
    def of(cls, workspace: Workspace, task: str, settings: Mapping[str, Any], argv: Sequence[str] = ()) -> "Command":
        """What is asked here; places in ``settings`` are from the current directory."""
        written = changed_values(settings, _places(task), lambda text, sort: recorded_text(text, sort, workspace.root))
        return cls(task=task, settings=written, workspace=workspace.root, cwd=Path.cwd(), argv=tuple(argv))

    @property
    def makes(self) -> str:
        """The name of what it makes or is about; empty where none was asked."""
        asked = self.settings
        given = asked.get("name") or asked.get("sae") or asked.get("plan") or ""
        return ", ".join(map(str, given)) if isinstance(given, (list, tuple)) else str(given)

    @property
    def places(self) -> dict[str, Place]:
        """The settings that say where something is."""
        return _places(self.task)

    def asked(self, workspace: Path) -> dict[str, Any]:
        """The settings with full paths, in the ``workspace`` that may have been moved since."""
        base = self.cwd if self.version < 2 and self.cwd != self.workspace else workspace
        return changed_values(self.settings, self.places, lambda text, sort: located_text(text, sort, base))

    def within(self, workspace: Path) -> "Command":
        """It for ``workspace``, where its run lies. That may be a copy of the one that it names, which is left alone:
        what lay in that is looked for here."""

        roots = [self.workspace, Path(_real(str(self.workspace)))]

        def here(path: str) -> str:
            spelt = [Path(os.path.normpath(path)), Path(_real(path))] if os.path.isabs(path) else []
            inside = (one.relative_to(root) for one in spelt for root in roots if one.is_relative_to(root))
            return next((str(workspace / one) for one in inside), path)

        def change(text: str, sort: Place) -> str:
            whole = located_text(text, sort, self.cwd) if self.version < 2 else text
            before, path, after = split(whole, sort)
            return f"{before}{here(path)}{after}"

        cwd = workspace if self.cwd == self.workspace else Path(here(str(self.cwd)))
        settings = changed_values(self.settings, self.places, change)
        return replace(self, settings=settings, workspace=workspace, cwd=cwd)


def _real(path: str) -> str:
    """Without symbolic links; as it is where no file can have such a name."""
    try:
        return os.path.realpath(path)
    except ValueError:
        return path


@dataclass(frozen=True)
class Run:
    path: Path

    @classmethod
    def create(cls, workspace: Workspace, task: str, settings: Mapping[str, Any], argv: Sequence[str]) -> "Run":
        """A new run directory; nothing is started yet. UserError where a run is at work on the same."""
        asked = Command.of(workspace, task, settings, argv)
        known = runs(workspace)
        _check_alone(known, asked)
        began = time.strftime("%Y%m%d-%H%M%S")
        for attempt in range(1000):
            path = workspace.runs / (f"{began}-{task}" + (f"-{attempt}" if attempt else ""))
            try:
                check_own(path)
                path.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        run, order = cls(path), 1 + max((other.order for other in known), default=0)
        run._write_starting()  # first: what has a command has a status
        write_json(path / "command.json", to_json(replace(asked, order=order)))
        run._announce()
        return run

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def command(self) -> Command:
        path = self.path / "command.json"
        command: Command = from_json(Command, read_json(path), str(path))
        return command.within(self.workspace)

    @property
    def is_there(self) -> bool:
        """Whether it has a command, be that readable or not."""
        return os.path.lexists(self.path / "command.json")

    @property
    def order(self) -> int:
        """See Command.order; 0, too, where the command cannot be read."""
        try:
            order = read_json(self.path / "command.json")["order"]
        except (UserError, LookupError, TypeError):
            return 0
        return order if isinstance(order, int) else 0

    @property
    def status(self) -> Status:
        """status.json with the ``state`` that is true now: a run whose worker is gone has died. May be Refused."""
        try:
            status = self._read_status()
        except Refused:
            raise
        except UserError:  # a living worker soon writes it anew
            return Status(state="running") if self.alive else Status(state="died", error=self._unknown())
        if status.state in ENDED or self.alive:
            return status
        if status.state == "starting" and abs(time.time() - (status.started or 0)) < STARTING:  # clocks are set back
            return status
        with contextlib.suppress(UserError):  # it may have ended between the two looks
            status = self._read_status()
        return status if status.state in ENDED else replace(status, state="died", error=self._crash(status))

    def _unknown(self) -> str:
        what = "is damaged" if (self.path / STATUS).exists() else "is missing"
        return f"Its {STATUS} {what}, so how it went is not known: go on with saetui jobs resume {self.id}."

    def _crash(self, status: Status) -> str:
        """Why its worker died, as far as that can be known."""
        crashes = [line for line in self.printed() if line.startswith("Fatal Python error: ")]
        if not crashes:
            return f"Its worker was {lost(status.kills)}. Go on with saetui jobs resume {self.id}."
        if crashes[-1].endswith("Bus error"):
            return f"{CUT} and go on: saetui jobs resume {self.id}."
        return f"Its worker crashed ({crashes[-1].removeprefix('Fatal Python error: ')}): see {self.path / 'log.txt'}."

    @property
    def alive(self) -> bool:
        """Whether a worker holds this run, as far as can be told: where it cannot, the run is not called dead."""
        return held(self.path / HELD) is not False

    def hold(self) -> Lock:
        """Take the worker's lock of this run for as long as the returned object lives."""
        check_own(self.path)
        lock = take(self.path / HELD)
        if lock is None:
            raise UserError(f"Run {self.id} is going on already: follow it with saetui jobs follow {self.id}.")
        return lock

    def check_alone(self) -> None:
        """UserError where another run is at work on the same; of two that begin at once, the one that was asked for
        first goes on. For who holds it."""
        try:
            asked = self.command
        except (UserError, OSError):  # told by who reads it to do it
            return
        others = [one for one in runs(Workspace(self.workspace)) if one.id != self.id]
        _check_alone([one for one in others if one._has_begun or (one.order, one.id) < (self.order, self.id)], asked)

    @property
    def _has_begun(self) -> bool:
        """Whether its worker, if it lives, is past :meth:`check_alone`."""
        try:
            return self._read_status().state != "starting"
        except UserError:
            return True

    def detach(self) -> None:
        """Start the run's worker so that it outlives this process and its terminal."""
        with open_regular(self.path / "log.txt", "ab") as log:
            worker = subprocess.Popen(
                python_module("engine.runs.worker", str(self.path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._cwd(),
                env=environment(),
                start_new_session=True,
            )
        threading.Thread(target=worker.wait, daemon=True).start()  # else it stays a zombie while this process lives

    def control(self, what: Control) -> None:
        """Ask the worker to ``stop`` or to ``pause``; with the empty string, to go on. UserError for a pause of one
        that is asked to stop, which would be forgotten."""
        check_own(self.path)
        if what == "pause" and self.asked == "stop":
            raise UserError(
                f"Run {self.id} is asked to stop: it can go on after that, by saetui jobs resume {self.id}."
            )
        write_text(self.path / "control", what)

    def resume(self) -> None:
        """Let a paused run go on, or start one that ended early again; its stages continue where they stopped."""
        state = self.status.state
        if state == "done":
            raise UserError(f"Run {self.id} is done: there is nothing to resume.")
        if state not in ENDED and self.asked == "pause":
            self.control("")
            return
        if state not in ENDED:
            raise UserError(f"Run {self.id} is {state}: follow it with saetui jobs follow {self.id}.")
        later = later_of(self)
        if later and later.done:
            raise UserError(f"What run {self.id} began was finished by run {later.id}: there is nothing to resume.")
        self.check_alone()
        self._cwd()
        if TASKS[self.command.task].outside:
            raise UserError(f"Run {self.id} would write outside of its workspace: give its command, if you trust it.")
        self.hold().close()  # what keeps its worker from beginning is said here
        open_regular(self.path / "log.txt", "ab").close()
        self.control("")
        self._write_starting()
        self._announce()
        self.detach()

    def fail(self, mistake: str) -> None:
        """Say that its worker, which holds it, could not begin."""
        write_json(self.path / STATUS, to_json(Status(state="failed", ended=time.time(), error=mistake, mistake=True)))

    def events(self, offset: int = 0) -> tuple[list[Logged], int]:
        """See engine.runs.events.read_events."""
        return read_events(self.path / "events.jsonl", offset)

    def last_events(self) -> list[Logged]:
        """Those at the end of the log, however long it is."""
        return list(parse_events(tail(self.path / "events.jsonl")))

    def follow(self, poll: float = 0.1) -> Iterator[Logged]:
        """Every event from the first on, until the run has ended."""
        offset = 0
        while True:
            ended = self.status.state in ENDED
            events, offset = self.events(offset)
            yield from events
            if ended:
                return
            time.sleep(poll)

    def printed(self) -> list[str]:
        """The last lines that libraries have printed."""
        return last_lines(self.path / "log.txt")

    @property
    def workspace(self) -> Path:
        """Where it is now: the workspace may have been moved since the run was created."""
        home = self.path.parent
        return home.parent.parent if home.name == ARCHIVE else home.parent

    @property
    def asked(self) -> str:
        """What its worker was asked last, and does at its next step: see ``control``."""
        control = self.path / "control"
        return read_text(control).strip() if control.is_file() else ""

    def _cwd(self) -> Path:
        """Where its worker is started: where the command was given, of one whose paths are from there. UserError when
        that is gone."""
        command = self.command
        cwd = self.workspace if command.version > 1 or command.cwd == command.workspace else command.cwd
        if not cwd.is_dir():
            raise UserError(
                f"Run {self.id} was started in {cwd}, which is gone: give its command again: "
                f"{shlex.join(['saetui', *command.argv])}."
            )
        return cwd

    def _read_status(self) -> Status:
        path = self.path / STATUS
        status: Status = from_json(Status, read_json(path), str(path))
        if not all(0 <= time < LATEST for time in (status.started or 0, status.ended or 0, status.took or 0)):
            raise UserError(f"{path} is damaged (its times are none): give the command of the run again.")
        if status.progress and not all(0 <= n < MOST for n in (status.progress.done, status.progress.total)):
            status = replace(status, progress=None)
        return status

    def _announce(self) -> None:
        """Who watches the folder of the runs sees that one of them may change again."""
        with contextlib.suppress(OSError):
            os.utime(self.path.parent)

    def _write_starting(self) -> None:
        now = time.time()
        write_json(self.path / STATUS, to_json(Status(state="starting", started=now, since=now)))


def _places(task: str) -> dict[str, Place]:
    return places_of(TASKS[task].settings) if task in TASKS else {}


def archived(workspace: Workspace) -> list[Run]:
    """Those that are listed no more, by id."""
    place = workspace.runs / ARCHIVE
    found = [run for run in map(Run, place.iterdir()) if run.is_there] if place.is_dir() else []
    return sorted(found, key=lambda run: run.id)


def runs(workspace: Workspace) -> list[Run]:
    """All runs of the workspace, in the order in which they were started."""
    return sorted(_listed(workspace), key=lambda run: (run.order, run.id))


def _listed(workspace: Workspace) -> list[Run]:
    if not workspace.runs.is_dir():
        return []
    return [run for run in map(Run, workspace.runs.iterdir()) if run.is_there]


_HOW = ("device", "workers", "batch_size", "replace")
"""Settings of how work is done: it is the same work without them."""


def work_of(task: str, settings: Mapping[str, Any]) -> str:
    """What a run was asked to do: the same for who asks for it again, perhaps on another device."""
    asked = {name: value for name, value in settings.items() if name not in _HOW}
    if isinstance(given := asked.get("input"), (list, tuple)):  # in any order, and with ./ or without
        asked["input"] = sorted(str(one).replace("=./", "=", 1) for one in given)
    return json.dumps([task, asked], sort_keys=True, default=str)


@dataclass(frozen=True)
class Later:
    """Another run of what a run began that ended before it was done."""

    id: str
    done: bool
    """Else it is at work."""

    @property
    def sentence(self) -> str:
        """What is said of the run that ended, which is not to be resumed."""
        return f"Finished by run {self.id}." if self.done else f"Continued by run {self.id}, which is at work."

    @property
    def fields(self) -> dict[str, str]:
        """The same for JSON."""
        return {"finished_by" if self.done else "continued_by": self.id, "error": self.sentence}


def later_runs(known: Iterable[tuple[str, str, str]]) -> dict[str, Later]:
    """By the id of a run that ended before it was done: the next one that did the same work, else one that is at it,
    whether that was started later or resumed.

    ``known``: id, work (:func:`work_of`) and state of runs, in the order in which they were started.
    """
    found: dict[str, Later] = {}
    early: dict[str, list[str]] = {}
    at_work: dict[str, str] = {}
    for id, work, state in known:
        if state == "done":
            found |= dict.fromkeys(early.pop(work, ()), Later(id, True))
        elif state in ENDED:
            early.setdefault(work, []).append(id)
        elif state in AT_WORK:
            at_work[work] = id
    return found | {id: Later(at_work[work], False) for work in early.keys() & at_work for id in early[work]}


def known_works(listed: Iterable[Run]) -> Iterator[tuple[str, str, str]]:
    """What :func:`later_runs` asks of ``listed`` runs; those that cannot be read are passed over."""
    for run in listed:
        with contextlib.suppress(UserError, OSError):
            command = run.command
            yield run.id, work_of(command.task, command.settings), run.status.state


def later_of(run: Run) -> Later | None:
    """The other run of what ``run`` began; None without one, and of one that cannot be read."""
    try:
        state = run.status.state
    except (UserError, OSError):
        return None
    if state not in ENDED or state == "done":
        return None
    return later_runs(known_works(runs(Workspace(run.workspace)))).get(run.id)


def at_work(listed: Iterable[Run]) -> Iterator[tuple[Run, Command]]:
    """Those of ``listed`` runs whose workers live, with what they do, as far as they can be read."""
    for run in listed:
        with contextlib.suppress(UserError, OSError):
            if run.alive and run.status.state in AT_WORK:
                yield run, run.command


def _check_alone(others: Iterable[Run], asked: Command) -> None:
    """UserError where one of ``others`` is at work on what is ``asked``: two would be in each other's way."""
    work = work_of(asked.task, asked.settings)
    for run, command in at_work(others):
        if work_of(command.task, command.settings) == work:
            raise UserError(
                f"Run {run.id} is at work on the same: follow it with saetui jobs follow {run.id}, or stop it with "
                f"saetui jobs stop {run.id}."
            )


class RunList:
    """The runs of a workspace for who looks often: listed anew only when one came, went or was started again."""

    def __init__(self, workspace: Workspace):
        self._workspace = workspace
        self._runs: list[Run] = []
        self._orders: dict[str, int] = {}
        self._seen: Stamp | None = None
        self._changed = self._looked = -math.inf

    def look(self) -> tuple[list[Run], bool]:
        """See ``runs``; and whether those that had ended may be others now, which is so every ``REST`` seconds too."""
        now, seen = time.monotonic(), stamp(self._workspace.runs)
        if seen != self._seen:
            self._seen, self._changed = seen, now
        # what comes within a tick of the file system's clock leaves the same stamp
        anew = self._looked < self._changed + SETTLED or now > self._looked + REST
        if anew:
            found = _listed(self._workspace)
            self._orders |= {run.id: run.order for run in found if run.id not in self._orders}
            self._runs, self._looked = sorted(found, key=lambda run: (self._orders[run.id], run.id)), now
        return self._runs, anew


def find(workspace: Workspace, given: str) -> Run:
    """The run whose id is, or uniquely begins or ends with, ``given``; ``last`` is the newest that was not archived.

    Those that are listed go before archived ones, which were put out of the way.
    """
    listed = runs(workspace)
    if given == "last" and listed:
        return listed[-1]
    found = _fitting(listed, given) or _fitting(archived(workspace), given)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{given!r} fits {len(found)} runs: give more of the id ({found[0].id}, ...).")
    raise UserError(f"No run {given!r} in {workspace.root}: saetui jobs lists those that there are.")


def _fitting(known: Sequence[Run], given: str) -> list[Run]:
    return [r for r in known if r.id == given] or [r for r in known if r.id.startswith(given) or r.id.endswith(given)]


def tail(path: Path) -> bytes:
    """The whole lines at the end of a log; nothing where there is no log."""
    try:
        with open_regular(path) as file:
            begin = max(file.seek(0, 2) - TAIL, 0)
            file.seek(begin)
            data = file.read()
    except OSError:
        return b""
    return data[data.find(b"\n") + 1 :] if begin else data


def last_lines(path: Path) -> list[str]:
    """The lines at the end of a log, as text."""
    return tail(path).decode(errors="replace").splitlines()


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
