"""Loads what Steer would ask, while nobody types: so that the first answer does not wait for the model."""

from __future__ import annotations

import time
from dataclasses import replace

from engine.config import SteerSettings
from engine.errors import UserError
from engine.numbers import size
from engine.records import from_json
from engine.room import free_memory
from engine.server.protocol import Cancelled, Done, Failed, LoadAhead, Loading, ServerEvent
from engine.settings import from_mapping
from saetui.background import look_up
from saetui.formatting import loading
from saetui.modes.steer.setup import Setup, first_setup
from saetui.services import Services

QUIET = 1.0  # seconds without a key
LIBRARIES = 2 << 30  # bytes that must be free: what torch and its relatives take, and as much again


class Preload:
    """Begins once, when the workbench is idle: no key is typed, no run needs the machine, and there is memory."""

    def __init__(self, services: Services):
        self._services = services
        self._began = False

    def look(self) -> None:
        """Begin if it is time. Call it regularly."""
        services = self._services
        busy = services.models.server is not None or any(run.live for run in services.runs)
        if self._began or busy or time.monotonic() - services.garbage.last_key < QUIET:
            return
        self._began = True
        if services.preferences.preload:
            self.begin()

    def begin(self) -> None:
        free = free_memory()
        if free is not None and free < LIBRARIES:
            self._services.models.ahead = f"{size(free)} of memory are free: the first question loads the model."
            return
        look_up(self._services, "preload", self._question, self._ask, lambda _: None, unasked=True)

    def _question(self) -> SteerSettings | None:
        """What Steer opens with; None where it has nothing to ask."""
        workspace = self._services.workspace
        settings = from_mapping(SteerSettings, workspace.defaults_of(SteerSettings), "workspace.toml")
        setup = remembered(self._services) or first_setup(workspace, settings)
        if setup.lacks:
            return None
        return replace(setup, rack=(), image="blank").settings(device=settings.device, dtype=settings.dtype)

    def _ask(self, question: SteerSettings | None) -> None:
        if question is not None and self._services.models.server is None:
            self._services.models.ask(LoadAhead(question), self._heard, unasked=True)

    def _heard(self, event: ServerEvent) -> None:
        match event:
            case Loading():
                self._services.models.ahead = loading(event)
            case Failed():
                self._services.models.ahead = event.error
            case Done() | Cancelled():
                self._services.models.ahead = ""


def remembered(services: Services) -> Setup | None:
    """The setup that Steer was left with, if it is of an SAE."""
    try:
        kept = from_json(Setup, services.session.get("steer")["setup"], "A kept setup")
    except (UserError, KeyError):
        return None
    return kept if kept.sae else None
