"""The conversation with the model server: what was asked, what is going on, and what comes of it. Draws nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never

from engine.config import SteerSettings
from engine.errors import counted
from engine.server.protocol import (
    Answer,
    Cancelled,
    Done,
    Failed,
    Intervened,
    Loading,
    PointFound,
    Request,
    ServerEvent,
    StageBegan,
    Sweep,
    Token,
    Warned,
)
from engine.steer.results import ANSWERS, AnswerName, Steered
from saetui.formatting import loading, rate
from saetui.modes.steer.setup import Setup, Slot
from saetui.modes.steer.versions import Version

if TYPE_CHECKING:  # it runs without them: tests have no screen
    from saetui.modes.steer.answers import AnswersView
    from saetui.modes.steer.dose_response import Dose
    from saetui.services import Services

RATE_EVERY = 0.25  # seconds between two looks at the speed


class Listener(Protocol):
    """Who is told how things stand, and takes what came of them."""

    def tell(self, sentence: str, wrong: bool = False) -> None:
        """How it stands; empty: nothing is going on."""

    def take_answers(self, version: Version) -> None: ...

    def take_sweep(self) -> None: ...


@dataclass(eq=False)
class Asked:
    """A request to the model server that has not ended yet."""

    setup: Setup
    number: int = -1
    answer: str = ""
    """The one that is being generated."""
    pieces: int = 0
    """Of text that were generated in it, since the time ``since``."""
    since: float = 0.0
    shown: float = 0.0
    """When the rate was."""


class Conversation:
    """One question and one sweep at a time; a later one takes the place of an earlier."""

    def __init__(
        self,
        services: Services,
        listener: Listener,
        answers: AnswersView,
        dose: Dose,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._services, self._listener, self._answers, self._dose = services, listener, answers, dose
        self._clock = clock
        self.device, self.dtype = "auto", "auto"
        self.answering: Asked | None = None
        self.sweeping: Asked | None = None
        self._warned: set[str] = set()  # each warning of the server is passed on once

    def ask(self, setup: Setup) -> None:
        """Ask for the three answers. What is going on gives way."""
        swept, self.sweeping = self.sweeping, None
        self.answering = Asked(setup)
        self._send(self.answering, Answer(self._question(setup)))
        if swept:  # only now: what is loaded for it is needed still
            self._services.models.cancel(swept.number)
        self._answers.expect()
        self._listener.tell("asking …")

    def sweep(self, setup: Setup, slot: Slot, doses: tuple[float, ...]) -> None:
        """Turn ``slot`` up to each of ``doses``, multiples of its maximum, the rest of the rack as it is."""
        values = tuple(slot.at(times).sent(setup.mode) for times in doses)
        self.sweeping = Asked(setup)
        self._send(self.sweeping, Sweep(self._question(setup), slot.latent, values, setup.neurons))

    def stop(self) -> bool:
        """Stop what is going on, at once; whether anything was."""
        going_on = [asked for asked in (self.answering, self.sweeping) if asked]
        for asked in going_on:
            self._services.models.cancel(asked.number)
        return bool(going_on)

    def _question(self, setup: Setup) -> SteerSettings:
        return setup.settings(device=self.device, dtype=self.dtype)

    def _send(self, asked: Asked, request: Request) -> None:
        asked.number = self._services.ask_model(request, lambda event: self._hear(asked, event))

    def _hear(self, asked: Asked, event: ServerEvent) -> None:
        if asked in (self.answering, self.sweeping):  # else a later request has taken its place
            self._take(asked, event)

    def _take(self, asked: Asked, event: ServerEvent) -> None:
        listener = self._listener
        match event:
            case Loading():
                listener.tell(loading(event))
            case StageBegan():
                for name in ANSWERS:
                    if name == event.name:
                        self._begin(asked, name)
            case Token():
                self._answers.hear(event.answer, event.text)
                self._measure(asked, event)
            case PointFound():
                count = self._dose.hear(event.point)
                listener.tell(f"sweeping · {counted(count, 'answer')} · esc stops")
            case Warned():
                if event.message not in self._warned:
                    self._warned.add(event.message)
                    self._services.say(event.message)
            case Intervened():
                pass  # what was asked
            case Done():
                self._end(asked)
                if isinstance(event.result, Steered):
                    listener.take_answers(Version(asked.setup, event.result, time.time()))
                    listener.tell("")
                else:
                    listener.take_sweep()
                    listener.tell("enter on a strength takes it over, esc closes the sweep")
            case Cancelled():
                self._break_off(asked, "Stopped: r asks again.", wrong=False)
            case Failed():
                self._break_off(asked, event.error if event.mistake else f"{event.error} (r asks again)", wrong=True)
            case _:
                assert_never(event)

    def _begin(self, asked: Asked, name: AnswerName) -> None:
        asked.answer, asked.pieces, asked.since = name, 0, self._clock()
        self._answers.begin(name)
        self._listener.tell(f"generating {name} · esc stops")

    def _measure(self, asked: Asked, token: Token) -> None:
        """Tell the pieces of text a second in the present answer, now and then."""
        now = self._clock()
        asked.since = asked.since if asked.pieces else now
        asked.pieces += not token.cached
        if asked.pieces > 1 and now - asked.shown >= RATE_EVERY:
            asked.shown = now
            pace = (asked.pieces - 1) / (now - asked.since)
            self._listener.tell(f"generating {asked.answer} · {rate(pace, 'tok')} · esc stops")

    def _break_off(self, asked: Asked, sentence: str, wrong: bool) -> None:
        if asked is self.answering:
            self._answers.begin(None)
        self._end(asked)
        self._listener.tell(sentence, wrong)

    def _end(self, asked: Asked) -> None:
        if asked is self.answering:
            self.answering = None
        else:
            self.sweeping = None
