"""Tests run in parallel, but those marked ``alone`` have the machine for themselves while they are called."""

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock  # by name: tests put others in its place in the module
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
        flock(outside, LOCK_EX)
        flock(inside, LOCK_EX if alone else LOCK_SH)
        flock(outside, LOCK_UN)
        yield
