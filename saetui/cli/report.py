"""saetui report and figure: an SAE on one page for a colleague, and figures for papers."""

from dataclasses import replace
from typing import Any

import typer

from engine.config import FigureSettings, ReportSettings
from engine.errors import counted
from engine.report.results import Drawn, Reported
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import JsonOption, WorkspaceOption, command, complete, extra
from saetui.formatting import size

NONE = "none"  # instead of the workbench's own answers


def register(app: typer.Typer) -> None:
    options = (extra("workspace", WorkspaceOption, None), extra("json", JsonOption, False))
    command(app, "report", ReportSettings, *options)(report)
    command(app, "figure", FigureSettings, *options)(figure)


def report(given: dict[str, Any], workspace: str | None, json: bool) -> None:
    place = Workspace.find(workspace)
    settings = with_answers(complete(ReportSettings, given, place, "report"), place)
    work.perform(place, "report", settings, as_json=json, show=show, keep=False)


report.__doc__ = ReportSettings.__doc__


def with_answers(settings: ReportSettings, place: Workspace) -> ReportSettings:
    """With the answers of this workspace that the workbench has kept, unless others are asked for, or none."""
    from saetui.session import Session  # and with it Textual, which --help must not wait for

    own = Session(place.root).answers
    if settings.answers == NONE:
        return replace(settings, answers="")
    return settings if settings.answers or not own.is_file() else replace(settings, answers=str(own))


def show(result: Reported) -> None:
    cut = f" of {result.found:,} (--top 0 shows all)" if result.found > result.latents else ""
    work.say(
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
    work.say(result.path, f"of {', '.join(result.of)}")
