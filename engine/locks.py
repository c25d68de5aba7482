"""Locks between processes: a wish where the file system has none (Lustre without flock, some NFS).

A lock is flock's. Where that is refused, the file says who has it (host, process, and when that process began), and
whoever asks looks whether that one lives: on another host, whether it has touched the file of late. That flock is
refused is said once a process, as a warning.

Whoever looks whether a lock is held shares it for that moment, which whoever takes it sees and waits out. A file that
was removed by who had the lock on it is no lock: whoever waited for that one takes the one that is there now.
"""

import contextlib
import errno
import fcntl
import io
import os
import socket
import threading
import time
import warnings
from pathlib import Path

from engine.errors import Notice
from engine.regular import open_regular

BEAT = 20.0  # seconds between touches of a file that is held without flock
FRESH = 4 * BEAT  # seconds after the last one for which a process of another host counts as alive
LONGEST = 1000  # bytes of what a file says of who has it
NO_FILE = {errno.ENOENT, errno.EISDIR, errno.ENXIO}
"""Where there is none, or a folder, or a pipe, nobody has the lock."""
PASSING = 2.0  # seconds for which what others do in a moment is waited for


class NoLocks(Notice):
    """The file system does not lock."""


class Lock:
    """The lock on ``file``, this process's until ``close``, or for as long as this object lives."""

    def __init__(self, file: io.FileIO):
        self._file = file
        self._closed = threading.Event()
        self._noted = False

    def note(self) -> None:
        """Say in the file who has it, which is all the lock there is where flock is refused."""
        self._write(_note())
        self._noted = True
        threading.Thread(target=_beat, args=(Path(self._file.name), self._closed), daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._noted:
            self._noted = False
            with contextlib.suppress(OSError):
                if _said(Path(self._file.name)) == _note():  # who held it too long may have lost it
                    self._write("")
        self._file.close()

    __del__ = close

    def fileno(self) -> int:
        return self._file.fileno()

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text.encode())


def take(path: Path) -> Lock | None:
    """The lock on the file ``path``, which is made if need be; None where a living process has it. Raises OSError."""
    deadline = time.monotonic() + PASSING
    while True:
        lock = Lock(open_regular(path, "ab"))
        taken = _taken(path, lock)
        if taken and _is_at(path, lock):
            return lock
        lock.close()
        if taken is False or time.monotonic() > deadline:
            return None
        time.sleep(0.002)


def _taken(path: Path, lock: Lock) -> bool | None:
    """Whether the lock is had now; None where others are in the way for a moment."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return None if _shared(lock) else False
    except OSError as error:
        _warn(error.strerror or str(error))
        return _claimed(path, lock)


def _shared(lock: Lock) -> bool:
    """Whether nobody has the lock, but others look whether somebody has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _claimed(path: Path, lock: Lock) -> bool | None:
    """As _taken, without flock: one process at a time looks whether the lock is free and notes that it has it."""
    claim = path.with_name(f"{path.name}.claim")
    try:
        with open(claim, "xb", buffering=0) as file:
            file.write(_note().encode())
    except FileExistsError:
        _forget(claim)
        return None
    try:
        if _lives(path, claim.stat().st_mtime):
            return False
        lock.note()
        return True
    finally:
        claim.unlink(missing_ok=True)


def _forget(claim: Path) -> None:
    """Remove the ``claim`` of a process that was killed here: under another name, so that one process alone does."""
    with contextlib.suppress(OSError):
        left = not _lives(claim) if _said(claim) else time.time() - claim.stat().st_mtime > FRESH
        if left:
            mine = claim.with_name(f"{claim.name}.{os.getpid()}")
            claim.rename(mine)
            mine.unlink()


def _is_at(path: Path, lock: Lock) -> bool:
    """Whether the file that is locked is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except OSError:
        return False


def held(path: Path) -> bool | None:
    """Whether a living process has the lock on the file ``path``; None where that cannot be known."""
    try:
        with open_regular(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return False if error.errno in NO_FILE else _lives(path)
    return False


def _said(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(LONGEST).decode()


def _note() -> str:
    return f"{socket.gethostname()} {os.getpid()} {_began(os.getpid())}"


def _lives(path: Path, now: float | None = None) -> bool | None:
    """Whether the process lives that the file says has it; ``now`` by the clock of the file system, where known."""
    try:
        host, told, began = _said(path).split(" ")
        number = int(told)
        if host != socket.gethostname():
            return (now or time.time()) - path.stat().st_mtime < FRESH
    except ValueError:  # nobody has it
        return False
    except OSError:
        return None
    return _began(number) == began if began else alive(number)


def alive(number: int) -> bool:
    """Whether there is a process of this number here."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
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
