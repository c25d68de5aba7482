"""Latents by a text, which the model server ranks. Knows nothing of the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

    def ask(self, services: Services) -> None:
        from engine.server.protocol import Text

        self.say(f"ranking by {self.text!r}: loading the text tower …")
        services.ask_model(Text(neurons=str(self.scores.path), text=self.text), self.heard)

    def heard(self, event: dict[str, Any]) -> None:
        if event["kind"] == "done":
            found = {int(latent): float(cosine) for latent, cosine in event["result"]}
            self.take(found, f"nearest to {self.text!r}")
        elif event["kind"] == "progress":
            self.say(f"ranking by {self.text!r}: {event.get('stage', '')} …")
        elif event["kind"] == "failed":
            self.fail(event["error"])
