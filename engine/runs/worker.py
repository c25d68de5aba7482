"""The process that computes: ``python -m engine.runs.worker RUN`` (detached) or ``-`` (attached).

Whoever starts it never imports torch. Detached, RUN/command.json says what to do and the run's directory gets every
event. Attached, the first line on stdin says it (with ``run``, the directory of the run if it is kept as one), events
are JSON lines on stdout, a later line ``stop`` asks it to stop, and the end of stdin means that the caller is gone:
then the worker dies at once, as if killed itself.
"""

import contextlib
import faulthandler
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import Busy, Notice, Stopped, UserError, refusal, sentence_of
from engine.literal import log_literally
from engine.records import from_json, parse_json, to_json
from engine.reporter import Done, Failed, StoppedEarly, Warned
from engine.runs.events import StreamReporter
from engine.runs.memory import load_greedy
from engine.runs.run import Command, Run, at_work, runs
from engine.runs.tasks import TASKS, Task
from engine.settings import from_mapping
from engine.workspace import Workspace


def work(command: Command, reporter: StreamReporter) -> int:
    """Do what ``command`` says and report how it ended; the exit code."""
    try:
        task = TASKS[command.task]
        settings = from_mapping(task.settings, command.asked(command.workspace), command.task)
        with _passing_notices_on(reporter):
            load_greedy()
            result = task.load()(settings, Workspace(command.workspace), reporter)
    except Stopped as stopped:
        reporter.finish(StoppedEarly(stopped.kept))
        return 3
    except Busy as busy:
        return _failed(_named(busy, command.workspace, reporter.run), task, reporter)
    except BaseException as error:
        return _failed(error, TASKS.get(command.task), reporter)
    reporter.finish(Done(to_json(result)))
    return 0


def _named(busy: Busy, workspace: Path, own: Path | None) -> UserError:
    """The same with the run that is at work there: one that was asked for what is made there, else any of those that
    are at work in the ``workspace`` beside the ``own`` one."""
    others = [(run, asked) for run, asked in at_work(runs(Workspace(workspace))) if run.path != own]
    there = [run.id for run, asked in others if asked.makes == busy.folder.name] or [run.id for run, _ in others]
    if len(there) != 1:
        several = f", one of the runs {', '.join(there)}" if there else ""
        return UserError(
            f"{busy.folder} is being written by another process{several}: wait for it, or stop it (saetui jobs)."
        )
    return UserError(
        f"{busy.folder} is being written by run {there[0]}: wait for it (saetui jobs follow {there[0]}), or stop it "
        f"(saetui jobs stop {there[0]})."
    )


def _failed(error: BaseException, task: Task | None, reporter: StreamReporter) -> int:
    message = mistake(error, task)
    if not isinstance(error, UserError):  # a library's, or the system's: the log says where
        traceback.print_exc()
    refused = isinstance(error, UserError) and not reporter.began
    reporter.finish(Failed(message or f"{type(error).__name__}: {error}", message is not None, refused))
    return 2 if message else 1


@contextlib.contextmanager
def _passing_notices_on(reporter: StreamReporter) -> Iterator[None]:
    """Whoever asked for the work hears notices, as that the file system does not lock; other warnings go to the log."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            reporter.event(Warned(str(message)))
        else:
            shown(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def mistake(error: BaseException, task: Task | None = None) -> str | None:
    """The sentence for an end of ``task`` that the user can mend; None for a bug in saetui."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and (refused := refusal(error)):
        return str(refused)
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which is not imported for this
        return f"The accelerator's memory is full: {_less_memory(task, 'batch_size', 'device')}."
    if isinstance(error, MemoryError):
        return f"Memory is full: {_less_memory(task, 'batch_size', 'limit')}."
    if isinstance(error, (ImportError, OSError)) and _UNLOADED.search(str(error)):
        return (
            f"A library cannot be loaded ({error}): where memory is limited (ulimit -v), allow more, 8 GB with CUDA; "
            "else install it anew."
        )
    return None


_UNLOADED = re.compile("shared object|zero-fill|static TLS|DLL load failed|mapping process and mapped file")
"""How the system's loader says that it cannot load a library, for lack of memory or of a file."""


def _less_memory(task: Task | None, *ways: str) -> str:
    """Those of the ways to need less that ``task`` has a flag for."""
    has = task.settings.__dataclass_fields__ if task is not None else ()
    begun = " (of what was begun already, with another --name)" if "name" in has else ""
    said = {"batch_size": f"lower --batch-size{begun}", "limit": "lower --limit", "device": "use --device cpu"}
    return ", or ".join(said[way] for way in ways if way in has) or "close what else uses it"


def give_way(nice: int) -> None:
    """Let processes that answer a person go first: this one is niced, and never interrupts another that runs.

    Linux may share the processor evenly between sessions, and heed niceness within each only: then it is the session,
    which here is this process alone, that must be niced.
    """
    os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _attached() -> int:
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the events
    asked = parse_json(sys.stdin.readline())
    command, run = from_json(Command, asked, "The request"), asked.get("run")
    try:
        held = Run(Path(run)).hold() if run else None
        if run:
            Run(Path(run)).check_alone()
        reporter = StreamReporter(Path(run) if run else None, events)
    except (UserError, OSError) as error:
        return _failed(error, TASKS.get(command.task), StreamReporter(None, events))
    _heed_signals(reporter)
    threading.Thread(target=_listen, args=(reporter,), daemon=True).start()
    code = work(command, reporter)
    del held
    return code


def _heed_signals(reporter: StreamReporter) -> None:
    """SIGTERM, SIGINT and SIGHUP ask the work to stop where it can go on; another of the same kind ends it at once."""

    def stop(number: int, _: Any) -> None:
        if reporter.stop_requested:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        reporter.stop_requested = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)


def _listen(reporter: StreamReporter) -> None:
    while line := sys.stdin.readline():
        if line.strip() == "stop":
            reporter.stop_requested = True
    os._exit(137)


def _detached(run: Run) -> int:
    give_way(10)  # where cores are few, whoever looks at the work comes before the work
    held = run.hold()
    try:
        run.check_alone()
        command, reporter = run.command, StreamReporter(run.path)
    except (UserError, OSError) as error:
        run.fail(sentence_of(error))
        raise
    _heed_signals(reporter)
    code = work(command, reporter)
    del held
    return code


def main() -> None:
    faulthandler.enable()  # a crash, as by SIGBUS, tells the log where
    log_literally()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    code = _attached() if sys.argv[1] == "-" else _detached(Run(Path(sys.argv[1])))
    sys.stdout.flush()
    os._exit(code)  # torch's own teardown takes a second and has nothing left to save


if __name__ == "__main__":
    main()
