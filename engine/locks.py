"""Locks between processes: a wish where the file system has none (Lustre without flock, some NFS).

A lock is flock's. Where that is refused, the file says who has it (host, process, and when that process began), and
whoever asks looks whether that one lives: on another host, whether it has touched the file of late. That flock is
refused is said once a process, as a warning.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
import warnings
from pathlib import Path
from typing import IO

BEAT = 20.0  # seconds between touches of a file that is held without flock
FRESH = 4 * BEAT  # seconds after the last one for which a process of another host counts as alive


class NoLocks(UserWarning):
    """The file system does not lock."""


class Lock:
    """The lock on ``file``, this process's until ``close``, or for as long as this object lives."""

    def __init__(self, file: IO[str]):
        self._file = file
        self._closed = threading.Event()
        self._noted = False

    def note(self) -> None:
        """Say in the file who has it, which is all the lock there is where flock is refused."""
        self._write(f"{socket.gethostname()} {os.getpid()} {_began(os.getpid())}")
        self._noted = True
        threading.Thread(target=_beat, args=(Path(self._file.name), self._closed), daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._noted:
            self._noted = False
            with contextlib.suppress(OSError):
                self._write("")
        self._file.close()

    __del__ = close

    def fileno(self) -> int:
        return self._file.fileno()

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


def take(path: Path) -> Lock | None:
    """The lock on the file ``path``, which is made if need be; None where a living process has it. Raises OSError."""
    lock = Lock(open(path, "a"))  # noqa: SIM115 - closed by the lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        _warn(error.strerror or str(error))
        if _lives(path):
            return None
        lock.note()
    return lock


def held(path: Path) -> bool | None:
    """Whether a living process has the lock on the file ``path``; None where that cannot be known."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return _lives(path)
    return False


def _lives(path: Path) -> bool | None:
    """Whether the process lives that the file says has it."""
    try:
        host, number, began = path.read_text().split(" ")
        if host != socket.gethostname():
            return time.time() - path.stat().st_mtime < FRESH
    except ValueError:  # nobody has it
        return False
    except OSError:
        return None
    return _began(int(number)) == began if began else _alive(int(number))


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def _began(number: int) -> str:
    """When a process that lives began, in ticks: numbers of processes are used again. Empty without /proc."""
    try:
        state, *times = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else times[18]
    except (OSError, IndexError):
        return ""


def _beat(path: Path, closed: threading.Event) -> None:
    while not closed.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _warn(reason: str) -> None:
    sentence = f"This file system has no locks ({reason}): do not let two processes write the same artefact."
    warnings.warn(sentence, NoLocks, stacklevel=2)  # Python shows a warning once
