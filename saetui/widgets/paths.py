"""A line in which paths are typed: the rest of the first that fits stands behind the cursor, and tab takes it."""

import asyncio
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from textual.suggester import Suggester
from textual.widgets import Input

from engine.files import path_of
from saetui.bindings import key

COMPLETED = ("path", "file", "model", "image")
"""Sorts of places (engine.settings.Place) that may be paths."""
_MOST = 20_000  # names of a folder that are looked at


class PathInput(Input):
    BINDINGS = [key("path.complete", "tab", "complete", "Complete the path, or next field")]

    def __init__(self, value: str, known: Sequence[str] = (), *, base: Path, id: str | None = None):
        """``known``: values that are not looked for on the disk. ``base``: what relative paths are from."""
        super().__init__(value, suggester=_Paths(known, base), compact=True, id=id)
        self.base = base

    async def action_complete(self) -> None:
        """Take what fits; without it, or in the middle of the line, go on to the next field."""
        typed = self.value
        found = await asyncio.to_thread(completed, typed, self.base) if self.cursor_at_end else None
        if found is None:
            self.screen.focus_next()
        elif typed == self.value:
            self.value = found
            self.cursor_position = len(found)


class _Paths(Suggester):
    def __init__(self, known: Sequence[str], base: Path):
        super().__init__(use_cache=False, case_sensitive=True)
        self.known, self.base = known, base

    async def get_suggestion(self, value: str) -> str | None:
        known = next((one for one in self.known if one.startswith(value)), None)
        return known or await asyncio.to_thread(completed, value, self.base)


def completed(typed: str, base: Path) -> str | None:
    """The first path, by name and from ``base``, that begins with ``typed``, a folder with a slash at its end; None
    where there is none, and where it is typed in full. Hidden ones only where their dot is typed."""
    folder, name = os.path.split(typed)
    if not name or "\0" in typed:
        return None
    try:
        with os.scandir(base / path_of(folder or ".")) as found:
            fits = [one for one in islice(found, _MOST) if one.name.startswith(name)]
        fits = [one for one in fits if name[0] == "." or not one.name.startswith(".")]
        first = min(fits, key=lambda one: one.name, default=None)
        if first is None or first.name == name:
            return None
        return os.path.join(folder, first.name) + ("/" if first.is_dir() else "")
    except OSError:  # it is not there, or not ours to read
        return None
