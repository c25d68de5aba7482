"""What long work says of itself, and how it hears that it should stop.

An event is one of a closed union of records. On the wire (the log of a run, the stdout of a worker) it is a JSON
object whose ``kind`` tells which: see :data:`KINDS`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import UserError
from engine.records import beside, from_json, seldom, to_json

AnswerName = Literal["untouched", "attached", "steered"]


@dataclass(frozen=True)
class StageBegan:
    """The work comes to another part, which ``name`` tells people."""

    name: str


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of the present stage."""

    done: int
    total: int
    unit: str
    measured: Mapping[str, float | None] = beside()
    """What is worth showing along with it, as the loss."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a training after ``step``, by name: see engine.sae.held_out."""

    step: int
    values: Mapping[str, float | None] = beside()


@dataclass(frozen=True)
class Warned:
    """What the user should know, in one sentence; the work goes on."""

    message: str


@dataclass(frozen=True)
class Token:
    """The next piece of a generated answer."""

    answer: AnswerName
    text: str
    cached: bool = seldom(False)
    """The whole answer, as it was generated earlier."""


@dataclass(frozen=True)
class Intervened:
    """What is done to the model: see engine.steer.interventions.Intervention."""

    latents: tuple[tuple[int, float], ...]
    mode: str
    keep_error: bool
    tokens: tuple[int, ...] | None


@dataclass(frozen=True)
class Done:
    """The end of work that came to its end."""

    result: Any
    """As JSON values: engine.runs.tasks.Task.read makes them the task's record."""


@dataclass(frozen=True)
class StoppedEarly:
    """The end of work that was asked to stop: the same command continues it."""

    kept: str = seldom("")
    """See engine.errors.Stopped."""


@dataclass(frozen=True)
class Failed:
    """The end of work that could not go on."""

    error: str
    mistake: bool = False
    """Whether ``error`` is a sentence about what the user can mend; else it is a bug in saetui."""
    refused: bool = seldom(False)
    """Whether that was known before the work began: then there is nothing to look into."""


End = Done | StoppedEarly | Failed
Event = StageBegan | Progress | Measured | Warned | Token | Intervened | End

KINDS: dict[str, type[Event]] = {
    "stage": StageBegan,
    "progress": Progress,
    "metrics": Measured,
    "warning": Warned,
    "token": Token,
    "intervention": Intervened,
    "done": Done,
    "stopped": StoppedEarly,
    "failed": Failed,
}
_KIND_OF = {record: kind for kind, record in KINDS.items()}
_ENVELOPE = ("kind", "seq", "time")


def kind_of(event: Event) -> str:
    return _KIND_OF[type(event)]


def event_to_json(event: Event) -> dict[str, Any]:
    return {"kind": kind_of(event), **to_json(event)}


def event_from_json(value: Any) -> Event | None:
    """The event in a line of a log or of a worker's stdout; None for what is none, or of a kind that is not known."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        return None
    fields = {key: found for key, found in value.items() if key not in _ENVELOPE}
    try:
        event: Event = from_json(KINDS[kind], fields, "An event")
    except UserError:
        return None
    return event


class Reporter:
    """What long work says about itself. This base says nothing: the default for library use."""

    def progress(self, done: int, total: int, unit: str, **measured: float | None) -> None:
        """``done`` of ``total`` units of the present stage, with measurements worth showing. May be called often."""
        self.event(Progress(done, total, unit, measured))

    def event(self, event: Event) -> None:
        """Anything else for the log."""

    def writes(self, out: Path) -> None:
        """A file or folder goes where a person said: a folder that is made for it is told, as it may be mistyped."""
        if new := [folder for folder in out.absolute().parents if not folder.exists()]:
            self.event(Warned(f"{new[0]} is made: there was no such folder."))

    def check(self) -> None:
        """Called at points from which the work can continue: waits while paused, raises Stopped when asked to stop."""

    def loading(self, what: str, size: int) -> contextlib.AbstractContextManager[None]:
        """Around the loading of ``what``, whose files have ``size`` bytes (0: not known)."""
        return contextlib.nullcontext()


class Once(Reporter):
    """Hands on to another, but each warning once: what is so of several, and of parts that look at the same."""

    def __init__(self, other: Reporter):
        self._other, self._said = other, set[str]()

    def progress(self, done: int, total: int, unit: str, **measured: float | None) -> None:
        self._other.progress(done, total, unit, **measured)

    def event(self, event: Event) -> None:
        if isinstance(event, Warned):
            if event.message in self._said:
                return
            self._said.add(event.message)
        self._other.event(event)

    def check(self) -> None:
        self._other.check()

    def loading(self, what: str, size: int) -> contextlib.AbstractContextManager[None]:
        return self._other.loading(what, size)
