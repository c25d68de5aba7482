"""Driving the workbench in tests: waiting for the screen, and reading it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from saetui.widgets.table import Table


async def until(pilot: Pilot[Any], holds: Callable[[], Any], patience: float = 15.0) -> None:
    """Wait until ``holds()``; raises AssertionError with the text of the screen after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, screen_text(pilot)
        await asyncio.sleep(0.02)
        await pilot.pause()


def screen_text(pilot: Pilot[Any]) -> str:
    """The text on the screen."""
    return "\n".join(
        "".join(segment.text for segment in strip) for strip in pilot.app.screen._compositor.render_strips()
    )


def rows(table: Table) -> list[str]:
    """The texts of every row of a table."""
    return ["  ".join(table._cells(row)) for row in range(table.rows)]
