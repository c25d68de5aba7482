"""saetui jobs: list, follow, stop, pause and resume detached work."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from engine.errors import UserError, sentence_of
from engine.records import to_json
from engine.runs.events import Control, Progress, Status
from engine.runs.rate import seconds_left
from engine.runs.run import ENDED, Later, Run, find, known_works, later_of, later_runs, runs
from engine.runs.run import archived as archived_runs
from engine.runs.tasks import TASKS
from engine.workspace import Workspace
from saetui.cli import demo, stages
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.cli.streams import print_json
from saetui.cli.work import PIPED, ProgressDisplay, columns, note, say, screen_width, wrapped
from saetui.formatting import duration, percent

app = typer.Typer(
    help="List, follow and stop detached work.",
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
)
PATIENCE = 30.0  # seconds that a stop is waited for
ArchivedOption = Annotated[
    bool, typer.Option("--archived", help="List those that were archived (a in the workbench), not the others.")
]
IdArgument = Annotated[str, typer.Argument(help="Id of the run, the beginning or end of one, or last.")]


@app.callback()
def main(
    context: typer.Context,
    archived: ArchivedOption = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List, follow and stop detached work."""
    context.obj = workspace
    if context.invoked_subcommand is not None:
        return
    found = (archived_runs if archived else runs)(Workspace.find(workspace))
    if json:
        later = later_runs(known_works(found))
        print_json([_record(run, later.get(run.id)) for run in found])
    else:
        nothing = (
            "No runs are archived here: J and then a in the workbench archives one."
            if archived
            else "No runs here yet: add --detach to extract, train, score, fidelity, steer, steerability, run or demo."
        )
        for line in _table(found) if found else [nothing]:
            print(line)


@app.command()
def follow(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show a run's progress until it ends; Ctrl-C leaves it running."""
    run = _find(context, id, workspace)
    progress = ProgressDisplay(quiet=json)
    try:
        for logged in run.follow():
            progress.show(logged.event)
    except KeyboardInterrupt:
        progress.close()
        note(f"{run.id} goes on; stop it with: saetui jobs stop {run.id}")
        return
    progress.close()
    status = run.status
    _say(run, _line(run), json)
    if status.state != "done":
        note(_ended(run, status))
        raise typer.Exit(1 if status.state == "failed" and not status.mistake else 2)
    if not json:
        _show_result(run)


@app.command()
def stop(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Stop a run at the next point from which it can continue."""
    run = _find(context, id, workspace)
    if not _control(run, "stop", json):
        return
    deadline = time.monotonic() + PATIENCE
    while (state := run.status.state) not in ENDED and time.monotonic() < deadline:
        time.sleep(0.1)
    if state not in ENDED:
        _say(run, _asked(run, state), json)
        raise typer.Exit(2)
    kept = f" ({run.status.kept})" if run.status.kept else ""
    _say(run, f"{run.id} {state}{kept}; continue with: saetui jobs resume {run.id}", json)


@app.command()
def pause(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Let a run wait, its models loaded, until it is resumed."""
    run = _find(context, id, workspace)
    if _control(run, "pause", json):
        _say(run, f"{run.id} pauses at its next step; go on with: saetui jobs resume {run.id}", json)


@app.command()
def resume(context: typer.Context, id: IdArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Let a paused run go on, or start one that stopped or died again where it was; an archived one is listed again."""
    from engine.runs.removal import restored  # numpy and h5py come with it, and completion waits for them

    run = _find(context, id, workspace)
    if run.status.state != "done":  # what goes on is listed
        run = restored(run)
    run.resume()
    _say(run, f"{run.id} is running: saetui jobs follow {run.id}", json)


def _asked(run: Run, state: str) -> str:
    """What became of a stop that is not obeyed yet."""
    status = run.status
    now = f"kill -9 {status.pid} ends it now" if status.pid else "it has no process yet"
    return (
        f"{run.id} is asked to stop, and {PATIENCE:.0f} s later has not come to a point from which it can go on "
        f"({status.stage or state}): it stops there, and {now}."
    )


def _find(context: typer.Context, id: str, workspace: str | None) -> Run:
    return find(Workspace.find(workspace or context.obj), id)


def _control(run: Run, what: Control, json: bool) -> bool:
    """Ask it of a run that goes on; of one that has ended, say so."""
    if run.status.state in ENDED:
        _say(run, f"{run.id} has ended already ({run.status.state}).", json)
        return False
    run.control(what)
    return True


def _ended(run: Run, status: Status) -> str:
    """What is said of a run that has ended and is not done."""
    if later := later_of(run):
        return later.sentence
    return status.error or f"It {status.state}; continue with: saetui jobs resume {run.id}"


def _say(run: Run, sentence: str, json: bool) -> None:
    if json:
        print_json(_record(run, later_of(run)))
    else:
        say(sentence)


def _show_result(run: Run) -> None:
    """What the run's own command would have said at its end."""
    task = run.command.task
    result = TASKS[task].read(run.status.result)
    if task == "demo":
        demo.show(result, Workspace(run.workspace))
    else:
        _, show = stages.stages()[task]
        show(result)


def _record(run: Run, later: Later | None = None) -> dict[str, Any]:
    """``later``: the run that did its work, or is at it, where it did not."""
    place = {"id": run.id, "path": str(run.path)}
    try:
        return place | to_json(run.command) | to_json(run.status) | (later.fields if later else {})
    except (UserError, OSError) as error:
        return place | {"state": "damaged", "error": sentence_of(error)}


def _table(found: Sequence[Run]) -> Iterator[str]:
    """A line for each run under a head; on a screen what went wrong stands below it, in full."""
    rows, wrong, later = [], [], later_runs(known_works(found))
    for run in found:
        *cells, error = _cells(run, later.get(run.id))
        below = screen_width() < PIPED
        wrong.append(error if below else "")
        rows.append([*cells, "" if below else error])
    head, *lines = columns(("run", "makes", "state", "began", "took", "done", ""), rows, right={4}, cut=1)
    yield head
    for line, error in zip(lines, wrong, strict=True):
        yield line
        yield from (f"  {part}" for part in wrapped(error, screen_width() - 2) if error)


def _line(run: Run) -> str:
    """The run alone: what stands in the table, without a head."""
    return "  ".join(filter(None, map(str.strip, _cells(run, later_of(run)))))


def _cells(run: Run, later: Later | None) -> tuple[str, str, str, str, str, str, str]:
    """Its id, what it makes, its state, when it began, how long it took or is at work, how far it is, and what went
    wrong, or that the run ``later`` did its work or is at it."""
    try:
        command, status = run.command, run.status  # the way out that a status tells needs what was asked, too
    except (UserError, OSError) as error:
        return run.id, "", "damaged", "", "", "", sentence_of(error)
    began = time.strftime("%d %b %H:%M", time.localtime(status.started)) if status.started else ""
    progress = status.progress if status.state != "done" else None
    far = f"{status.stage or ''} {_far(progress, status)}".strip() if progress else ""
    wrong = later.sentence if later else status.error or ""
    return run.id, command.makes, status.state, began, _took(status), far, wrong


def _far(progress: Progress, status: Status) -> str:
    """How far it is, and of one that goes on how long it will."""
    share = percent(progress.done / progress.total) if progress.total else ""
    left = seconds_left(progress.done, progress.total, status.rate) if status.state == "running" else None
    return share if left is None else f"{share}, {duration(left)} left"


def _took(status: Status) -> str:
    if not status.started:
        return ""
    if status.ended:
        return duration(max(status.ended - status.started if status.took is None else status.took, 0))
    return duration(max(time.time() - status.started, 0)) if status.state not in ENDED else ""
