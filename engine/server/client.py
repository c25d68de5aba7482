"""Starts the model server (``engine.server``) and talks to it. Imports no torch; no call waits for the server."""

import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.errors import UserError, reason
from engine.files import open_private
from engine.runs.memory import killed, memory_kills
from engine.runs.run import environment, python_module
from engine.server.protocol import (
    END,
    Cancel,
    Cancelled,
    Failed,
    Request,
    ServerEvent,
    read_event,
    write_request,
)
from engine.workspace import Workspace


class ModelServer:
    """The model server of one interface. It is started by the first request, and dies with the interface.

    ``on_event`` gets every event, with the number of its request. Each request ends with exactly one of ``Done``,
    ``Cancelled`` and ``Failed``. It is called from threads of this object, one event of a server at a time.

    ``log``: a file to which the server's own output is appended (None: it is thrown away).
    """

    def __init__(self, workspace: Workspace, log: Path | None, on_event: Callable[[int, ServerEvent], None]):
        self.workspace, self.log, self.on_event = workspace, log, on_event
        self._lock = threading.Lock()
        self._server: _Process | None = None
        self._asked = 0
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether a server is running."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        with self._lock:
            return self._server.pid if self._server else None

    def ask(self, request: Request, supersede: bool = True) -> int:
        """Send ``request``; its number, which its events bear. They may come before this returns.

        ``supersede``: cancel all earlier requests of the same kind. UserError when no server can be started.
        """
        with self._lock:
            if self._closed:
                raise UserError("The model server was closed with the interface: start saetui again.")
            server = self._server = self._server or _Process(self)
            self._asked += 1
            if supersede:
                for earlier in [number for number, kind in server.open.items() if kind is type(request)]:
                    server.send(earlier, Cancel())
            server.open[self._asked] = type(request)
            server.send(self._asked, request)
            return self._asked

    def cancel(self, number: int | None = None) -> None:
        """Stop that request (None: all), between two tokens; what has ended stays as it is.

        What is being loaded is loaded to its end first: see :meth:`restart`.
        """
        with self._lock:
            if self._server:
                self._server.send(number, Cancel())

    def restart(self) -> None:
        """Kill the server now, whatever it does: all requests are cancelled, the next one starts a new server."""
        with self._lock:
            server, self._server = self._server, None
        if server:
            server.kill()

    def close(self) -> None:
        """End the server for good."""
        with self._lock:
            self._closed = True
        self.restart()

    def _ended(self, server: "_Process", code: int) -> None:
        """Called by ``server`` when its process is gone and all it said has been passed on."""
        with self._lock:
            if self._server is server:
                self._server = None
            left = list(server.open)
            server.open.clear()
        for number in left:
            self._tell(number, Cancelled() if server.killed else Failed(self._death(code, server.kills), mistake=False))

    def _death(self, code: int, kills: int | None) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        why = f" ({killed(kills)})" if code == -signal.SIGKILL else ""
        why = " (a file that it reads became shorter, or its disk failed)" if code == -signal.SIGBUS else why
        where = f"its log is {self.log}" if self.log else "it kept no log"
        return f"The model server {how}{why}: {where}; ask again and a new one starts."

    def _passed(self, server: "_Process", number: int, event: ServerEvent) -> None:
        if isinstance(event, END):
            with self._lock:
                server.open.pop(number, None)
        self._tell(number, event)

    def _tell(self, number: int, event: ServerEvent) -> None:
        try:
            self.on_event(number, event)
        except Exception:  # an interface that is just closing; the events that follow still count
            report = traceback.format_exc()
            if self.log:
                with open(self.log, "a", opener=open_private) as file:
                    file.write(report)


class _Process:
    """One life of the server: its process, and a thread each to write to it and to read from it."""

    def __init__(self, owner: ModelServer):
        self.owner = owner
        self.open: dict[int, type[Request]] = {}  # requests without an end yet; under the owner's lock
        self.killed = False  # by us
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.kills = memory_kills()
        self._process = _start(owner.workspace, owner.log)
        self.pid = self._process.pid
        for work in (self._write, self._read):
            threading.Thread(target=work, name=f"model-server{work.__name__}", daemon=True).start()

    def send(self, number: int | None, message: Request | Cancel) -> None:
        self._outbox.put(write_request(number, message))

    def kill(self) -> None:
        self.killed = True
        self._process.kill()
        self._outbox.put(b"")

    def _write(self) -> None:
        assert self._process.stdin
        try:
            while message := self._outbox.get():
                self._process.stdin.write(message)
                self._process.stdin.flush()
            self._process.stdin.close()
        except OSError:  # it died: whoever reads from it tells
            pass

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # its last one may be torn
                with suppress(ValueError):  # what is no event: of a server that is damaged, or a library's print
                    self.owner._passed(self, *read_event(line))
        code = self._process.wait()
        self._outbox.put(b"")
        self.owner._ended(self, code)


def _start(workspace: Workspace, log: Path | None) -> "subprocess.Popen[bytes]":
    try:
        if log is None:
            return _popen(workspace, subprocess.DEVNULL)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab", opener=open_private) as file:
            return _popen(workspace, file.fileno())
    except OSError as error:
        where = error.filename or sys.executable
        raise UserError(
            f"The model server cannot be started ({reason(error)}: {where}): free memory or disk."
        ) from error


def _popen(workspace: Workspace, log: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        python_module("engine.server", str(workspace.root)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment(),
        start_new_session=True,  # Ctrl-C is for the interface alone; the server sees the end of its stdin
    )
