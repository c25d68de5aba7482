"""The form that starts an extraction: it says what that will take before it begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual import work
from textual.message import Message
from textual.timer import Timer

from engine.config import ExtractSettings
from engine.errors import UserError
from engine.runs.attached import Attached
from engine.workspace import Workspace
from saetui.formatting import duration, rate, size
from saetui.widgets.form import Form

QUIET = 0.8  # seconds without a key after which what is typed is estimated
FIRST = ("model", "images", "name", "at", "tokens", "dtype", "limit", "embeddings")


class ExtractForm(Form):
    """Dismissed with the settings of ``extract``, or None. Estimates by itself when typing rests, and on f2."""

    @dataclass
    class Told(Message):
        """What a worker said of the settings ``asked``; a newer question makes it void."""

        asked: Attached
        sentence: str
        error: bool = False

    def __init__(self, workspace: Workspace, values: Mapping[str, Any], known: Mapping[str, Sequence[str]]):
        super().__init__("Extract activations", ExtractSettings, values, FIRST, known, can_estimate=True)
        self.workspace = workspace
        self._asked: Attached | None = None
        self._estimated: dict[str, Any] | None = None
        self._resting: Timer | None = None

    def edited(self) -> None:
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(QUIET, self._rested)

    def _rested(self) -> None:
        try:
            values = self.values()
        except UserError:  # still being typed: whoever submits it hears of it
            return
        if values != self._estimated:
            self.estimate(values)

    def estimate(self, values: dict[str, Any]) -> None:
        self._forget()
        self._estimated = values
        self._asked = Attached(self.workspace, "estimate", values)
        self.say("Estimating …")
        self._ask(self._asked)

    @work(thread=True, group="estimate")
    def _ask(self, asked: Attached) -> None:
        try:
            told = asked.result()
            if told is not None:
                self.post_message(self.Told(asked, in_words(told), error=told["bytes"] > told["free"]))
        except UserError as error:
            self.post_message(self.Told(asked, str(error), error=True))

    def on_extract_form_told(self, message: Told) -> None:
        if message.asked is self._asked:
            self.say(message.sentence, message.error)

    def _forget(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def on_unmount(self) -> None:
        self._forget()


def in_words(told: dict[str, Any]) -> str:
    """An estimate (``engine.activations.estimate``) as the form says it."""
    d = f" of {told['d']:,}" if len(told["hooks"]) == 1 else f" in {len(told['hooks'])} stores"
    lines = [
        f"{told['rows']:,} rows{d} from {told['images']:,} images: {size(told['bytes'])}, {size(told['free'])} free"
    ]
    if told["seconds"] is not None:
        left = f" for the {told['images_left']:,} images left" if told["images_left"] < told["images"] else ""
        pace = f", {rate(told['images_per_s'], 'images')}" if told["images_per_s"] else ""
        lines.append(f"about {duration(told['seconds'])}{left}{pace}")
    return "\n".join(lines + list(told["warnings"]))
