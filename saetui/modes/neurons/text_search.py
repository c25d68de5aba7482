"""Latents by a text, which the model server ranks. Knows nothing of the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.server.protocol import ServerEvent
    from saetui.scores import Scores
    from saetui.services import Services


@dataclass
class TextSearch:
    """One question, and what becomes of its answer."""

    scores: Scores
    text: str
    say: Callable[[str], None]
    """How it goes."""
    take: Callable[[dict[int, float], str], None]
    """The latents nearest first with their cosines, and a title for them."""
    fail: Callable[[str], None]
    number: int = -1
    """Of the request."""

    def ask(self, services: Services) -> None:
        from engine.server.protocol import RankByText

        self.say(f"ranking by {self.text!r}: loading the text tower …")
        self.number = services.ask_model(RankByText(str(self.scores.path), self.text), self.heard)

    def cancel(self, services: Services) -> None:
        services.models.cancel(self.number)

    def heard(self, event: ServerEvent) -> None:
        from engine.server.protocol import Done, Failed, Loading, RankedLatents
        from saetui.formatting import loading

        match event:
            case Done(RankedLatents(latents)):
                self.take(dict(latents), f"nearest to {self.text!r}")
            case Loading():
                self.say(f"ranking by {self.text!r}: {loading(event)}")
            case Failed():
                self.fail(event.error)
