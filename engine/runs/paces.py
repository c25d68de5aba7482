"""How long work took in this workspace: the paces of earlier runs, by what their events say. Costs no torch.

A pace is of work of the same kind with the same model on the same device: where there was none, it is not known.
"""

import contextlib
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from engine.config import ExtractSettings, ScoreSettings
from engine.errors import UserError
from engine.files import read_bytes
from engine.models.asked import may_have_gpu
from engine.neurons.asked import apart, passes
from engine.reporter import Done, Failed, Progress, StageBegan, StoppedEarly
from engine.runs.events import Logged, parse_events
from engine.runs.plan import Stage, plan_path, read_plan
from engine.runs.run import Run, runs
from engine.runs.tasks import TASKS
from engine.sae.config import read_config
from engine.settings import from_mapping
from engine.workspace import Workspace

LOOKED = 20  # runs that are asked how long they took, the newest first
MOST = 1 << 30  # bytes of a log that is read
_TASKS = ("extract", "score", "scores", "concepts", "steer", "steerability", "run")
_OF_PLAN = re.compile(r"(\d+)/(\d+) (\w+) (.*?)(?: and ([\d,]+) more)?")
_UNREADABLE = (UserError, OSError, LookupError, TypeError, ValueError)
_KINDS = [b'"kind": "%s"' % kind for kind in (b"stage", b"done", b"stopped", b"failed")]
_NOTHING = "nothing to do"  # how the stage of what was there begins
_NAMING = ("sae", "name", "save_recipe", "save_recipes", "out")  # settings that say what is asked, not how much


@dataclass(frozen=True)
class Forward:
    """Whose forward passes: an encoder, in a precision, on a device."""

    model: str
    precision: str
    device: str

    @classmethod
    def of(cls, model: str, asked: ExtractSettings | ScoreSettings) -> "Forward":
        """Of what ``asked`` shows to ``model``."""
        device = "cpu" if asked.device == "auto" and not may_have_gpu() else asked.device
        return cls(model, getattr(asked, "precision", "float32"), device)


@dataclass(frozen=True)
class Span:
    """A stage of a run from its beginning to its end."""

    stage: str
    seconds: float
    a_unit: float | None
    """Seconds that one of its units took, as images; None where it told none."""
    units: int
    """That were done when it ended."""
    whole: bool
    """Whether it came to its end."""


@dataclass(frozen=True)
class _Batch:
    """Stages of one task that a run did at once, and what its events tell of that."""

    stages: Sequence[Stage]
    spans: list[Span]


@dataclass
class Paces:
    """Seconds that each took."""

    image: dict[Forward, list[float]] = field(default_factory=lambda: defaultdict(list))
    """To show one image to an encoder."""
    scored: list[float] = field(default_factory=list)
    """To score an SAE after the pass, for each image."""
    drawn: list[float] = field(default_factory=list)
    """To draw a picture."""
    alike: list[tuple[Any, float]] = field(default_factory=list)
    """To answer, measure or draw all that the settings ask, of whichever SAE."""

    def of_images(self, forward: Forward, images: int) -> float | None:
        """To show so many images to an encoder; None where it is not known."""
        return _median(self.image.get(forward, []), images)

    def of_scores(self, images: int) -> float | None:
        """To score an SAE on so many images that its encoder has seen."""
        return _median(self.scored, images)

    def of_pictures(self, pictures: int) -> float | None:
        return _median(self.drawn, pictures)

    def of_alike(self, asked: Any) -> float | None:
        """To do what was done before of another SAE, with the very same settings."""
        alike = _but_names(asked)
        return _median([seconds for before, seconds in self.alike if before == alike], 1)


def _median(found: Sequence[float], units: int) -> float | None:
    if not units:
        return 0.0
    return units * statistics.median(found) if found else None


def _but_names(asked: Any) -> Any:
    return replace(asked, **{one.name: "" for one in fields(asked) if one.name in _NAMING})


def paces(workspace: Workspace) -> Paces:
    """Of the newest runs of the workspace. Never raises: what cannot be read tells nothing."""
    found = Paces()
    for run in reversed(runs(workspace)[-LOOKED:]):
        with contextlib.suppress(*_UNREADABLE):
            if run.command.task in _TASKS:
                for batch in _batches(run, workspace):
                    with contextlib.suppress(*_UNREADABLE):
                        _learn(batch, workspace, found)
    return found


def _learn(batch: "_Batch", workspace: Workspace, found: Paces) -> None:
    settings, spans = batch.stages[0].settings, batch.spans
    match batch.stages[0].task:
        case "draw":
            found.drawn += [span.a_unit for span in spans if span.stage == "drawing" and span.a_unit is not None]
        case "extract":
            seen = [span.a_unit for span in spans if span.stage == "extracting" and span.a_unit is not None]
            found.image[Forward.of(settings.model, settings)] += seen
        case "score":
            _learn_scoring([one.settings for one in batch.stages], spans, workspace, found)
        case "steer" | "steerability" | "concepts" | "figure" if spans and all(span.whole for span in spans):
            if not any(span.stage.startswith(_NOTHING) for span in spans):
                found.alike.append((_but_names(settings), sum(span.seconds for span in spans)))


def _learn_scoring(asked: Sequence[ScoreSettings], spans: Sequence[Span], workspace: Workspace, found: Paces) -> None:
    configs = [read_config(workspace.existing("saes", one.sae)) for one in asked]
    turns = iter(
        [
            (Forward.of(judge, first := asked[some[0]]), Forward.of(first.encoder or configs[some[0]].model, first))
            for some in passes(asked, configs)
            for judge in dict.fromkeys(asked[number].embed_with for number in some)
        ]
    )
    judge: Forward | None = None
    encoder: Forward | None = None
    images = 0
    for span in spans:
        match span.stage:
            case "embedding":
                judge, encoder = next(turns)
            case "embedding crops":
                judge = None  # whose they are is not told, nor are they whole images
            case "extracting" if judge and span.a_unit:
                found.image[judge].append(span.a_unit)
            case "encoding" if encoder and span.a_unit and span.whole:
                images = span.units
                found.image[encoder].append(span.a_unit)
            case stage if images and span.whole and stage.partition(" ")[0] == "scoring":
                found.scored.append(span.seconds / images)


def _batches(run: Run, workspace: Workspace) -> Iterator["_Batch"]:
    """What a run did, in the order in which it did it."""
    command, found = run.command, _spans(run)
    kind: Any = TASKS[command.task].settings
    settings = from_mapping(kind, command.asked(workspace.root), run.id)
    match command.task:
        case "run":
            plan = read_plan(plan_path(settings.plan), workspace, settings.input)
            yield from _of_plan(plan, found)
        case "scores":
            yield _Batch([Stage("score", one) for one in apart(settings)], found)
        case task:
            yield _Batch([Stage(task, settings)], found)


def _of_plan(plan: Sequence[Stage], found: Sequence[Span]) -> Iterator["_Batch"]:
    """Its stages as the run began them; those that the plan has no more, or elsewhere, are passed over."""
    batch: _Batch | None = None
    for span in found:
        if begun := _OF_PLAN.fullmatch(span.stage):
            if batch:
                yield batch
            first, more = int(begun[1]) - 1, int((begun[5] or "0").replace(",", ""))
            some = plan[first : first + more + 1]
            same = len(plan) == int(begun[2]) and (some[0].task, some[0].name) == (begun[3], begun[4])
            batch = _Batch(list(some), []) if same else None
        elif batch:
            batch.spans.append(span)
    if batch:
        yield batch


def _spans(run: Run) -> list[Span]:
    """The stages of a run; the last one too, if it did not come to its end."""
    found: list[Span] = []
    stage, began, first, last = "", 0.0, (0.0, 0), (0.0, 0)
    for one in _told(read_bytes(run.path / "events.jsonl", MOST)):
        match one.event:
            case Progress(done=done):
                last = (one.time, done)
                first = first if first[1] else last
            case StageBegan() | Done() | StoppedEarly() | Failed():
                if stage:
                    whole = isinstance(one.event, (StageBegan, Done))
                    found.append(Span(stage, one.time - began, _a_unit(began, first, last), last[1], whole))
                stage = one.event.name if isinstance(one.event, StageBegan) else ""
                began, first, last = one.time, (0.0, 0), (0.0, 0)
    if stage:  # it was killed
        found.append(Span(stage, last[0] - began, _a_unit(began, first, last), last[1], False))
    return found


def _a_unit(began: float, first: tuple[float, int], last: tuple[float, int]) -> float | None:
    """Seconds a unit between the first and the last that was told: what was done before a run was stopped counts in
    both. Where one was told, since the stage began."""
    if last[1] > first[1]:
        return (last[0] - first[0]) / (last[1] - first[1])
    return (last[0] - began) / last[1] if last[1] else None


def _told(log: bytes) -> Iterator[Logged]:
    """The events of a log, but of progress the first and the last of a stage: there may be millions."""
    lines: list[bytes] = []
    told = 0
    for line in log.splitlines(keepends=True):
        progress = b'"kind": "progress"' in line
        told = told + 1 if progress else 0
        if told > 2:
            lines[-1] = line
        elif progress or any(kind in line for kind in _KINDS):
            lines.append(line)
    yield from parse_events(b"".join(lines))
