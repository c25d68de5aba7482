"""Keys one at a time: the next is delivered once the effects of the last have been handled.

Textual delivers a key to the widget in focus when the key arrives. Over a slow link, or on a busy machine, several keys
arrive at once, and then ``/pencil`` would move the cursor of the table instead of going into the filter.
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

ROUNDS = 3  # the key; the messages it caused, which may move the focus; the messages of a dialog they opened
POLL = 0.01  # seconds between checks whether a widget that is waited for has been removed
TIMEOUT = 0.5  # seconds after which a busy widget is no longer waited for


class KeyQueue:
    """Holds keys back between the keyboard and ``deliver``, which passes one on to ``app``."""

    def __init__(self, app: App[Any], deliver: Callable[[events.Key], Awaitable[None]]):
        self._app, self._deliver = app, deliver
        self._waiting: deque[events.Key] = deque()
        self._task: asyncio.Task[None] | None = None

    async def take(self, key: events.Key) -> None:
        """Deliver ``key`` now, or queue it behind keys that are still being handled. Does not wait for those."""
        if self._task is not None and not self._task.done():
            self._waiting.append(key)
            return
        await self._deliver(key)
        self._task = asyncio.create_task(self._deliver_queued())

    async def _deliver_queued(self) -> None:
        await self._wait_until_handled()
        while self._waiting:
            await self._deliver(self._waiting.popleft())
            await self._wait_until_handled()

    async def _wait_until_handled(self) -> None:
        """Wait until the focused widget and its ancestors have handled their pending messages."""
        for _ in range(ROUNDS):
            for pump in (self._app.focused or self._app.screen).ancestors_with_self:
                await _handle_pending(pump)


async def _handle_pending(pump: MessagePump) -> None:
    """Wait until ``pump`` has handled the messages now in its queue, or has been removed."""
    handled = asyncio.Event()
    deadline = time.monotonic() + TIMEOUT
    if not pump.call_later(handled.set):
        return
    while not handled.is_set() and pump.is_running and pump.is_attached and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(handled.wait(), POLL)
