"""Requests of the modes to the model server, and the way of its events back to who asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.css.query import NoMatches
from textual.message import Message

from engine.errors import UserError
from engine.workspace import Workspace
from saetui.preferences import state_folder

if TYPE_CHECKING:
    from engine.server.client import ModelServer
    from engine.server.protocol import Request

Handler = Callable[[dict[str, Any]], None]


@dataclass
class ServerSaid(Message):
    """An event of the model server."""

    event: dict[str, Any]


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
            self._app.call_later(handler, {"id": -1, "kind": "failed", "error": str(error), "mistake": True})
            return -1
        self._handlers[number] = handler
        return number

    def take(self, event: dict[str, Any]) -> None:
        """Hand an event to who asked, in the app's thread."""
        handler = self._handlers.get(event.get("id", -1))
        if event["kind"] in ("done", "cancelled", "failed"):
            self._handlers.pop(event.get("id", -1), None)
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

    def _hear(self, event: dict[str, Any]) -> None:
        """Called by the server's reader, in its thread."""
        self._app.post_message(ServerSaid(event))
