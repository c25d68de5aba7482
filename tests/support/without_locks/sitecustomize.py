"""Python imports this at its start where it lies on PYTHONPATH: flock fails, as where a file system has no locks.

It works on in the checkout, whose files the tests themselves lock (tests/support/alone.py).
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[3]
flock = fcntl.flock


def refusing(file: Any, operation: int) -> None:
    number = file if isinstance(file, int) else file.fileno()
    if not Path(os.readlink(f"/proc/self/fd/{number}")).is_relative_to(CHECKOUT):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    flock(file, operation)


fcntl.flock = refusing
