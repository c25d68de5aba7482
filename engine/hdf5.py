"""HDF5 files for reading, through files of Python.

HDF5 itself locks what it opens, which fails where a file system has no locks and where a notebook has the file open,
and refuses a file that this process has open under other options. We replace files, and never change one that others
may read: there is nothing to lock. So too, what the system refuses comes as the system's own error.
"""

import atexit
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import h5py

_OPEN: "WeakValueDictionary[int, HDF5File]" = WeakValueDictionary()


class HDF5File(h5py.File):  # type: ignore[misc]  # h5py has no types
    """An HDF5 file, open for reading."""

    def __init__(self, path: Path):
        """Raises OSError: with an ``errno`` what the system says, without one what is wrong with the file."""
        self._disk: Any = open(path, "rb")  # noqa: SIM115 - closed by close
        try:
            super().__init__(self._disk, "r")
        except BaseException:
            self._disk.close()
            raise
        _OPEN[id(self)] = self

    def close(self) -> None:
        super().close()
        self._disk.close()


@atexit.register
def _close_all() -> None:
    """HDF5 would close them when Python's files can no longer be called, and crash."""
    for file in list(_OPEN.values()):
        file.close()
