"""saetui [WORKSPACE]: the workbench."""

import os
import sys
from typing import Annotated

import typer

from engine.errors import UserError
from engine.settings import NOT_NEGATIVE
from engine.workspace import Workspace
from saetui.cli import OPEN
from saetui.cli.options import WorkspaceOption, number_option
from saetui.preferences import Preferences, read_preferences

FRAMES_PER_SECOND = "250"  # at most; Textual paints at frames, and changing the pictures takes two of them


def register(app: typer.Typer) -> None:
    app.command(OPEN, hidden=True)(open_workbench)


def open_workbench(
    place: Annotated[str | None, typer.Argument(metavar="[WORKSPACE]", help="Directory to open.")] = None,
    theme: Annotated[str | None, typer.Option(help="graphite (dark) or paper (light).")] = None,
    picture: Annotated[str | None, typer.Option(help="auto, quadrant, half or glyph.")] = None,
    colours: Annotated[str | None, typer.Option(help="auto, truecolor, 256, 16 or mono.")] = None,
    ascii: Annotated[bool | None, typer.Option("--ascii", help="Draw with ASCII characters only.")] = None,
    mouse: Annotated[bool | None, typer.Option("--mouse/--no-mouse", help="Use the mouse.")] = None,
    preload: Annotated[
        bool | None, typer.Option("--preload/--no-preload", help="Load Steer's model while nothing is typed.")
    ] = None,
    support: Annotated[
        str | None,
        typer.Option(
            help="Images that a latent must fire on to stand among the first.", **number_option(int, NOT_NEGATIVE)
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="data, train, neurons, steer or hierarchy.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """The workbench: browse, train and steer from the keyboard."""
    chosen = read_preferences(
        theme=theme,
        picture=picture,
        colours=colours,
        ascii=ascii,
        mouse=mouse,
        preload=preload,
        support=None if support is None else int(support),
    )
    run(Workspace.find(workspace or place), chosen, mode)


def run(workspace: Workspace, preferences: Preferences | None = None, mode: str = "") -> None:
    """Show the workbench until the user quits; opening another workspace restarts it."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError("The workbench needs a terminal: run saetui in one, or use a command (saetui --help).")
    from saetui.terminal.probe import choose, environment, probe

    chosen = preferences or read_preferences()
    terminal = choose(probe(), chosen.colours)
    if chosen.colours not in ("auto", "mono"):
        os.environ.pop("NO_COLOR", None)  # an explicit choice of colours overrides it
    os.environ.update(environment(terminal))  # before textual is imported, which reads them once
    os.environ.setdefault("TEXTUAL_FPS", FRAMES_PER_SECOND)
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")  # each frame would be sent over SSH
    from saetui.app import Workbench
    from saetui.services import Reopen
    from saetui.terminal.late_replies import expect_late_replies
    from saetui.widgets.sharp_picture import graphics

    if terminal.late:
        expect_late_replies()

    drawn_by = graphics(terminal)
    again: Reopen | None = Reopen(workspace, mode)
    while again is not None:
        app = Workbench(again.workspace, chosen, terminal, again.mode, drawn_by)
        again = app.run(mouse=chosen.mouse)
        if app.return_code:
            raise typer.Exit(app.return_code)
