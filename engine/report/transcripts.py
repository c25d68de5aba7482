"""What a steered model said, with its controls: answers of ``saetui steer``, of plans, and of the workbench."""

import difflib
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from engine.config import SteerSettings
from engine.demo.results import DemoDone
from engine.errors import UserError, counted
from engine.images.opening import picture
from engine.numbers import significant
from engine.places import recorded, recorded_text
from engine.records import from_json, parse_json, to_json
from engine.regular import open_regular
from engine.report.pictures import SIDE, encoded
from engine.runs.plan import PlanDone, read_plan
from engine.runs.run import Run, runs
from engine.runs.tasks import TASKS
from engine.settings import from_mapping
from engine.steer.recipes import with_recipe
from engine.steer.results import ANSWERS, Steered
from engine.workspace import Workspace

MOST = 60  # transcripts, the newest first
TITLES = {"untouched": "untouched", "attached": "SAE attached, nothing changed", "steered": "steered"}
_UNREADABLE = (UserError, OSError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Part:
    """Words of an answer; ``new``: not in the one that it is compared with."""

    text: str
    new: bool


@dataclass(frozen=True)
class Told:
    """One of the three answers."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Transcript:
    """One question to a model, and its three answers."""

    time: float
    """Seconds since the epoch."""
    source: str
    """Which run, or that the workbench asked."""
    prompt: str
    image: str
    setting: str
    """Model, mode, tokens and the rest in a line."""
    latents: tuple[str, ...]
    answers: tuple[Told, ...]
    picture: str = ""
    """Base64 of WebP; empty where the image cannot be read any more."""
    numbers: tuple[int, ...] = ()
    """Of the latents that are turned."""

    @property
    def when(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time)) if 0 < self.time < 2**36 else ""

    @property
    def identity(self) -> Any:
        return self.prompt, self.image, self.setting, self.latents, self.answers


@dataclass(frozen=True)
class _Slot:
    latent: int
    value: float
    on: bool = True
    maximum: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class _Setup:
    sae: str
    vlm: str
    image: str
    prompt: str
    mode: str
    tokens: str
    keep_error: bool
    max_new_tokens: int
    rack: tuple[_Slot, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A line of what the workbench has kept of Steer."""

    setup: _Setup
    answers: Steered
    time: float = 0.0


def transcripts(workspace: Workspace, sae: str, asked: str) -> list[Transcript]:
    """Those of the SAE called ``sae``, the newest first, each once. ``asked``: file of what the workbench kept."""
    found = [*_of_runs(workspace, sae), *(_of_workbench(Path(asked), sae, workspace) if asked else ())]
    found.sort(key=lambda one: -one.time)
    return list({one.identity: one for one in reversed(found)}.values())[::-1]


def demo_of(workspace: Workspace, sae: str) -> tuple[DemoDone, str] | None:
    """The newest result of the demo, and its run, where ``sae`` is the one that it trained."""
    for run in reversed(runs(workspace)):
        try:
            if run.command.task == "demo" and sae == "demo" and run.status.state == "done":
                done: DemoDone = TASKS["demo"].read(run.status.result)
                return done, f"runs/{run.id}"
        except _UNREADABLE:
            continue
    return None


def _of_runs(workspace: Workspace, sae: str) -> Iterator[Transcript]:
    for run in runs(workspace):
        try:
            if run.command.task in ("steer", "run") and run.status.state == "done":
                yield from _of_run(run, workspace, sae)
        except _UNREADABLE:  # of a newer version, or damaged: the list of runs says so
            continue


def _of_run(run: Run, workspace: Workspace, sae: str) -> Iterator[Transcript]:
    status, ended = run.status, run.status.ended or 0.0
    asked = run.command.asked(workspace.root)
    if run.command.task == "steer":
        settings = with_recipe(workspace, from_mapping(SteerSettings, asked, run.id))
        if Path(settings.sae).name == sae:
            yield _of_settings(settings, TASKS["steer"].read(status.result), ended, f"runs/{run.id}", workspace)
        return
    done: PlanDone = TASKS["run"].read(status.result)
    stages = read_plan(Path(asked["plan"]), workspace)  # as the plan is now
    for stage, result in zip(stages, done.stages, strict=True):
        if (stage.task, stage.name) != (result.stage, result.name):
            return
        if stage.task == "steer":
            settings = with_recipe(workspace, stage.settings)
            if Path(settings.sae).name == sae:
                yield _of_settings(settings, TASKS["steer"].read(result.result), ended, f"runs/{run.id}", workspace)


def _of_workbench(path: Path, sae: str, workspace: Workspace) -> Iterator[Transcript]:
    try:
        with io.BufferedReader(open_regular(path)) as file:
            lines = file.readlines()
    except OSError:
        return
    for line in lines:
        try:
            asked: _Asked = from_json(_Asked, parse_json(line), "A kept answer")
        except (ValueError, UserError):
            continue
        if Path(asked.setup.sae).name == sae:
            yield _of_setup(asked, workspace)


def _of_settings(
    settings: SteerSettings, answers: Steered, ended: float, source: str, workspace: Workspace
) -> Transcript:
    said = recorded(settings, workspace.root)
    numbers = tuple(int(found[0]) for text in settings.latent if (found := re.match(r"\d+", text.strip())))
    return Transcript(
        time=ended,
        source=source,
        prompt=settings.prompt,
        image=said.image,
        setting=_setting(said.vlm, settings.mode, settings.tokens, settings.keep_error, settings.max_new_tokens),
        latents=settings.latent or ("no latent changed",),
        answers=_told(answers),
        picture=_picture(settings.image),
        numbers=numbers,
    )


def _of_setup(asked: _Asked, workspace: Workspace) -> Transcript:
    setup = asked.setup
    rack = [slot for slot in setup.rack if slot.on]
    vlm = recorded_text(setup.vlm, "model", workspace.root)
    return Transcript(
        time=asked.time,
        source="asked in the workbench",
        prompt=setup.prompt,
        image=recorded_text(setup.image, "image", workspace.root),
        setting=_setting(vlm, setup.mode, setup.tokens, setup.keep_error, setup.max_new_tokens),
        latents=tuple(_strength(slot, setup.mode) for slot in rack) or ("no latent changed",),
        answers=_told(asked.answers),
        picture=_picture(setup.image),
        numbers=tuple(slot.latent for slot in rack),
    )


def _strength(slot: _Slot, mode: str) -> str:
    if mode == "ablate":
        return f"{slot.latent} ablated"
    times = f" ({significant(slot.value / slot.maximum)}x its maximum)" if slot.maximum else ""
    return f"{slot.latent}={significant(slot.value, 4)}{times}"


def _setting(vlm: str, mode: str, tokens: str, keep_error: bool, length: int) -> str:
    error = "kept" if keep_error else "dropped"
    return f"{vlm}; {mode}; visual tokens: {tokens}; SAE error {error}; greedy, {counted(length, 'token')} at most"


def _told(answers: Steered) -> tuple[Told, ...]:
    """The three, the first as it is, each other with what is new against the one above it."""
    texts = to_json(answers)
    before, told = None, []
    for name in ANSWERS:
        text = texts[name]
        told.append(Told(TITLES[name], (Part(text, False),) if before is None else tuple(changes(before, text))))
        before = text
    return tuple(told)


def changes(before: str, after: str) -> Iterator[Part]:
    """``after`` in pieces: those that ``before`` has in this place, and those that are new."""
    old, new = before.split(), after.split()
    for kind, _, _, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if first < last:
            yield Part(" ".join(new[first:last]), kind != "equal")


def _picture(image: str) -> str:
    try:
        return encoded(Image.fromarray(picture(image, SIDE)[0]))
    except _UNREADABLE:
        return ""
