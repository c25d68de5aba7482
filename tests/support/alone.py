"""Tests run in parallel, but those marked ``alone`` have the machine for themselves while they are called."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOOR = Path(__file__)
MACHINE = Path(__file__).parents[1] / "conftest.py"
"""Files that all workers have; only their locks are used."""


@contextmanager
def turn(alone: bool, door: Path = DOOR, machine: Path = MACHINE) -> Iterator[None]:
    """Have the machine: with others, or ``alone``, once all who share it have ended.

    Who waits to be alone holds the door meanwhile, so that nobody else gets in before.
    """
    with open(door) as outside, open(machine) as inside:
        fcntl.flock(outside, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(outside, fcntl.LOCK_UN)
        yield
