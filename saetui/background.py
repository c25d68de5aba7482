"""Work off the thread of the interface: found in a thread, taken in the app's own.

A look-up may touch nothing of the interface; it returns values, and ``take`` shows them. What a person can mend goes to
``fail`` as a sentence. A later look-up of the same group supersedes an earlier one, whose values are then dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from textual.dom import DOMNode
from textual.worker import Worker, get_current_worker

from engine.errors import UserError, sentence_of

T = TypeVar("T")
Wanted = Callable[[], bool]
"""Whether anybody still waits: long look-ups ask now and then."""


def look_up(
    owner: DOMNode,
    group: str,
    find: Callable[[], T],
    take: Callable[[T], object],
    fail: Callable[[str], object],
    supersede: bool = True,
) -> Worker[None]:
    """``find`` in a thread, then ``take`` what it found. ``supersede``: drop earlier look-ups of the ``group``."""
    return look_up_each(owner, group, lambda wanted: (find(),), take, fail, supersede)


def look_up_each(
    owner: DOMNode,
    group: str,
    find: Callable[[Wanted], Iterable[T]],
    take: Callable[[T], object],
    fail: Callable[[str], object],
    supersede: bool = True,
) -> Worker[None]:
    """As :func:`look_up`, for many values: each is taken as soon as ``find`` yields it."""

    def run() -> None:
        worker = get_current_worker()

        def wanted() -> bool:
            return not worker.is_cancelled

        def give(then: Callable[[], object]) -> None:
            if wanted():
                owner.call_later(then)

        try:
            for found in find(wanted):
                give(partial(take, found))
        except (UserError, OSError) as error:
            give(partial(fail, sentence_of(error)))

    return owner.run_worker(run, thread=True, exclusive=supersede, group=group)
