"""Files, opened only where they are files: a pipe may be waited for for ever, and opening a device may do something."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Literal

_KINDS = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))


def open_regular(path: str | Path, mode: Literal["rb", "ab"] = "rb") -> io.FileIO:
    """The file for reading, or with ``ab`` for adding to it (it is made if need be), unbuffered.

    Raises OSError, with a reason in words for what is no file.
    """
    try:
        _check_regular(os.stat(path), path)
    except ValueError as error:  # a zero byte, or half of a character
        raise OSError(errno.EILSEQ, "no file can have such a name", str(path)) from error
    except FileNotFoundError:
        if mode == "rb":
            raise
    file = open(path, mode, buffering=0, opener=_without_waiting)  # noqa: SIM115 - closed by whoever asked
    try:
        _check_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def special(path: str | Path) -> str:
    """What kind of special file it is, in words; empty for a file, a folder, and where there is nothing."""
    try:
        return _kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return ""


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "special file")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _check_regular(found: os.stat_result, path: str | Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind := _kind(found.st_mode):
        raise OSError(errno.ENXIO, f"it is a {kind}, not a file", str(path))
