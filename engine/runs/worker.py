"""The process that computes: ``python -m engine.runs.worker RUN`` (detached) or ``-`` (attached).

Whoever starts it never imports torch. Detached, the request is RUN/command.json and the run's directory gets every
event. Attached, the request is the first line on stdin, events are JSON lines on stdout, a later line ``stop`` asks
it to stop, and the end of stdin means that the caller is gone: then the worker dies at once, as if killed itself.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from engine.config import from_mapping
from engine.errors import Stopped, UserError, system_mistake
from engine.records import to_json
from engine.runs import run as jobs
from engine.runs.events import StreamReporter
from engine.runs.tasks import TASKS
from engine.workspace import Workspace


def work(request: dict[str, Any], reporter: StreamReporter) -> int:
    """Do what ``request`` says (``task``, ``settings``, ``workspace``) and report how it ended; the exit code."""
    try:
        task = TASKS[request["task"]]
        settings = from_mapping(task.settings, request["settings"], request["task"])
        result = task.load()(settings, Workspace(Path(request["workspace"])), reporter)
    except Stopped:
        reporter.finish("stopped")
        return 3
    except BaseException as error:
        message = mistake(error)
        if message is None:
            traceback.print_exc()
        reporter.finish("failed", error=message or f"{type(error).__name__}: {error}", mistake=message is not None)
        return 2 if message else 1
    reporter.finish("done", result=to_json(result))
    return 0


def mistake(error: BaseException) -> str | None:
    """The sentence for an end that the user can mend; None for a defect of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and (sentence := system_mistake(error)):
        return sentence
    if type(error).__name__ == "OutOfMemoryError":
        return "The accelerator's memory is full: lower --batch-size, or use --device cpu."
    if isinstance(error, MemoryError):
        return "Memory is full: lower --batch-size or --limit."
    return None


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
    request = json.loads(sys.stdin.readline())
    run = Path(request["run"]) if request.get("run") else None
    held = jobs.hold(run) if run else None
    reporter = StreamReporter(run, events)
    threading.Thread(target=_listen, args=(reporter,), daemon=True).start()
    code = work(request, reporter)
    del held
    return code


def _listen(reporter: StreamReporter) -> None:
    while line := sys.stdin.readline():
        if line.strip() == "stop":
            reporter.stop_requested = True
    os._exit(137)


def _detached(run: Path) -> int:
    give_way(10)  # where cores are few, whoever looks at the work comes before the work
    held = jobs.hold(run)
    request = json.loads((run / "command.json").read_text())
    reporter = StreamReporter(run)

    def stop(*_: Any) -> None:
        reporter.stop_requested = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    code = work(request, reporter)
    del held
    return code


def main() -> None:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    code = _attached() if sys.argv[1] == "-" else _detached(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # torch's own teardown takes a second and has nothing left to save


if __name__ == "__main__":
    main()
