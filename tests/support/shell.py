"""Runs saetui's commands as a shell does."""

import fcntl
import json
import os
import re
import selectors
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
ENVIRONMENT |= {"TERM": "xterm-256color"}
PATIENCE = 300  # seconds for a command: a plan of four stages took more than 120 on a machine busy with other tests
ASKED, VT220 = b"\x1b[c", b"\x1b[?62c"  # DA1, the last question of saetui.terminal.probe


def saetui(*arguments, cwd=None, code=0, **options):
    """Run ``saetui`` with ``arguments``; returns the finished process, whose exit code must be ``code``."""
    done = subprocess.run(command_of(arguments), cwd=cwd, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def saetui_json(*arguments, **options):
    return json.loads(saetui(*arguments, "--json", **options).stdout)


def command_of(arguments):
    return [sys.executable, "-m", "saetui", *map(str, arguments)]


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def in_pipe(*arguments: str, cwd: Path, **environment: str) -> Done:
    """Run ``saetui`` with ``arguments`` without a terminal, and with more in the environment."""
    given = ENVIRONMENT | environment
    done = subprocess.run(command_of(arguments), cwd=cwd, env=given, capture_output=True, text=True, timeout=PATIENCE)
    return Done(done.returncode, done.stdout, without_notice(done.stderr))


def in_terminal(*arguments: str, cwd: Path, raw: bool = False) -> Done:
    """Run ``saetui`` with ``arguments`` in a terminal of 80x24; stderr is another terminal. ``raw``: what it writes is
    kept with its escape sequences."""
    (out, shell), (err, errors) = screens = [os.openpty(), os.openpty()]
    for master, slave in screens:
        os.set_blocking(master, False)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # a session leader that opens a terminal gets it as /dev/tty
    command = ["sh", "-c", 'exec "$@" <"$0" >"$0"', os.ttyname(shell), *command_of(arguments)]
    process = subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stderr=errors, start_new_session=True)
    said = [text if raw else plain(text) for text in heard(process, [out, err])]
    for end in (out, shell, err, errors):
        os.close(end)
    return Done(process.returncode, said[0], without_notice(said[1]))


def without_notice(err: str) -> str:
    """``err`` without the line that says that there are no locks where the tests run: see ``--without-locks``."""
    return re.sub(r"saetui: This file system has no locks [^\r\n]*\n", "", err)


def heard(process: "subprocess.Popen[bytes]", masters: list[int]) -> Iterator[str]:
    """What a process writes to each of ``masters`` until it ends. They answer DA1, as every terminal does."""
    said = {master: b"" for master in masters}
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as ready:
        for master in masters:
            ready.register(master, selectors.EVENT_READ)
        while (ended := process.poll()) is None or ready.select(0):
            assert time.monotonic() < deadline, said
            for key, _ in ready.select(0.05 if ended is None else 0):
                said[key.fd] += (piece := os.read(key.fd, 65536))
                if ASKED in piece:
                    os.write(key.fd, VT220)
    for text in said.values():
        yield text.decode()


def plain(text: str) -> str:
    """``text`` without escape sequences."""
    for sequence in (r"\x1b[P_][^\x1b]*\x1b\\", r"\x1b\[[0-?]*[ -/]*[@-~]", r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)"):
        text = re.sub(sequence, "", text)
    return text.replace("\r\n", "\n")


def only_progress(err: str) -> bool:
    """Whether every line is a progress bar or a progress line (a count of a total, with a unit)."""
    lines = (line.strip() for line in re.split(r"[\r\n]", err))
    return all(re.search(r"━|[\d,]+/[\d,]+ \w+", line) for line in lines if line)
