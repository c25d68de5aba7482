"""Requests of the modes to the model server, and the way of its events back to who asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.css.query import NoMatches

from engine.errors import UserError
from engine.server.protocol import END, Failed, Request, ServerEvent
from engine.workspace import Workspace
from saetui.preferences import state_folder

if TYPE_CHECKING:
    from engine.server.client import ModelServer

Handler = Callable[[ServerEvent], None]


class ModelRequests:
    """The model server of one workbench: started by the first request, ended with the workbench."""

    def __init__(self, app: App[Any], workspace: Workspace):
        self._app, self._workspace = app, workspace
        self._handlers: dict[int, Handler] = {}
        self.server: ModelServer | None = None

    def ask(self, request: Request, handler: Handler, supersede: bool = True) -> int:
        """Send ``request``; ``handler`` gets every event of it, in the app's own thread. Its number, to cancel it."""
        from engine.server.client import ModelServer

        if self.server is None:
            self.server = ModelServer(self._workspace, state_folder() / "model-server.txt", self._hear)
        try:
            number = self.server.ask(request, supersede=supersede)
        except UserError as error:  # no process can be started: told like any other failure
            self._app.call_later(handler, Failed(str(error), mistake=True))
            return -1
        self._handlers[number] = handler
        return number

    def _hear(self, number: int, event: ServerEvent) -> None:
        """Called by the server's reader, in its thread."""
        self._app.call_later(self._take, number, event)

    def _take(self, number: int, event: ServerEvent) -> None:
        """Hand an event to who asked, in the app's thread."""
        handler = self._handlers.get(number)
        if isinstance(event, END):
            self._handlers.pop(number, None)
        if handler and self._app.is_running:
            with contextlib.suppress(NoMatches):  # a screen that is closing has lost the widgets that it would tell
                handler(event)

    def cancel(self, number: int) -> None:
        if self.server is not None:
            self.server.cancel(number)

    def restart(self) -> None:
        """Kill the server, whatever it does: the way to cancel a load."""
        if self.server is not None:
            self.server.restart()

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
