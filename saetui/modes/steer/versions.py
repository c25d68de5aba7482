"""What was tried so far, and what was answered."""

from __future__ import annotations

import io
import json
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError, counted
from engine.files import open_private, write_text
from engine.records import from_json, parse_json, to_json
from engine.regular import open_regular
from engine.steer.results import ANSWERS, Steered
from saetui.modes.steer.setup import Setup

KEPT = 1_000  # versions of a workspace


@dataclass(frozen=True)
class Version:
    """A setup, and what was answered."""

    setup: Setup
    answers: Steered
    time: float = 0.0
    """Seconds since the epoch."""

    def text(self) -> str:
        """To be pasted somewhere else."""
        setup = self.setup
        rack = [f"  {slot.setting(setup.mode)}  {slot.name}".rstrip() for slot in setup.rack if slot.on]
        lines = [
            f"SAE {setup.sae}, model {setup.vlm}, image {setup.image}",
            f"prompt: {setup.prompt}",
            f"mode {setup.mode}, tokens {setup.tokens}, {counted(setup.max_new_tokens, 'new token')}, "
            f"error {'kept' if setup.keep_error else 'dropped'}",
            *(["latents:", *rack] if rack else ["no latent changed"]),
            *(f"{name}: {getattr(self.answers, name)}" for name in ANSWERS),
        ]
        return "\n".join(lines) + "\n"


class Versions:
    """The last ``KEPT`` versions of a workspace, a JSON line each. For threads: every call reads or writes a file."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> list[Version]:
        """The newest first. Lines that are torn or damaged are passed over; a file that is missing is empty."""
        try:
            with io.BufferedReader(open_regular(self.path)) as file:
                lines = deque(file, KEPT)
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(from_json(Version, parse_json(line), "A kept version"))
            except (ValueError, UserError):
                continue
        return found[::-1]

    def add(self, version: Version) -> None:
        """Append it; of a file that has grown to twice ``KEPT`` lines the older half is dropped. Raises OSError."""
        line = json.dumps(to_json(version)) + "\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b", opener=open_private) as file:
                file.seek(0)
                lines = file.readlines()
                torn = bool(lines) and not lines[-1].endswith(b"\n")
                file.write(b"\n" * torn + line.encode())
            if len(lines) >= 2 * KEPT:
                kept = [old.decode(errors="replace") for old in lines[-KEPT + 1 :]]
                write_text(self.path, "".join([*kept, line]), durable=False, private=True)
