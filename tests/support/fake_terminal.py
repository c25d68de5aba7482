"""Terminals for tests: ptys with a thread at the other end."""

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IDENTIFYING = ("TMUX", "STY", "COLORTERM", "NO_COLOR", "SSH_CONNECTION", "SSH_TTY", "TERM", "COLUMNS", "LINES")


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
    answering = threading.Thread(target=_answer, args=(ours, replies), daemon=True)
    answering.start()
    _, said = process.communicate(timeout=20)
    answering.join()
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


def attach(socket: str, term: str) -> "subprocess.Popen[bytes]":
    """A client of the tmux server at ``socket``, on a terminal ``term`` that answers no queries."""
    ours, theirs = pty.openpty()
    client = subprocess.Popen(
        ["tmux", "-L", socket, "attach"],
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


def _drain(ours: int) -> None:
    try:
        while os.read(ours, 4096):
            pass
    except OSError:
        os.close(ours)
