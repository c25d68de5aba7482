"""Run a task in a worker and show how it goes: a progress bar for people, one JSON object for machines."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, assert_never, cast

import typer
from rich.cells import cell_len

from engine.errors import UserError
from engine.explained import Explanation
from engine.records import to_json
from engine.reporter import Done, Event, Failed, Progress, StageBegan, StoppedEarly, Token, Warned
from engine.runs.attached import Attached
from engine.runs.rate import Rate, seconds_left
from engine.runs.run import Run
from engine.runs.tasks import TASKS
from engine.settings import to_mapping
from engine.workspace import Workspace
from saetui.cli.streams import print_json
from saetui.formatting import duration, fit_ends, literal, significant
from saetui.formatting import rate as pace
from saetui.terminal.drawing import Drawing

Show = Callable[[Any], None]
Explain = Callable[[Any], Mapping[str, Explanation]]
_LABEL = re.compile(r" *[^ ]+(?: [^ ]+)*  +")  # what stands before two blanks
NARROWEST = 12  # characters that a column which is cut has at least
PIPED = 10_000  # characters of a line that goes to no terminal, without COLUMNS: it is cut nowhere


def perform(
    workspace: Workspace,
    task: str,
    settings: Any,
    *,
    as_json: bool,
    show: Show,
    keep: bool = True,
    also: Mapping[str, Any] = MappingProxyType({}),
    explain: Explain | None = None,
) -> None:
    """Do ``task`` in an attached worker, then print its result. ``keep``: the run is recorded under runs/. ``also``:
    what else the JSON has. ``explain``: what tells of its numbers, where that is asked for."""
    result = compute(workspace, task, settings, quiet=as_json, keep=keep)
    told = explain(result) if explain else {}
    if as_json:
        print_json({**also, **to_json(result), **explained_json(told)})
    else:
        show(result)
        say_explained(told)
    if getattr(result, "changed", ()) and not result.problems:
        raise UserError(f"{result.path} is of other sources than there are now: do what is said of each.")
    if getattr(result, "unrecorded", ()) and not result.problems:
        raise UserError(f"{result.path} is not all compared: do what is said of each file that has no hash.")
    if getattr(result, "unsourced", ""):
        raise UserError(f"{result.path} is not compared with all that it was made from: do what is said of that.")
    if getattr(result, "problems", ()):
        way = "do what is said of each file."
        if result.unit == "shard":
            way = (
                f"saetui verify {shlex.quote(result.path)} --repair mends that; or delete the files that are named and "
                "run the command that made the store again, which makes them anew."
            )
        raise UserError(f"{result.path} is not as it was written: {way}")


def compute(workspace: Workspace, task: str, settings: Any, *, quiet: bool, keep: bool) -> Any:
    """The result of ``task``, done in a worker that lives and dies with this process."""
    new = not workspace.root.exists()
    run = Run.create(workspace, task, to_mapping(settings), sys.argv[1:]) if keep else None
    asked, progress = Attached(workspace, task, to_mapping(settings), run), ProgressDisplay(quiet)
    with _interrupts(asked) as signals:
        try:
            end = asked.end(progress.show)
        finally:
            progress.close()
    match end:
        case Done(result):
            return TASKS[task].read(result)
        case StoppedEarly(kept):
            note(f"{ended(asked, kept)}: {shlex.join(['saetui', *sys.argv[1:]])}")
            raise typer.Exit(128 + signals[0] if signals else 2)
        case Failed(error, mistake=True, refused=refused):
            if run and refused:
                _forget(run, workspace, new)
            raise UserError(error)
        case Failed(error):
            where = f"the traceback is in {run.path / 'log.txt'}" if run else "\n" + "\n".join(asked.printed[-12:])
            note(f"saetui: a bug in saetui ended {task} ({error}): {where}")
            raise typer.Exit(1)
    assert_never(end)


def ended(asked: Attached, kept: str) -> str:
    """How work that was stopped or killed ended, up to the command that goes on with it."""
    if asked.cancelled:
        return "Killed; what was finished before is kept. Continue with"
    return f"Stopped; {kept}. Continue with" if kept else "Stopped before anything was finished. Begin again with"


def detach(
    workspace: Workspace, task: str, settings: Any, as_json: bool, also: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Start ``task`` as a run that outlives this terminal, and say its id. ``also``: what else the JSON has."""
    run = Run.create(workspace, task, to_mapping(settings), sys.argv[1:])
    run.detach()
    if as_json:
        print_json({**also, "run": run.id, "path": str(run.path)})
    else:
        say(f"{run.id} is running: saetui jobs follow {run.id}")


def say(*lines: str) -> None:
    """Print each as it is: a command or a path in it is copied whole from a terminal."""
    for line in lines:
        print(line)


def explained_json(found: Mapping[str, Explanation]) -> dict[str, Any]:
    """What ``--json --explain`` has beside a result; nothing where nothing was asked."""
    return {"explained": {name: _told(one) for name, one in found.items()}} if found else {}


def say_explained(found: Mapping[str, Explanation]) -> None:
    """What numbers are, after them: those of which the same is told together."""
    names: dict[Explanation, list[str]] = {}
    for name, one in found.items():
        names.setdefault(one, []).append(name)
    for one, called in names.items():
        say("")
        say_facts(", ".join(called))
        say_facts(*(f"  {what:<8}  {words}" for what, words in _told(one).items() if words))


def _told(one: Explanation) -> dict[str, str]:
    return {"is": one.title, **one.facts}


def say_facts(*lines: str) -> None:
    """Print each; what is too long for the screen goes on below what it says, not below its label."""
    say(*(part for line in lines for part in wrapped(line, screen_width())))


def wrapped(line: str, width: int) -> list[str]:
    """``line`` in lines of ``width``, broken between words; all but the first are indented as its text is."""
    if cell_len(line) <= width:
        return [line]
    label = _LABEL.match(line)
    indent = label.end() if label and label.end() <= width // 2 else len(line) - len(line.lstrip()) + 2
    rest = line[indent:] if label and indent == label.end() else line.strip()
    first = line[: len(line) - len(rest)]
    parts = textwrap.wrap(rest, max(width - indent, NARROWEST), break_long_words=False, break_on_hyphens=False)
    return [(first if place == 0 else " " * indent) + part for place, part in enumerate(parts)]


def columns(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Container[int] = (),
    cut: int | Collection[int] | None = None,
    indent: int = 0,
) -> list[str]:
    """``rows`` under ``heads``, two blanks between columns; those whose place is in ``right`` end at their right.

    What is wider than the screen, of which ``indent`` cells are taken, is cut: the column ``cut``, of several the
    widest, the last one without it.
    """
    table = [[literal(cell).replace("\n", " ") for cell in row] for row in (heads, *rows)]
    widths = [max(cell_len(row[place]) for row in table) for place in range(len(heads))]
    cuts = [len(heads) - 1 if cut is None else cut] if cut is None or isinstance(cut, int) else cut
    for _ in range(sum(widths) + 2 * (len(widths) - 1) - screen_width() + indent):
        place = max(cuts, key=lambda one: widths[one])
        widths[place] = max(widths[place] - 1, min(widths[place], NARROWEST))
    return ["  ".join(_aligned(row, widths, right)).rstrip() for row in table]


def _aligned(row: Sequence[str], widths: Sequence[int], right: Container[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        shown = fit_ends(cell, width)
        blanks = " " * (width - cell_len(shown))
        yield blanks + shown if place in right else shown + blanks


def screen_width() -> int:
    """Characters of a line: of the terminal, or as COLUMNS asks; as many as one likes where a program reads."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED


def note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


class ProgressDisplay:
    """What a worker's events look like: stages, a bar with rate and ETA, warnings, streamed answers."""

    def __init__(self, quiet: bool):
        self.tty = sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self._bar: Any = None
        self._stage = ""
        self._answer = ""
        self._line = time.monotonic()
        self._rate = Rate()

    def show(self, event: Event) -> None:
        match event:
            case StageBegan(name):
                self._close()
                self._stage = name
                self._rate.restart()
            case Progress():
                self._progress(event)
            case Warned(message):
                self._close()
                note(f"saetui: {message}")
            case Token() if not self.quiet and sys.stdout.isatty():
                self._token(event)

    def close(self) -> None:
        self._close()
        if self._answer:
            print()

    def _progress(self, event: Progress) -> None:
        now = time.monotonic()
        self._rate.see(now, event.done)
        rate = self._rate.value
        if self.tty:
            self._draw(event, rate)
        elif not self.quiet and now - self._line > 10:
            self._line = now
            note(f"{self._stage}: {progress_text(event, rate)}")

    def _draw(self, event: Progress, rate: float | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(None),
                TextColumn("{task.fields[words]}", markup=False),
            )
            console = Console(file=cast(IO[str], Drawing(sys.stderr)))
            self._bar = Bar(
                *columns,
                console=console,
                transient=True,
                redirect_stdout=False,  # or rich would print past our streams
                redirect_stderr=False,
                expand=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(literal(self._stage), total=event.total, words="")
        words = literal(progress_text(event, rate))
        self._bar.update(self._task, completed=event.done, total=event.total, words=words)

    def _token(self, event: Token) -> None:
        if event.answer != self._answer:
            self._close()
            print(("\n" if self._answer else "") + f"{event.answer:>10}  ", end="", flush=True)
            self._answer = event.answer
        print(event.text, end="", flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress_text(event: Progress, rate: float | None) -> str:
    """``done/total unit  rate  ETA  metrics`` of a progress event, with ``rate`` in units a second."""
    parts = [f"{event.done:,}/{event.total:,} {event.unit}"]
    if rate and (left := seconds_left(event.done, event.total, rate)) is not None:
        parts += [pace(rate), f"{duration(left)} left"]
    parts += [f"{name} {significant(value)}" for name, value in event.measured.items() if value is not None]
    return "  ".join(parts)


@contextlib.contextmanager
def _interrupts(asked: Attached) -> Iterator[list[int]]:
    """The first Ctrl-C, SIGTERM or SIGHUP asks the worker to stop at a point from which it can go on; the second kills
    it. Yields those that came."""
    signals: list[int] = []

    def interrupt(number: int, _: Any) -> None:
        signals.append(number)
        if len(signals) > 1:
            asked.cancel()
            return
        asked.stop()
        with contextlib.suppress(OSError):  # no print, which this may interrupt
            os.write(sys.stderr.fileno(), b"Stopping at the next safe point (Ctrl-C again kills) ...\n")

    heeded = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ignored = {number for number in heeded if signal.getsignal(number) is signal.SIG_IGN}
    before = {number: signal.signal(number, interrupt) for number in heeded if number not in ignored}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget(run: Run, workspace: Workspace, new: bool) -> None:
    """A command that was refused leaves nothing behind, not even the workspace that it would have made."""
    shutil.rmtree(run.path, ignore_errors=True)
    with contextlib.suppress(OSError):
        workspace.runs.rmdir()
        if new:
            workspace.root.rmdir()
