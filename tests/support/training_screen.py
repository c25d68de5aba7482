"""Drives mode Train of a workspace."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.modes.train.screen import TrainMode
from tests.support.pilots import until

WIDE, MIDDLE, NARROW = (160, 50), (120, 34), (80, 24)


def drive(
    place: Workspace, scenario: Callable[[Pilot[Any], Any], Awaitable[None]], size: tuple[int, int] = WIDE
) -> None:
    async def run() -> None:
        app = Workbench(place, mode="train")
        async with app.run_test(size=size) as pilot:
            pane = app.screen
            assert isinstance(pane, TrainMode)
            await until(pilot, lambda: pane.table.rows or pane.table.empty != "…")
            await pilot.pause()
            await scenario(pilot, pane)

    asyncio.run(run())


async def choose(pilot: Pilot[Any], pane: Any, name: str) -> None:
    await pilot.press("g")
    while pane.selected.name != name:
        await pilot.press("j")
    await pilot.pause()
