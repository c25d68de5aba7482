"""Where a user was in a workspace, saved on every change, so that a lost connection loses nothing.

One JSON file per workspace in the state directory. It is only a convenience: a damaged file counts as empty.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import UserError
from engine.files import read_json, value_sha256, write_json
from engine.workspace import MARKER, Workspace
from saetui.preferences import state_folder
from saetui.widgets.bars import TITLES

VERSION = 1
V = TypeVar("V")
KINDS = ("activations", "embeddings", "saes", "neurons", "runs")


class Session:
    """A mapping of JSON values for each mode."""

    def __init__(self, root: Path):
        self.path = state_folder() / f"{root.name[:40]}-{value_sha256(str(root))[:12]}.json"
        self._modes: dict[str, dict[str, Any]] = {}
        self._load()

    @property
    def answers(self) -> Path:
        """What was asked and answered in Steer, a JSON line each."""
        return self.path.with_suffix(".versions.jsonl")

    def _load(self) -> None:
        with contextlib.suppress(UserError, ValueError, RecursionError, AttributeError, KeyError):
            kept = read_json(self.path)
            json.dumps(kept, allow_nan=False)  # else nothing could be saved
            if kept.get("version") == VERSION:
                self._modes = {k: v for k, v in kept["panes"].items() if isinstance(v, dict)}

    def get(self, mode: str) -> dict[str, Any]:
        return self._modes.get(mode, {})

    def recall(self, mode: str, name: str, default: V) -> V:
        """What is kept of ``mode`` under ``name``; ``default`` for nothing, and for a value of another type."""
        kept = self.get(mode).get(name, default)
        return kept if type(kept) is type(default) else default

    def set(self, mode: str, /, **values: Any) -> bool:
        """Update the mapping of ``mode`` with ``values``; returns whether that changed it."""
        changed = {**self.get(mode), **values}
        if changed == self.get(mode):
            return False
        self._modes[mode] = changed
        return True

    def save(self) -> None:
        """Write the file. Ignores a full or read-only disk: only the session is lost."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(
                self.path, {"version": VERSION, "pid": os.getpid(), "panes": self._modes}, durable=False, private=True
            )


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
