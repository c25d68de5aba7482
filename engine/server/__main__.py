"""The process that keeps models loaded for the interface: ``python -m engine.server WORKSPACE``.

Requests are JSON lines on stdin, ``{"id": 7, "ask": "answer", ...}`` with the fields of ``protocol``, and are worked on
one after the other. ``{"ask": "cancel", "id": 7}`` (null: all) is obeyed at once, between two tokens. Events are JSON
lines on stdout, ``{"id": 7, "ask": "answer", "kind": ..., ...}``; ``client`` says which. The end of stdin, or of
stdout, means that the interface is gone: then the process exits, whatever it is doing.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engine.errors import Stopped
from engine.reporter import Event, Reporter, event_to_json
from engine.runs.worker import give_way, mistake
from engine.server.protocol import CANCEL
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.server.handlers import Handlers

TICK = 0.5  # seconds between two signs of life while something is loaded
GONE = 137  # exit code after the interface has gone, as of a process that was killed


class Server:
    """A queue of requests: one thread listens, the main one works."""

    def __init__(self, workspace: Workspace, events: BinaryIO):
        self.workspace = workspace
        self._events = events
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: deque[dict[str, Any]] = deque()
        self._running: dict[str, Any] | None = None
        self._cancelled = False  # the running one
        self._replies: Handlers | None = None

    def listen(self, lines: Iterable[bytes]) -> None:
        """Take in requests until ``lines`` end; never returns."""
        for line in lines:
            try:
                message = json.loads(line)
                self._take(message["ask"], message["id"], message)
            except (ValueError, TypeError, KeyError):
                traceback.print_exc()
        os._exit(GONE)

    def serve(self) -> None:
        """Work on requests for ever."""
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting)
                self._running, self._cancelled = self._waiting.popleft(), False
            self._work(self._running)

    def emit(self, request: dict[str, Any], kind: str, **fields: Any) -> None:
        event = {"id": request["id"], "ask": request["ask"], "kind": kind, **fields}
        line = json.dumps(event, default=float).encode() + b"\n"
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

    def _take(self, ask: str, number: int | None, request: dict[str, Any]) -> None:
        dropped = []
        with self._changed:
            if ask == CANCEL:
                dropped = [one for one in self._waiting if number in (None, one["id"])]
                self._waiting = deque(one for one in self._waiting if one not in dropped)
                self._cancelled |= self._running is not None and number in (None, self._running["id"])
            else:
                self._waiting.append(request)
                self._changed.notify()
        for one in dropped:
            self.emit(one, "cancelled")

    def _work(self, request: dict[str, Any]) -> None:
        reply = _Reply(self, request)
        fields = {key: value for key, value in request.items() if key not in ("id", "ask")}
        try:
            result = self._ready(reply).reply(request["ask"], fields, reply)
        except Stopped:
            self.emit(request, "cancelled")
        except BaseException as error:
            self._fail(request, error)
        else:
            self.emit(request, "done", result=result)

    def _ready(self, reply: "_Reply") -> "Handlers":
        if self._replies is None:
            with reply.loading("the model server", 0):
                from engine.server.handlers import Handlers  # torch: seconds, in which the other thread listens already

                self._replies = Handlers(self.workspace)
        return self._replies

    def _fail(self, request: dict[str, Any], error: BaseException) -> None:
        message = mistake(error)
        if type(error).__name__ == "OutOfMemoryError" and self._replies:
            traceback.clear_frames(error.__traceback__)  # they still hold what shall be freed
            self._replies.loaded.clear()
            message = "The accelerator's memory is full: close what else uses it, or choose the device cpu."
        if message is None:
            traceback.print_exception(error)
        text = message or f"{type(error).__name__}: {error}"
        self.emit(request, "failed", error=text, mistake=message is not None)


class _Reply(Reporter):
    """What the work on one request says."""

    def __init__(self, server: Server, request: dict[str, Any]):
        self._server, self._request = server, request

    def event(self, event: Event) -> None:
        self._server.emit(self._request, **event_to_json(event))

    def check(self) -> None:
        self._server.check()

    @contextlib.contextmanager
    def loading(self, what: str, size: int) -> Iterator[None]:
        """Events ``progress`` while the block runs; the libraries that load tell nothing of how far they are."""
        self.check()
        started, over = time.monotonic(), threading.Event()

        def tick() -> None:
            while True:
                seconds = round(time.monotonic() - started, 1)
                self._server.emit(self._request, "progress", stage=f"loading {what}", seconds=seconds, bytes=size)
                if over.wait(TICK):
                    return

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()


def main() -> None:
    give_way(8)  # where cores are few, keys come before answers, and answers before training
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the events
    server = Server(Workspace(Path(sys.argv[1])), events)
    threading.Thread(target=server.listen, args=(sys.stdin.buffer,), daemon=True).start()
    server.serve()


if __name__ == "__main__":
    main()
