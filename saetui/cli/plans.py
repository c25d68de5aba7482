"""saetui run: what a plan will take, then its stages."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from engine.config import PlanSettings
from engine.errors import counted
from engine.explained import Explanation
from engine.explained.fields import explained
from engine.records import to_json
from engine.runs.plan import PlanDone
from engine.runs.tasks import TASKS
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import DetachOption, ExplainOption, JsonOption, WorkspaceOption, command, complete, extra
from saetui.cli.stages import check_explained, show_plan
from saetui.cli.streams import print_json
from saetui.expected import named_by_judge, sums_of_plan
from saetui.formatting import UNDEFINED, duration, literal, size

if TYPE_CHECKING:
    from engine.runs.expected_plan import ExpectedPass, ExpectedPlan, ExpectedStage

DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say what there is to do, and what it will take.")]
HEADS = ("stage", "name", "now", "rows", "bytes", "time")
MEANT = (
    "rows: pictures drawn, activations stored, rows trained on (steps x batch), images scored, answers, latents steered"
)
TIMED = f"time: as earlier work here took, without the loading of models; {UNDEFINED}: not known"


def register(app: typer.Typer) -> None:
    options = (
        extra("workspace", WorkspaceOption, None),
        extra("json", JsonOption, False),
        extra("detach", DetachOption, False),
        extra("dry_run", DryOption, False),
        extra("explain", ExplainOption, False),
    )
    command(app, "run", PlanSettings, *options)(run)


def run(given: dict[str, Any], workspace: str | None, json: bool, detach: bool, dry_run: bool, explain: bool) -> None:
    check_explained(explain, detach, dry_run)
    from engine.runs.expected_plan import expected_plan  # numpy and h5py, which --help must not wait for

    place = Workspace.find(workspace)
    settings = complete(PlanSettings, given, place, "run")
    expected = expected_plan(settings, place)
    also = {"expected": to_json(expected)}
    if not json:
        show_expected(expected)
    elif dry_run:
        print_json(also)
    if dry_run:
        return
    if not json:
        print(flush=True)  # in a pipe, too, before anything begins
    if detach:
        work.detach(place, "run", settings, json, also)
    else:
        work.perform(
            place, "run", settings, as_json=json, show=show_plan, also=also, explain=_of_stages if explain else None
        )


def _of_stages(result: PlanDone) -> dict[str, Explanation]:
    """What is told of the results of stages, by the tasks of these."""
    found: dict[str, Explanation] = {}
    for stage in result.stages:
        found |= explained(TASKS[stage.stage].read(stage.result), f"stages.{stage.stage}")
    return found


run.__doc__ = PlanSettings.__doc__


def show_expected(found: "ExpectedPlan") -> None:
    work.say(*_table(list(_rows(found))))
    work.say_facts(MEANT, TIMED, *sums_of_plan(found))
    for warning in found.warnings:
        work.note(f"saetui: {warning}")


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A name that has no room beside the rest stands above it: those of a grid differ in their middles."""
    stage, *rest = (max(map(cell_len, cells)) for n, cells in enumerate(zip(HEADS, *rows, strict=True)) if n != 1)
    width = work.screen_width()
    above = [cell_len(literal(row[1])) > width - stage - sum(rest) - 2 * len(HEADS[1:]) for row in rows]
    shown = [(" " * stage, "", *row[2:]) if long else row for row, long in zip(rows, above, strict=True)]
    head, *lines = work.columns(HEADS, shown, right={3, 4, 5}, cut=1)
    yield head
    for (task, name, *_), line, long in zip(rows, lines, above, strict=True):
        if long:
            yield from work.wrapped(f"{task:<{stage}}  {literal(name)}", width)
        yield line


def _rows(found: "ExpectedPlan") -> Iterator[tuple[str, ...]]:
    """A row a stage; above the first score of a pass, that pass."""
    passes = {one.number: one for one in found.passes}
    told = named_by_judge(found)
    for stage in found.stages:
        if stage.of_pass in passes:
            yield _pass(passes.pop(stage.of_pass))
        yield _stage(stage, told.get(stage.judge, ""))


def _pass(one: "ExpectedPass") -> tuple[str, ...]:
    name = f"{counted(one.scorings, 'scoring')} by {', '.join(one.judges)}, of {one.encoder}"
    state = "to do" if one.scorings else "there"
    seconds = _time(one.seconds) if one.scorings else ""
    return f"pass {one.number}", name, state, _count(one.images), _size(one.left), seconds


def _stage(one: "ExpectedStage", judge: str) -> tuple[str, ...]:
    seconds = "" if one.state == "there" else f"pass {one.of_pass}" if one.of_pass else _time(one.seconds)
    return one.task, f"{one.name}{judge}", one.state, _count(one.rows), _size(one.bytes), seconds


def _count(value: int | None) -> str:
    return UNDEFINED if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    return "" if value == 0 else UNDEFINED if value is None else size(value)


def _time(value: float | None) -> str:
    return UNDEFINED if value is None else duration(value)
