"""saetui report and figure: an SAE on one page for a colleague, ours beside the paper's tables, figures for papers."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

import typer

from engine.config import FigureSettings, PaperSettings, ReportSettings
from engine.errors import UserError, counted
from engine.explained.fields import explained
from engine.report.results import Drawn, PaperCell, PaperCompared, PaperTable, Reported
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import ExplainOption, JsonOption, WorkspaceOption, command, complete, extra
from saetui.formatting import number, size

NONE = "none"  # instead of the workbench's own answers
PaperOption = Annotated[
    bool, typer.Option("--paper", help="Instead: the SAEs of this workspace beside the tables of arXiv 2504.02821.")
]
PlanOption = Annotated[
    str,
    typer.Option(
        "--plan",
        help="With --paper: the plan that says which layers stand for which. [default: the last that was run here]",
    ),
]


def register(app: typer.Typer) -> None:
    options = (extra("workspace", WorkspaceOption, None), extra("json", JsonOption, False))
    beside = (
        extra("paper", PaperOption, False),
        extra("plan", PlanOption, ""),
        extra("explain", ExplainOption, False),
    )
    command(app, "report", ReportSettings, *options, *beside)(report)
    command(app, "figure", FigureSettings, *options)(figure)


def report(given: dict[str, Any], workspace: str | None, json: bool, paper: bool, plan: str, explain: bool) -> None:
    place = Workspace.find(workspace)
    if paper:
        _beside_paper({**given, "plan": plan}, place, json, explain)
        return
    if plan:
        raise UserError("--plan belongs to --paper: give both, or neither.")
    if explain:
        raise UserError("--explain belongs to --paper, and the page explains its numbers itself: leave it out.")
    settings = with_answers(complete(ReportSettings, given, place, "report"), place)
    work.perform(place, "report", settings, as_json=json, show=show, keep=False)


report.__doc__ = ReportSettings.__doc__


def _beside_paper(given: dict[str, Any], place: Workspace, json: bool, explain: bool) -> None:
    known = {"on", "plan"}
    if other := ["SAE" if name == "sae" else f"--{name.replace('_', '-')}" for name in sorted(set(given) - known)]:
        raise UserError(f"--paper is about all SAEs of a workspace: leave out {', '.join(other)}.")
    settings = complete(PaperSettings, given, place, "paper")
    work.perform(
        place, "paper", settings, as_json=json, show=show_paper, keep=False, explain=explained if explain else None
    )


def with_answers(settings: ReportSettings, place: Workspace) -> ReportSettings:
    """With the answers of this workspace that the workbench has kept, unless others are asked for, or none."""
    from saetui.session import Session  # and with it Textual, which --help must not wait for

    own = Session(place.root).answers
    if settings.answers == NONE:
        return replace(settings, answers="")
    return settings if settings.answers or not own.is_file() else replace(settings, answers=str(own))


def show(result: Reported) -> None:
    cut = f" of {result.found:,} (--top 0 shows all)" if result.found > result.latents else ""
    work.say_facts(
        result.path,
        f"{size(result.bytes)}: {counted(result.latents, 'latent')}{cut}, {counted(result.pictures, 'picture')}, "
        f"{counted(result.answers, 'steered answer')}",
        *result.missing,
    )


def figure(given: dict[str, Any], workspace: str | None, json: bool) -> None:
    place = Workspace.find(workspace)
    settings = complete(FigureSettings, given, place, "figure")
    work.perform(place, "figure", settings, as_json=json, show=show_figure, keep=False)


figure.__doc__ = FigureSettings.__doc__


def show_figure(result: Drawn) -> None:
    work.say_facts(result.path, f"of {', '.join(result.of)}")


def show_paper(result: PaperCompared) -> None:
    if result.plan:
        work.say_facts(f"Layers and K stand for the published ones as the plan {result.plan} says.")
        work.say("")
    for table in result.tables:
        work.say_facts(table.title, *(f"  {line}" for line in [*_lines(table), *table.notes]), "")
    if not any(cell.ours is not None for table in result.tables for _, row in table.rows for cell in row):
        work.say_facts(
            "No cell is ours: no SAE here has the architecture, hook point, expansion and K of one. A plan's table "
            "[paper] says which layers and K stand for the published ones: --plan FILE.",
            "",
        )
    work.say_facts(
        f"Published: {result.source}. Control: of MS, raw neurons that fire on as many images; of depth, random ones; "
        "of steering, the SAE attached and no latent changed. Twin: the best of the same trainings but for a frozen "
        "decoder or encoder. From, to: 95 % interval of ours, over what n "
        "counts, the SAEs as they are. Where there are several SAEs, ours is their mean."
    )


def _lines(table: PaperTable) -> list[str]:
    """Of each row what is published, and where there is something of ours: that, the difference, and the control."""
    rows = [line for name, cells in table.rows for line in _row(name, cells)]
    return work.columns((table.across, "", *table.columns), rows, right=range(2, 2 + len(table.columns)), indent=2)


_TOLD = {
    "ours": "ours",
    "from": "low",
    "to": "high",
    "difference": "difference",
    "control": "control",
    "twin": "twin",
}
"""What is said of a row, and which value of its cells that is."""


def _row(name: str, cells: tuple[PaperCell, ...]) -> Iterator[tuple[str, ...]]:
    digits = max((_decimals(cell.published) for cell in cells), default=0)
    yield (name, "published", *(number(cell.published, digits) for cell in cells))
    for label, of in _TOLD.items():
        values = [getattr(cell, of) for cell in cells]
        if any(value is not None for value in values):
            yield ("", label, *("" if value is None else number(value, digits) for value in values))
    if units := {cell.n.partition(" ")[2].removesuffix("s") for cell in cells if cell.n}:
        yield ("", f"n, {'s, '.join(sorted(units))}s", *(cell.n.partition(" ")[0] for cell in cells))
    if any(len(cell.saes) > 1 for cell in cells):
        yield ("", "SAEs", *(str(len(cell.saes) or "") for cell in cells))


def _decimals(published: float) -> int:
    """Digits behind the point to which it was published, at least 2: zeros at the end are not kept."""
    exponent = Decimal(str(published)).as_tuple().exponent
    return max(2, -exponent) if isinstance(exponent, int) else 2
