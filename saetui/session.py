"""Where a person was in a workspace, kept when it changes, so that a lost connection loses nothing.

One JSON file per workspace under the state directory. It is only a convenience: a damaged file is an empty one.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import read_json, value_sha256, write_json
from engine.workspace import MARKER, Workspace
from saetui.preferences import state_folder
from saetui.widgets.bars import TITLES

VERSION = 1
KINDS = ("activations", "embeddings", "saes", "neurons", "runs")


class Session:
    """By mode, JSON values."""

    def __init__(self, root: Path):
        self.path = state_folder() / f"{root.name[:40]}-{value_sha256(str(root))[:12]}.json"
        self._panes: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(UserError):
            kept = read_json(self.path)
            if isinstance(kept, dict) and kept.get("version") == VERSION:
                self._panes = {k: v for k, v in kept.get("panes", {}).items() if isinstance(v, dict)}

    def get(self, pane: str) -> dict[str, Any]:
        return self._panes.get(pane, {})

    def set(self, pane: str, **values: Any) -> bool:
        """Remember ``values`` of a pane beside what is known of it; whether anything is new and should be saved."""
        changed = {**self.get(pane), **values}
        if changed == self.get(pane):
            return False
        self._panes[pane] = changed
        return True

    def save(self) -> None:
        """Write it. A disk that is full or read-only costs the memory of where one was, no more."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {"version": VERSION, "pid": os.getpid(), "panes": self._panes}, durable=False)


def is_workspace(place: Workspace) -> bool:
    return (place.root / MARKER).is_file() or any((place.root / kind).is_dir() for kind in KINDS)


def first_mode(place: Workspace, remembered: str) -> str:
    """Where one was, else the farthest stage that there is something to see of."""
    if remembered in TITLES:
        return remembered
    for mode, kind in (("neurons", "neurons"), ("train", "saes")):
        if (place.root / kind).is_dir() and any((place.root / kind).iterdir()):
            return mode
    return "data"
