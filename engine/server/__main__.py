"""The process that keeps models loaded for the interface: ``python -m engine.server WORKSPACE``.

Requests come on stdin and are worked on one after the other; ``Cancel`` is obeyed at once, between two tokens. Events
go out on stdout. ``engine.server.protocol`` defines both. The end of stdin, or of stdout, means that the interface is
gone: then the process exits, whatever it is doing.
"""

import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from engine.errors import Stopped, UserError
from engine.literal import log_literally
from engine.runs.memory import load_greedy
from engine.runs.worker import give_way, mistake
from engine.server.protocol import (
    Cancel,
    Cancelled,
    Done,
    Failed,
    Request,
    Result,
    ServerEvent,
    read_request,
    write_event,
)
from engine.server.reporting import RequestReporter
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.server.handlers import Handlers

GONE = 137  # exit code after the interface has gone, as of a process that was killed


class Asked(NamedTuple):
    number: int
    request: Request | UserError
    """What is asked, or what is wrong with it."""


class Server:
    """A queue of requests: one thread listens, the main one works."""

    def __init__(self, workspace: Workspace, events: BinaryIO):
        self.workspace = workspace
        self._events = events
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: deque[Asked] = deque()
        self._running: Asked | None = None
        self._cancelled = False  # the running one
        self._handlers: Handlers | None = None

    def listen(self, lines: Iterable[bytes]) -> None:
        """Take in requests until ``lines`` end; never returns."""
        for line in lines:
            try:
                number, request = read_request(line)
            except ValueError:
                traceback.print_exc()
                continue
            if isinstance(request, Cancel):
                self._cancel(number)
            elif number is not None:
                with self._changed:
                    self._waiting.append(Asked(number, request))
                    self._changed.notify()
        os._exit(GONE)

    def serve(self) -> None:
        """Work on requests for ever."""
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting)
                self._running, self._cancelled = self._waiting.popleft(), False
            self._work(self._running)

    def tell(self, number: int, event: ServerEvent) -> None:
        line = write_event(number, event)
        with self._writing:
            try:
                self._events.write(line)
                self._events.flush()
            except OSError:
                os._exit(GONE)

    def check(self) -> None:
        """Raises Stopped when the running request has been cancelled."""
        if self._cancelled:
            raise Stopped

    def _cancel(self, number: int | None) -> None:
        with self._changed:
            cancelled = [one for one in self._waiting if number in (None, one.number)]
            self._waiting = deque(one for one in self._waiting if one not in cancelled)
            self._cancelled |= self._running is not None and number in (None, self._running.number)
        for one in cancelled:
            self.tell(one.number, Cancelled())

    def _work(self, asked: Asked) -> None:
        try:
            end: ServerEvent = Done(self._result(asked))
        except Stopped:
            end = Cancelled()
        except BaseException as error:
            end = self._failed(error)
        self.tell(asked.number, end)

    def _result(self, asked: Asked) -> Result:
        if isinstance(asked.request, UserError):
            raise asked.request
        reporter = RequestReporter(lambda event: self.tell(asked.number, event), self.check)
        if self._handlers is None:
            with reporter.loading("the model server", 0):
                load_greedy()
                from engine.server.handlers import Handlers  # torch: seconds, in which the other thread listens already

                self._handlers = Handlers(self.workspace)
        return self._handlers.handle(asked.request, reporter)

    def _failed(self, error: BaseException) -> Failed:
        message = mistake(error)
        if type(error).__name__ == "OutOfMemoryError" and self._handlers:
            traceback.clear_frames(error.__traceback__)  # they still hold what shall be freed
            self._handlers.models.clear()
            message = (
                "The accelerator's memory is full: close what else uses it, or open the workbench again with "
                'device = "cpu" in workspace.toml.'
            )
        if message is None:
            traceback.print_exception(error)
        return Failed(message or f"{type(error).__name__}: {error}", mistake=message is not None)


def main() -> None:
    give_way(8)  # where cores are few, keys come before answers, and answers before training
    log_literally()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the events
    server = Server(Workspace(Path(sys.argv[1])), events)
    threading.Thread(target=server.listen, args=(sys.stdin.buffer,), daemon=True).start()
    server.serve()


if __name__ == "__main__":
    main()
