"""saetui jobs: list, follow, stop, pause and resume detached work."""

import json as json_module
import time
from typing import Annotated, Any

import typer

from engine.runs import run as jobs
from engine.workspace import Workspace
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.cli.work import Progress, note, progress_text
from saetui.formatting import duration, literal

app = typer.Typer(
    help="List, follow and stop detached work.",
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
)
IdArgument = Annotated[str, typer.Argument(help="Id of the run, the beginning or end of one, or last.")]


@app.callback()
def main(context: typer.Context, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List, follow and stop detached work."""
    context.obj = workspace
    if context.invoked_subcommand is not None:
        return
    found = jobs.runs(Workspace.find(workspace))
    if json:
        print(json_module.dumps([_record(run) for run in found], ensure_ascii=False))
        return
    if not found:
        print("No runs here yet: add --detach to extract, train, score, steer, run or demo.")
    for run in found:
        print(literal(_line(run)))


@app.command()
def follow(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Show a run's progress until it ends; Ctrl-C leaves it running."""
    run = _find(context, id, workspace)
    progress = Progress(quiet=False)
    try:
        for event in run.follow():
            progress.show(event)
    except KeyboardInterrupt:
        progress.close()
        note(f"{run.id} goes on; stop it with: saetui jobs stop {run.id}")
        return
    progress.close()
    status = run.status
    print(literal(_line(run)))
    if status["state"] == "done":
        print(literal(json_module.dumps(status.get("result"), ensure_ascii=False)))
    else:
        note(status.get("error") or f"It {status['state']}; continue with: saetui jobs resume {run.id}")
        raise typer.Exit(2 if status.get("mistake") else 1)


@app.command()
def stop(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Stop a run at the next point from which it can continue."""
    run = _find(context, id, workspace)
    if run.status["state"] in jobs.ENDED:
        print(f"{run.id} has ended already ({run.status['state']}).")
        return
    run.control("stop")
    while run.status["state"] not in jobs.ENDED:
        time.sleep(0.1)
    print(f"{run.id} {run.status['state']}; continue with: saetui jobs resume {run.id}")


@app.command()
def pause(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Let a run wait, its models loaded, until it is resumed."""
    run = _find(context, id, workspace)
    if run.status["state"] in jobs.ENDED:
        print(f"{run.id} has ended already ({run.status['state']}).")
        return
    run.control("pause")
    print(f"{run.id} pauses at its next step; go on with: saetui jobs resume {run.id}")


@app.command()
def resume(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None) -> None:
    """Let a paused run go on, or start one that stopped or died again where it was."""
    run = _find(context, id, workspace)
    jobs.resume(run)
    print(f"{run.id} is running: saetui jobs follow {run.id}")


def _find(context: typer.Context, id: str, workspace: str | None) -> jobs.Run:
    return jobs.find(Workspace.find(workspace or context.obj), id)


def _record(run: jobs.Run) -> dict[str, Any]:
    return {"id": run.id, "path": str(run.path), **run.command, **run.status}


def _line(run: jobs.Run) -> str:
    status = run.status
    parts = [f"{run.id:<28}", f"{status['state']:<8}"]
    if "progress" in status and status["state"] not in ("done",):
        parts.append(f"{status.get('stage', '')}: {progress_text(status['progress'], None)}")
    if "ended" in status:
        parts.append(f"took {duration(status['ended'] - status['started'])}")
    if status.get("error"):
        parts.append(status["error"])
    return "  ".join(parts)
