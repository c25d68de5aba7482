"""Keys one after the other: the next is given when all that the last one did is done.

Textual gives a key to whatever has the focus when it arrives. Over a slow link, or while the machine is busy, several
arrive at once, and then ``/pencil`` would move in the table of latents instead of going into the filter.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

ROUNDS = 3  # a key is handled; what it sent is handled, and moves the focus; a dialog that it opened has its own
LOOK = 0.01  # seconds between looks at whether a widget that is waited for has been removed
PATIENCE = 0.5  # seconds after which whoever is still busy is no longer waited for


class KeyQueue:
    """Between the keyboard and ``deliver``, which hands a key to ``app``."""

    def __init__(self, app: App[Any], deliver: Callable[[events.Key], Awaitable[None]]):
        self._app, self._deliver = app, deliver
        self._waiting: deque[events.Key] = deque()
        self._task: asyncio.Task[None] | None = None

    async def take(self, key: events.Key) -> None:
        """Deliver ``key``: now, or when those before it have been handled. Never waits for that."""
        if self._task is not None and not self._task.done():
            self._waiting.append(key)
            return
        await self._deliver(key)
        self._task = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        await self._settled()
        while self._waiting:
            await self._deliver(self._waiting.popleft())
            await self._settled()

    async def _settled(self) -> None:
        """Wait until all that wait for a message have come round to the end of those they have now, from within out."""
        app = self._app
        for _ in range(ROUNDS):
            inmost = app.focused or app.screen
            for pump in inmost.ancestors_with_self:
                await _come_round(pump)


async def _come_round(pump: MessagePump) -> None:
    """Wait until ``pump`` has handled the messages that it has now, or will handle none any more."""
    handled = asyncio.Event()
    deadline = time.monotonic() + PATIENCE
    if not pump.call_later(handled.set):
        return
    while not handled.is_set() and pump.is_running and pump.is_attached and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(handled.wait(), LOOK)
