"""Trainings as a table shows them: SAEs on disk joined with the runs that make them, those that were trained elsewhere
among them. Costs no torch, never raises.

Event logs grow for days and files vanish or are cut while they are read, so a log is read once, piece by piece, and
what is damaged becomes a sentence in its row.
"""

import bisect
import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from engine.config import ImportSettings, TrainSettings
from engine.errors import UserError, reason, refusal
from engine.files import Stamp, stamp
from engine.records import from_json
from engine.regular import open_regular
from engine.reporter import Measured, StageBegan
from engine.reporter import Progress as Step
from engine.runs.events import DAMAGED, Logged, Status, parse_events
from engine.runs.memory import Memory
from engine.runs.rate import Rate, seconds_left
from engine.runs.run import ENDED, STATUS, Command, Run, RunList, runs
from engine.runs.tasks import TASKS as STAGES
from engine.sae.config import CONFIG, TRAINING, WEIGHTS, SAEConfig, no_weights, read_config
from engine.sae.results import READ_STAGE, Checked, Imported, MeasuredStep
from engine.sae.state import (
    Checkpointed,
    Finished,
    checkpoint_path,
    read_state,
    read_training,
    settings_of,
    trained_alike,
)
from engine.workspace import Workspace

POINTS = 4000  # of a series that are kept at most
PIECE = 1 << 22  # bytes of a log that are read at a time
TASKS = ("train", "run", "demo", "import")  # those that make SAEs
DEMO_NAME = "demo"  # of the SAE that the demo trains
LIVE = ("starting", "running", "paused")
_STAGE = re.compile(r"\d+/\d+ (\w+) (.+)")
_UNREADABLE = (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)

V = TypeVar("V")


@dataclass(frozen=True)
class FrozenTwin:
    """What a training is held against: the same one, but for a decoder or encoder that was left at its start."""

    name: str
    frozen: str
    """What was."""
    last: MeasuredStep
    """What it came to, on the same held-out images."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One row: an SAE that is trained, was trained, or could not be; or one that was trained elsewhere."""

    name: str
    state: str
    """starting, running, paused, done, stopped, failed, died, unfinished (a checkpoint of no known run) or damaged."""
    step: int = 0
    steps: int = 0
    """0 where not known yet."""
    loss: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss) in order, thinned to ``POINTS`` at most."""
    history: list[MeasuredStep] = field(default_factory=list)
    """In order, thinned likewise."""
    pace: list[tuple[int, float]] = field(default_factory=list)
    """(step, steps a second around it) in order, thinned likewise; empty where no run is known."""
    rate: float | None = None
    """Steps a second over the last seconds (engine.runs.rate); None unless it runs."""
    tokens_per_s: float | None = None
    waiting: float | None = None
    """Share of the time spent waiting for data; None unless it runs."""
    eta: float | None = None
    """Seconds left at this rate."""
    waits_for: str = ""
    """What it does while it tells no progress; empty where it does."""
    waited: int = 0
    """Seconds since it began that."""
    settings: TrainSettings | None = None
    """None where they are not known; with empty ``activations`` where only a checkpoint tells them."""
    run: str | None = None
    """Id of the newest run that trained it."""
    kept: int | None = None
    """The step of the checkpoint that it can go on from; None where there is none."""
    error: str | None = None
    """One sentence about what went wrong."""
    memory: Memory | None = None
    """None unless it runs."""
    config: SAEConfig | None = None
    """Of a finished SAE that was not trained here: what it is, and where it came from."""
    checked: Checked | None = None
    """What its import measured."""
    asked: ImportSettings | None = None
    """Of its import, where the run of that is known."""
    alike: str = ""
    """What it has in common with its frozen twins (engine.sae.state.trained_alike); empty until it is done."""
    twin: FrozenTwin | None = None
    """The best of them, by FVE; None where there is none, and of one that is frozen itself."""

    @property
    def live(self) -> bool:
        """Whether a run works on it, or will when it goes on."""
        return self.state in LIVE


class ThinnedSeries(Generic[V]):
    """Values by step, thinned to every 2nd, 4th, ... as they become many; the last one is always there."""

    def __init__(self, most: int = POINTS):
        self.most = most
        self._kept: list[tuple[int, V]] = []
        self._last: tuple[int, V] | None = None
        self._stride = 1
        self._seen = 0

    def add(self, step: int, value: V) -> None:
        """``step`` at or before the last one: the work went back to a checkpoint, what came after it is forgotten."""
        if self._last is not None and step <= self._last[0]:
            del self._kept[bisect.bisect_left(self._kept, step, key=lambda point: point[0]) :]
        self._last = (step, value)
        if self._seen % self._stride == 0:
            self._kept.append(self._last)
        self._seen += 1
        if len(self._kept) >= self.most:
            self._kept = self._kept[::2]
            self._stride *= 2

    def points(self) -> list[tuple[int, V]]:
        last = [self._last] if self._last is not None and self._last not in self._kept[-1:] else []
        return self._kept + last


class LoggedTraining:
    """What the log of a run says of one training."""

    def __init__(self) -> None:
        self.loss: ThinnedSeries[float] = ThinnedSeries()
        self.history: ThinnedSeries[MeasuredStep] = ThinnedSeries()
        self.pace: ThinnedSeries[float] = ThinnedSeries()
        self.step = self.steps = 0
        self.waiting: float | None = None
        self._rate = Rate()

    def begin(self) -> None:
        """The training starts, or goes on after an interruption: its pace is a new one."""
        self._rate.restart()

    def measure(self, measured: Measured) -> None:
        values = {"step": measured.step, **measured.values}
        self.history.add(measured.step, from_json(MeasuredStep, values, "A measurement"))

    def advance(self, steps: Step, time: float) -> None:
        self.step, self.steps = steps.done, steps.total
        self.waiting = steps.measured.get("waiting")
        loss = steps.measured.get("loss")
        if isinstance(loss, float):
            self.loss.add(self.step, loss)
        self._rate.see(time, self.step)
        if self.rate is not None:
            self.pace.add(self.step, self.rate)

    @property
    def rate(self) -> float | None:
        """Steps a second, at the end of the log."""
        return self._rate.value


class TrainingLog:
    """The trainings in one run's events.jsonl, followed as it grows."""

    def __init__(self, path: Path, name: str | None = None, whole: bool = False, stage: str = "train"):
        """``name``: of the SAE, where there is only one; else the stages of a plan tell. ``whole``: the run does
        nothing else. ``stage``: with which one begins."""
        self.path, self._name, self._whole, self._begins = path, name, whole, stage
        self._restart()

    @classmethod
    def of(cls, run: Path, command: Command) -> "TrainingLog":
        """The log of the run in the directory ``run``, which does what ``command`` says."""
        own = command.settings.get("name")
        name = {"train": own, "import": own, "demo": DEMO_NAME}.get(command.task)
        stage = READ_STAGE if command.task == "import" else "train"
        return cls(run / "events.jsonl", name, whole=command.task == "train", stage=stage)

    def _restart(self) -> None:
        self._offset, self._inode = 0, 0
        self.trainings: dict[str, LoggedTraining] = {}
        self.damaged = False
        """Whether something that it said cannot be known any more."""
        self.current = self._name if self._whole else None
        """The training under way where the log ends; None between trainings."""
        self._next = self._name

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._offset

    def read(self, most: int = PIECE) -> bool:
        """Take in up to ``most`` further bytes; whether there is more. A log that became another one is read anew."""
        try:
            with open_regular(self.path) as file:
                found = os.fstat(file.fileno())
                if found.st_size < self._offset or found.st_ino != self._inode:
                    self._restart()
                self._inode = found.st_ino
                file.seek(self._offset)
                data = file.read(most)
        except OSError:
            self._inode = 0  # what comes back under this name is another log
            return False
        end = data.rfind(b"\n") + 1
        if not end and len(data) == most:  # no line is that long: what this is, is of no use
            end = len(data)
        self._offset += end
        for logged in parse_events(data[:end]):
            with contextlib.suppress(UserError, ArithmeticError):
                self._take(logged)
        return end > 0 and self._offset < found.st_size

    def _take(self, logged: Logged) -> None:
        match logged.event:
            case StageBegan(name):
                self._stage(name)
            case event if event == DAMAGED:
                self.damaged = True
            case Measured() as measured if self.current is not None:
                self.trainings.setdefault(self.current, LoggedTraining()).measure(measured)
            case Step(unit="steps") as steps if self.current is not None:
                self.trainings.setdefault(self.current, LoggedTraining()).advance(steps, logged.time)

    def _stage(self, name: str) -> None:
        announced = _STAGE.fullmatch(name)
        if announced:  # a stage of a plan
            self._next = announced[2] if announced[1] == "train" else None
            self.current = self._next
        elif name == self._begins and self._next:
            self.current = self._next
            self.trainings.setdefault(self.current, LoggedTraining()).begin()
        elif self._begins != READ_STAGE:  # an import has further stages, all of the one SAE
            self.current = None


@dataclass(frozen=True)
class _Part:
    """A run that made an SAE, alone or among others."""

    run: Run
    status: Status
    command: Command
    log: TrainingLog

    @property
    def names(self) -> set[str]:
        return {*self.log.trainings, *filter(None, [self.log.current])}

    @property
    def imports(self) -> bool:
        return self.command.task == "import"


class Trainings:
    """All trainings of a workspace, kept up to date cheaply: what has not changed is not read again."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._list = RunList(workspace)
        self._commands: dict[str, tuple[Command, TrainingLog]] = {}
        self._anew = True
        self._rest: list[Training] | None = None
        self._ended: dict[Path, tuple[Any, _Part | None]] = {}
        self._read: dict[Path, tuple[Any, Any]] = {}
        self._rows: dict[str, tuple[Any, Training | None]] = {}

    def refresh(self, most: int = PIECE) -> tuple[list[Training], bool]:
        """The rows, those of the newest runs first, and whether logs have more than the ``most`` bytes of each that
        were read now. While nothing goes on they are the very same for some seconds: see RunList."""
        listed, self._anew = self._list.look()
        if self._rest is not None and not self._anew:
            return self._rest, False
        rows, more, live = [], False, False
        parts: dict[str, list[_Part]] = {}
        for run in listed:
            try:
                part, unread = self._part(run, most)
            except _UNREADABLE as error:
                rows.append(Training(name=run.id, state="damaged", run=run.id, error=_sentence(error, run.path)))
                continue
            more |= unread
            if part is not None:
                live |= part.status.state in LIVE
                for name in part.names:
                    parts.setdefault(name, []).append(part)
        folders = _found(lambda: os.listdir(self.workspace.root / "saes"), [])
        place = {run.id: number for number, run in enumerate(listed)}
        newest = {name: place[parts[name][-1].run.id] if name in parts else -1 for name in {*parts, *folders}}
        for name in sorted(sorted(newest), key=lambda n: newest[n], reverse=True):
            row = self._row(name, parts.get(name, []))
            if row is not None:
                rows.append(row)
        self._pair(rows)
        self._rest = None if more or live else rows
        return rows, more

    def _pair(self, rows: list[Training]) -> None:
        """Tell each of its best frozen twin. Rows of which that is the same stay the very same."""
        best: dict[str, FrozenTwin] = {}
        for row in rows:
            if row.alike and row.history and row.settings and row.settings.frozen != "none":
                found, known = FrozenTwin(row.name, row.settings.frozen, row.history[-1]), best.get(row.alike)
                if known is None or (found.last.fve or 0.0) > (known.last.fve or 0.0):
                    best[row.alike] = found
        for place, row in enumerate(rows):
            twin = best.get(row.alike) if row.settings and row.settings.frozen == "none" else None
            if twin != row.twin:
                rows[place] = replace(row, twin=twin)
                self._rows[row.name] = self._rows[row.name][0], rows[place]

    def _command(self, run: Run) -> tuple[Command, TrainingLog]:
        if run.id not in self._commands:
            command = run.command
            self._commands[run.id] = command, TrainingLog.of(run.path, command)
        return self._commands[run.id]

    def _part(self, run: Run, most: int) -> tuple[_Part | None, bool]:
        """What the run has trained, None for one that trains nothing; and whether its log has more to be read."""
        known = self._ended.get(run.path)
        if known is not None and not (self._anew and known[0] != _stamps(run)):
            return known[1], False
        at, (command, log) = _stamps(run), self._command(run)
        part = _Part(run, run.status, command, log) if command.task in TASKS else None
        more = part is not None and log.read(most)
        self._ended.pop(run.path, None)
        if part is None or (part.status.state in ENDED and not more):
            self._ended[run.path] = at, part
        return part, more

    def _once(self, path: Path, read: Callable[[], Any]) -> Any:
        """What ``read`` makes of the file at ``path``, or the error that it raises; anew only when it changed."""
        seen = stamp(path)
        if path not in self._read or self._read[path][0] != seen:
            try:
                value = read()
            except _UNREADABLE as error:
                value = error
            self._read[path] = seen, value
        return self._read[path][1]

    def _row(self, name: str, parts: list[_Part]) -> Training | None:
        """The row of the SAE ``name``, kept while nothing moves; None where there is nothing to show."""
        known = self._rows.get(name)
        live = any(part.status.state in LIVE for part in parts) or (known and known[1] and known[1].live)
        if known is not None and not self._anew and not live:
            return known[1]
        folder = self.workspace.root / "saes" / name
        files = (folder / TRAINING, checkpoint_path(folder), folder / WEIGHTS, folder / CONFIG)
        key = (*map(stamp, files), *((p.run.id, p.log.offset, p.log.current, p.status.state) for p in parts))
        if known is not None and known[0] == key and not (known[1] and known[1].live):
            return known[1]
        try:
            row = self._joined(name, folder, parts)
        except _UNREADABLE as error:
            row = Training(name=name, state="damaged", error=_sentence(error, folder))
        self._rows[name] = key, row
        return row

    def _joined(self, name: str, folder: Path, parts: list[_Part]) -> Training | None:
        finished = self._once(folder / TRAINING, lambda: read_training(folder))
        checkpoint = self._once(checkpoint_path(folder), lambda: read_state(folder))
        if finished or checkpoint:
            parts = [part for part in parts if not part.imports or part.status.state in LIVE]  # refused, as it is there
        config = None if finished or checkpoint else self._once(folder / CONFIG, lambda: _untrained(folder))
        part = parts[-1] if parts else None
        last = part.status.state if part is not None and part.log.current == name else None
        done = finished.result.steps if isinstance(finished, Finished) else 0
        if isinstance(checkpoint, Checkpointed) and checkpoint.step > done:
            finished = None  # it goes on to more steps
        if last in LIVE:
            state, error = str(last), None
        elif isinstance(finished, Exception):
            state, error = "damaged", _sentence(finished, folder / TRAINING)
        elif finished:
            state, error = "done", None
        elif isinstance(config, Exception):
            state, error = "damaged", _sentence(config, folder / CONFIG)
        elif config:
            state, error = "done", None
        elif part is not None and last in ENDED and last != "done":
            state, error = str(last), _why(part)
        elif isinstance(checkpoint, Exception):
            state, error = "damaged", _sentence(checkpoint, checkpoint_path(folder))
        elif checkpoint:
            state, error = "unfinished", None
        else:
            return None
        told = finished if isinstance(finished, Finished) and state == "done" else None
        kept = checkpoint if isinstance(checkpoint, Checkpointed) else None
        row = self._filled(name, state, error, parts, told, kept)
        imported = [one for one in parts if one.imports]
        return self._brought(row, config if state == "done" else None, imported) if config or imported else row

    def _brought(self, row: Training, config: SAEConfig | None, imports: list[_Part]) -> Training:
        """``row`` with what is known of an SAE that was trained elsewhere."""
        asked = imports[-1].command.asked(self.workspace.root) if imports else None
        measured = [_checked(part) for part in imports if part.status.state == "done"] if config else []
        return replace(
            row,
            config=config,
            checked=next((one for one in reversed(measured) if one), None),
            asked=from_json(ImportSettings, asked, row.name) if asked else None,
        )

    def _filled(
        self,
        name: str,
        state: str,
        error: str | None,
        parts: list[_Part],
        finished: Finished | None,
        checkpoint: Checkpointed | None,
    ) -> Training:
        logged = [part.log.trainings[name] for part in parts if name in part.log.trainings]
        part, progress = parts[-1] if parts else None, logged[-1] if logged else LoggedTraining()
        kept = finished or checkpoint
        known = [(one.step, one) for one in kept.history] if kept else []
        history = [known] if finished else [known, *(one.history.points() for one in logged)]
        measured = [value for _, value in _merged(history)]
        settings = finished.settings if finished else self._settings(name, part)
        if settings is None and checkpoint:
            settings = settings_of(name, checkpoint.identity)
        step = finished.result.steps if finished else progress.step or (checkpoint.step if checkpoint else 0)
        steps = (settings.steps if settings else 0) or progress.steps or (kept.identity["steps"] if kept else 0)
        live = state in LIVE and part is not None
        rate, eta = None, None
        if state == "running" and part and name in part.log.trainings:
            rate = part.status.rate or progress.rate
            told = part.status.progress
            now = told if told and told.unit == "steps" else Step(step, steps, "steps")
            eta = seconds_left(now.done, now.total, rate)
        return Training(
            name=name,
            state=state,
            step=step,
            steps=steps,
            loss=_merged([one.loss.points() for one in logged]) or [(one.step, one.loss) for one in measured],
            history=measured,
            pace=_merged([one.pace.points() for one in logged]),
            rate=rate,
            tokens_per_s=rate * settings.batch_size if rate and settings else None,
            waiting=progress.waiting if state == "running" else None,
            eta=eta,
            waits_for=part.status.waits_for if live and part else "",
            waited=part.status.waited if live and part else 0,
            settings=settings,
            run=part.run.id if part else None,
            kept=checkpoint.step if checkpoint else None,
            error=error or _left_out(parts),
            memory=part.status.memory if live and part else None,
            alike=trained_alike(finished) if finished else "",
        )

    def _settings(self, name: str, part: _Part | None) -> TrainSettings | None:
        """What the run was asked: by its command, or by the plan that it follows, as that is now."""
        if part is None or part.command.task in ("demo", "import"):
            return None
        if part.command.task == "train":
            settings: TrainSettings = from_json(
                TrainSettings, part.command.asked(self.workspace.root), str(part.run.path)
            )
            return settings
        from engine.runs.plan import plan_path, read_plan

        followed = part.command.asked(self.workspace.root)
        path = plan_path(followed["plan"])
        stages = self._once(path, lambda: read_plan(path, self.workspace, followed.get("input", ())))
        asked = [s.settings for s in stages if s.task == "train"] if isinstance(stages, list) else []
        return next((settings for settings in asked if settings.name == name), None)


def trainings(workspace: Workspace) -> list[Training]:
    """All trainings of the workspace, once, however long their logs are."""
    table = Trainings(workspace)
    rows, more = table.refresh()
    while more:
        rows, more = table.refresh()
    return rows


def clone(training: Training, workspace: Workspace) -> TrainSettings:
    """Settings for the same training under a free name: x8 -> x8-2 -> x8-3.

    UserError where the settings are not known.
    """
    settings = training.settings
    if settings is None or not settings.activations:
        raise UserError(
            f"{training.name} cannot be started again under another name: what it was trained on is not known."
        )
    taken = {path.name for path in _found(lambda: list((workspace.root / "saes").iterdir()), [])}
    for run in _found(lambda: runs(workspace), []):
        with contextlib.suppress(*_UNREADABLE):
            taken.add(str(run.command.settings.get("name")))
    stem, number = training.name, 2
    copy = re.fullmatch(r"(.+)-(\d+)", training.name)
    if copy and copy[1] in taken:
        stem, number = copy[1], int(copy[2]) + 1
    while f"{stem}-{number}" in taken:
        number += 1
    return replace(settings, name=f"{stem}-{number}")


def _stamps(run: Run) -> tuple[Stamp | None, Stamp | None]:
    return stamp(run.path / STATUS), stamp(run.path / "events.jsonl")


def _untrained(folder: Path) -> SAEConfig | None:
    """The config of the SAE in ``folder``; None where there is none, UserError where it is damaged."""
    if not (folder / CONFIG).is_file():
        return None
    if not (folder / WEIGHTS).is_file():
        raise no_weights(folder)
    return read_config(folder)


def _checked(part: _Part) -> Checked | None:
    result = STAGES["import"].read(part.status.result)
    return result.checked if isinstance(result, Imported) else None


def _why(part: _Part) -> str | None:
    if part.status.state == "failed":
        return str(part.status.error or f"It failed: see {part.run.path / 'log.txt'}.")
    return part.status.error


def _left_out(parts: list[_Part]) -> str | None:
    """What is missing in the curves."""
    damaged = [part.run for part in parts if part.log.damaged]
    if not damaged:
        return None
    return f"{damaged[0].path} has damaged events, which are left out: saetui jobs follow {damaged[0].id} shows where."


def _merged(parts: list[list[tuple[int, V]]]) -> list[tuple[int, V]]:
    """Points of one run after the other: where a later one begins, what an earlier one has beyond is forgotten."""
    joined: list[tuple[int, V]] = []
    for points in filter(None, parts):
        joined = joined[: bisect.bisect_left(joined, points[0][0], key=lambda point: point[0])] + points
    every = -(-len(joined) // POINTS)
    return joined if every <= 1 else [*joined[:-1:every], joined[-1]]


def _found(look: Callable[[], list[Any]], otherwise: list[Any]) -> list[Any]:
    try:
        return look()
    except OSError:  # not there yet, or removed while it was listed
        return otherwise


def _sentence(error: Exception, path: Path) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and (refused := refusal(error, path)):
        return str(refused)
    return f"{path} cannot be read ({reason(error)}): put back a copy of it."
