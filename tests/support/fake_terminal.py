"""Terminals for tests: a pty with a thread at its other end, and a separate tmux server."""

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IDENTIFYING = ("TMUX", "STY", "COLORTERM", "NO_COLOR", "SSH_CONNECTION", "SSH_TTY", "TERM")


def environment(**variables: str) -> dict[str, str]:
    """The variables of this process without those that identify a terminal, plus ``variables``."""
    plain = {key: value for key, value in os.environ.items() if key not in IDENTIFYING}
    return plain | {"PYTHONPATH": str(ROOT)} | variables


def on_a_terminal(script: str, replies: Sequence[bytes], **variables: str) -> Any:
    """Run ``script`` on a terminal that answers DA1 with ``replies``, one by one; returns its stderr, read as JSON."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x1e\x00\x64\x00\x00\x00\x00\x00")  # 30 rows, 100 columns
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment(**{"TERM": "xterm-256color"} | variables),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    threading.Thread(target=_answer, args=(ours, replies), daemon=True).start()
    _, said = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 0, said.decode()
    return json.loads(said)


def _answer(ours: int, replies: Sequence[bytes]) -> None:
    heard = b""
    while not heard.endswith(b"\x1b[c"):
        try:
            heard += os.read(ours, 4096)
        except OSError:  # the script ended without a query
            return
    for piece in replies:
        os.write(ours, piece)
        time.sleep(0.02)


class Tmux:
    """A tmux server of its own with one session of 100x30 that runs a Python script."""

    def __init__(self, folder: Path, script: str, config: str = "", **variables: str):
        self._base = ["tmux", "-S", str(folder / "socket"), "-f", str(folder / "config")]
        (folder / "config").write_text(config + "\nset -g remain-on-exit on\n")
        (folder / "script.py").write_text(script)
        command = f"{sys.executable} {folder / 'script.py'}"
        size = ["-x", "100", "-y", "30"]
        subprocess.run(
            [*self._base, "new-session", "-d", *size, command], env=environment(**variables), check=True, cwd=ROOT
        )

    def __enter__(self) -> "Tmux":
        return self

    def __exit__(self, *_: object) -> None:
        self("kill-server")

    def __call__(self, *arguments: str) -> str:
        return subprocess.run([*self._base, *arguments], capture_output=True, text=True).stdout

    def attach(self, term: str) -> subprocess.Popen[bytes]:
        """A client on a terminal ``term`` that answers no queries."""
        ours, theirs = pty.openpty()
        client = subprocess.Popen(
            [*self._base, "attach"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM=term),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        return client

    def screen(self, until: Callable[[str], bool], seconds: float = 15) -> str:
        """The text of the pane with its colours, once ``until`` holds for it."""
        end = time.monotonic() + seconds
        while not until(shown := self("capture-pane", "-ep")):
            assert time.monotonic() < end, shown
            time.sleep(0.05)
        return shown


def _drain(ours: int) -> None:
    try:
        while os.read(ours, 4096):
            pass
    except OSError:
        os.close(ours)
