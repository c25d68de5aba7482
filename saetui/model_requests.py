"""Requests of the modes to the model server, and the way of its events back to who asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.css.query import NoMatches

from engine.errors import UserError
from engine.server.protocol import END, Cancelled, Failed, Loading, Request, ServerEvent
from engine.workspace import Workspace
from saetui.preferences import state_folder

if TYPE_CHECKING:
    from engine.server.client import ModelServer

Handler = Callable[[ServerEvent], None]
OBEYS = 5.0  # seconds in which a server stops what was cancelled; one that does not is ended


class ModelRequests:
    """The model server of one workbench: started by the first request, ended with the workbench.

    Whoever cancels is told ``Cancelled`` at once, and nothing after it, whatever the server still says of it.
    """

    def __init__(self, app: App[Any], workspace: Workspace):
        self._app, self._workspace = app, workspace
        self._handlers: dict[int, Handler] = {}
        self._unasked: set[int] = set()  # requests for which nobody waits
        self._cancelled: dict[int, float] = {}  # when those were that the server still works on
        self._loading = False
        self.server: ModelServer | None = None
        self.ahead = ""
        """What is being loaded though nobody waits for it, or why it is not; empty for nothing."""

    def ask(self, request: Request, handler: Handler, supersede: bool = True, unasked: bool = False) -> int:
        """Send ``request``; ``handler`` gets every event of it, in the app's own thread, and what is being loaded
        before it. Its number, to cancel it. ``unasked``: nobody waits for it."""
        from engine.server.client import ModelServer

        if self.server is None:
            self.server = ModelServer(self._workspace, state_folder() / "model-server.txt", self._hear)
        if any(time.monotonic() - since > OBEYS for since in self._cancelled.values()):
            self.restart()
        try:
            number = self.server.ask(request, supersede=supersede)
        except UserError as error:  # no process can be started: told like any other failure
            self._app.call_later(handler, Failed(str(error), mistake=True))
            return -1
        self._handlers[number] = handler
        if unasked:
            self._unasked.add(number)
        return number

    def _hear(self, number: int, event: ServerEvent) -> None:
        """Called by the server's reader, in its thread."""
        self._app.call_later(self._take, number, event)

    def _take(self, number: int, event: ServerEvent) -> None:
        """Hand an event to who asked, in the app's thread; all who wait are told what is being loaded."""
        self._loading = isinstance(event, Loading)
        told = [*self._handlers.values()] if self._loading else [self._handlers.get(number)]
        if isinstance(event, END):
            self._forget(number)
            self._cancelled.pop(number, None)
        for handler in told:
            if handler and self._app.is_running:
                with contextlib.suppress(NoMatches):  # a screen that is closing has lost what it would tell
                    handler(event)
        if self._loading and not self._waiting and self._cancelled:
            self.restart()  # it began to load what nobody waits for any more

    @property
    def _waiting(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._handlers.keys() - self._unasked)

    def _forget(self, number: int) -> Handler | None:
        self._unasked.discard(number)
        return self._handlers.pop(number, None)

    def cancel(self, number: int) -> None:
        """Whoever asked is told so at once. What nobody waits for is not loaded to its end."""
        handler = self._forget(number)
        if handler is None or self.server is None:
            return
        self._cancelled[number] = time.monotonic()
        self.server.cancel(number)
        with contextlib.suppress(NoMatches):
            handler(Cancelled())
        if self._loading and not self._waiting:
            self.restart()
        else:
            self._app.set_timer(OBEYS, lambda: self._end_unless_obeyed(number))

    def cancel_loading(self) -> bool:
        """End the loading that nobody asked for; whether there was any."""
        loading = bool(self._unasked) and self._loading
        if loading:
            self.restart()
        return loading

    def _end_unless_obeyed(self, number: int) -> None:
        if number in self._cancelled and not self._waiting:
            self.restart()

    def restart(self) -> None:
        """Kill the server, whatever it does: the way to cancel a load."""
        self._cancelled.clear()
        self._loading = False
        if self.server is not None:
            self.server.restart()

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
