"""The forms that start trainings, scorings and plans: they say what that will take, as far as this workspace knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.timer import Timer

from engine.config import PlanSettings, ScoresSettings, TrainSettings
from engine.errors import UserError, counted
from engine.settings import Place, from_mapping
from engine.workspace import Workspace
from saetui.background import look_up
from saetui.expected import named_by_judge, sums_of_plan
from saetui.formatting import duration, short, size
from saetui.widgets.form import Form

if TYPE_CHECKING:
    from engine.runs.expected_plan import ExpectedStage

QUIET = 0.3  # seconds without a key after which it is said


class ExpectingForm(Form):
    """Says what the work will take as soon as typing rests: ``in_words`` of its settings, found in a thread."""

    AROUND = 12
    DEFAULT_CSS = """
    ExpectingForm #note { height: 3; }
    """

    def __init__(self, in_words: Callable[[Any, Workspace], str], *given: Any, **options: Any):
        super().__init__(*given, **options)
        self._in_words = in_words
        self._resting: Timer | None = None

    def on_mount(self) -> None:
        self._rested()

    def edited(self) -> None:
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(QUIET, self._rested)

    def _rested(self) -> None:
        try:
            settings: Any = from_mapping(self.kind, self.accepted(), self.heading)
        except (UserError, OSError):  # still being typed: whoever submits it hears of it
            return
        look_up(self, "expected", partial(self._in_words, settings, self.workspace), self._told, lambda _: None)

    def _told(self, words: str) -> None:
        if not self.wrong:
            self.say(words)


class TrainForm(ExpectingForm):
    def __init__(
        self,
        workspace: Workspace,
        title: str,
        values: Mapping[str, Any],
        first: tuple[str, ...],
        known: Mapping[str, Sequence[str]],
    ):
        asked = (title, TrainSettings, values, first, known)
        super().__init__(in_words_of_training, *asked, workspace=workspace, task="train")


class ScoreForm(ExpectingForm):
    def __init__(self, workspace: Workspace, title: str, values: Mapping[str, Any], known: Mapping[str, Sequence[str]]):
        first = ("sae", "images", "embed_with", "vocabulary", "name")
        asked = (title, ScoresSettings, values, first, known)
        super().__init__(in_words_of_scoring, *asked, workspace=workspace, task="scores")


class PlanForm(ExpectingForm):
    AROUND = 22
    DEFAULT_CSS = """
    PlanForm #note { height: auto; min-height: 3; max-height: 13; }
    """

    def __init__(self, workspace: Workspace, plan: str, known: Sequence[str]):
        """``known``: plans that are brought."""
        asked = ("Run a plan", PlanSettings, {"plan": plan} if plan else {}, ("plan", "input"), {"plan": known})
        super().__init__(in_words_of_plan, *asked, workspace=workspace, task="run")

    def _place(self, text: str, sort: Place) -> str:
        """A file of the workspace by its name alone; other names are of plans that are brought."""
        here = self.workspace.root / text
        return str(here) if sort == "file" and here.is_file() else super()._place(text, sort)


def in_words_of_training(settings: TrainSettings, workspace: Workspace) -> str:
    from engine.runs.expected import expected_training

    found = expected_training(settings, workspace)
    what = f"{counted(found.rows, 'row')} of {found.d:,}, {counted(found.w, 'latent')}"
    length = f"{counted(found.steps, 'step')}, {short(found.passes)} passes"
    return f"{what}; {length}\n{_takes(found.bytes, found.free, found.seconds)}"


def in_words_of_scoring(settings: ScoresSettings, workspace: Workspace) -> str:
    from engine.runs.expected import expected_scoring

    found = expected_scoring(settings, workspace)
    by = f" by {counted(len(settings.embed_with), 'judge')}" if len(settings.embed_with) > 1 else ""
    what = f"{counted(found.latents, 'latent')} on {counted(found.images, 'image')}{by}"
    return f"{what}\n{_takes(found.bytes, found.free, found.seconds)}"


def in_words_of_plan(settings: PlanSettings, workspace: Workspace) -> str:
    from engine.runs.expected_plan import expected_plan

    found = expected_plan(settings, workspace)
    judges = named_by_judge(found)
    lines: dict[tuple[str, str], list[ExpectedStage]] = {}  # in the plan's order
    for stage in found.stages:
        lines.setdefault((stage.task, judges.get(stage.judge, "")), []).append(stage)
    told = [_of_task(task, some, judge) for (task, judge), some in lines.items()]
    return "\n".join([*told, *sums_of_plan(found), *found.warnings])


def _of_task(task: str, stages: Sequence[ExpectedStage], judge: str) -> str:
    """A line: how many there are, how many rows they have, and how many are there already; whose scores they are."""
    rows = [one.rows for one in stages if one.rows is not None]
    there = sum(one.state == "there" for one in stages)
    told = [counted(sum(rows), "row") if rows else "", f"{there:,} there" if there else ""]
    return "  ".join([f"{task:<12}", f"{len(stages):>3,}", ", ".join(filter(None, told)) + judge]).rstrip()


def _takes(written: int | None, free: int, seconds: float | None) -> str:
    room = f"about {size(written)} to write" if written is not None else ""
    if written is not None and written > free:
        room += f", and only {size(free)} free"
    time = f"about {duration(seconds)}, as earlier ones here" if seconds is not None else "how long is not known yet"
    return "; ".join(filter(None, (room, time)))
