"""A disk that fails: one of the calls that open, read or write files in a folder ends in an error of the system."""

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Fails the call number ``at`` of the kind ``what`` (open, read, write) on files in ``root``."""

    def __init__(self, root: Path, what: str, at: int, number: int = errno.EIO):
        self.root, self.what, self.at, self.number = os.path.realpath(root), what, at, number
        self.calls = 0

    @property
    def failed(self) -> bool:
        return self.calls >= self.at

    def call(self, what: str, path: Any) -> None:
        if what == self.what and self._mine(path):
            self.calls += 1
            if self.calls == self.at:
                raise OSError(self.number, os.strerror(self.number), str(path))

    def _mine(self, path: Any) -> bool:
        return isinstance(path, (str, Path)) and os.path.realpath(path).startswith(self.root + os.sep)


@contextlib.contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    plain_open, plain_pread, plain_pwrite, plain_fsync = builtins.open, os.pread, os.pwrite, os.fsync

    class File(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            disk.call("read", self.name)
            return super().readinto(buffer)  # type: ignore[return-value]

        def read(self, size: int = -1) -> Any:
            disk.call("read", self.name)
            return super().read(size)

        def readall(self) -> Any:
            disk.call("read", self.name)
            return super().readall()

        def write(self, data: Any) -> Any:
            disk.call("write", self.name)
            return super().write(data)

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not disk._mine(file):
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        disk.call("open", file)
        raw: Any = File(os.fspath(file), mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        whole: Any = kind(raw)
        return whole if "b" in mode else io.TextIOWrapper(whole, encoding, errors, newline)

    def of(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def pread(descriptor: int, *rest: Any) -> bytes:
        disk.call("read", of(descriptor))
        return plain_pread(descriptor, *rest)

    def pwrite(descriptor: int, *rest: Any) -> int:
        disk.call("write", of(descriptor))
        return plain_pwrite(descriptor, *rest)

    def fsync(descriptor: int) -> None:
        disk.call("write", of(descriptor))
        plain_fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        for module in (builtins, io):
            patch.setattr(module, "open", opened)
        patch.setattr(os, "pread", pread)
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(os, "fsync", fsync)
        yield disk
