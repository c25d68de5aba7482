"""Work off the thread of the interface: found in a thread, taken in the app's own.

A look-up may touch nothing of the interface; it returns values, and ``take`` shows them. What a person can mend goes to
``fail`` as a sentence. A later look-up of the same group supersedes an earlier one, whose values are then dropped. So
are those of one that is cancelled: by ``cancel_look_ups`` (esc), or with the part of the interface that wants them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from textual.dom import DOMNode
from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from engine.errors import UserError, sentence_of

T = TypeVar("T")
Wanted = Callable[[], bool]
"""Whether anybody still waits: long look-ups ask now and then."""

NOTICED = 0.5  # seconds after which a person notices that a look-up goes on
CANCELLED = "Cancelled."
ANEW = f"{CANCELLED} It is read when you come back to this mode."


class _Begun(NamedTuple):
    at: float
    fail: Callable[[str], object]


_begun: WeakKeyDictionary[Worker[None], _Begun] = WeakKeyDictionary()  # those that somebody waits for


def cancel_look_ups(screen: Screen[Any]) -> bool:
    """Cancel what a person has noticed that ``screen`` waits for; whether there was anything. ``fail`` is told."""
    late = time.monotonic() - NOTICED
    going_on = [
        (worker, begun)
        for worker, begun in _begun.items()
        if begun.at < late and not (worker.is_finished or worker.is_cancelled) and _is_on(worker.node, screen)
    ]
    for worker, begun in going_on:
        worker.cancel()
        begun.fail(CANCELLED)
    return bool(going_on)


def _is_on(node: DOMNode, screen: Screen[Any]) -> bool:
    return node.is_attached and screen in node.ancestors_with_self


def look_up(
    owner: DOMNode,
    group: str,
    find: Callable[[], T],
    take: Callable[[T], object],
    fail: Callable[[str], object],
    supersede: bool = True,
    unasked: bool = False,
) -> Worker[None]:
    """``find`` in a thread, then ``take`` what it found. ``supersede``: drop earlier look-ups of the ``group``.
    ``unasked``: nobody waits for it."""
    return look_up_each(owner, group, lambda wanted: (find(),), take, fail, supersede, unasked)


def look_up_each(
    owner: DOMNode,
    group: str,
    find: Callable[[Wanted], Iterable[T]],
    take: Callable[[T], object],
    fail: Callable[[str], object],
    supersede: bool = True,
    unasked: bool = False,
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

    worker = owner.run_worker(run, thread=True, exclusive=supersede, group=group)
    if not unasked:
        _begun[worker] = _Begun(time.monotonic(), fail)
    return worker
