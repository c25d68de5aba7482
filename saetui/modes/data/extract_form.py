"""The form that starts an extraction: it says what that will take before it begins."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from textual.timer import Timer

from engine.activations.results import Estimated
from engine.config import ExtractSettings
from engine.errors import UserError, counted
from engine.runs.attached import Attached
from engine.workspace import Workspace, free_name, short_slug
from saetui.background import look_up
from saetui.formatting import duration, rate, size
from saetui.modes.data.listing import Listing, Selected
from saetui.widgets.form import Form

QUIET = 0.8  # seconds without a key after which what is typed is estimated
FIRST = ("model", "images", "name", "at", "tokens", "dtype", "limit", "embeddings")


class ExtractForm(Form):
    """Dismissed with the settings of ``extract``, or None. Estimates by itself when typing rests, and on f2."""

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
        look_up(self, "estimate", self._asked.result, self._told, partial(self.say, error=True))

    def _told(self, estimated: Estimated | None) -> None:
        if estimated is not None:
            self.say(in_words(estimated), estimated.bytes > estimated.free)

    def _forget(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def on_unmount(self) -> None:
        self._forget()


def first_values(listing: Listing, selected: Selected | None) -> dict[str, Any]:
    """What the form starts from: workspace.toml, and over it what is selected."""
    found, entry = listing.found, listing.store(selected)
    names = {one.name for one in fields(ExtractSettings)}
    values = {name: value for name, value in found.defaults.items() if name in names}
    values.setdefault("images", next(iter(found.sources), ""))
    values.setdefault("model", next(iter(found.encoders), ""))
    if entry is not None and entry.model:
        values |= {"model": entry.model, "images": entry.source, "at": [entry.hook], "tokens": entry.tokens}
    elif selected is not None and selected.kind != "store":
        values |= {{"source": "images", "encoder": "model"}[selected.kind]: selected.name}
    stem = short_slug(Path(str(values["images"])).stem) if values["images"] else ""
    return values | {"name": free_name(stem, {one.name for one in listing.stores})}


def known_values(listing: Listing) -> dict[str, Sequence[str]]:
    """What the form offers for its fields."""
    return {
        "model": listing.found.encoders,
        "images": listing.found.sources,
        "at": ["last", *sorted({one.hook for one in listing.found.stores if one.hook})],
        "tokens": ["all", "patches", "cls", "mean", "random:4"],
    }


def in_words(estimated: Estimated) -> str:
    """An estimate as the form says it."""
    d = f" of {estimated.d:,}" if len(estimated.hooks) == 1 else f" in {len(estimated.hooks)} stores"
    room = f"{size(estimated.bytes)}, {size(estimated.free)} free"
    lines = [f"{counted(estimated.rows, 'row')}{d} from {counted(estimated.images, 'image')}: {room}"]
    if estimated.seconds is not None:
        fewer = estimated.images_left < estimated.images
        left = f" for the {counted(estimated.images_left, 'image')} left" if fewer else ""
        pace = f", {rate(estimated.images_per_s, 'images')}" if estimated.images_per_s else ""
        lines.append(f"about {duration(estimated.seconds)}{left}{pace}")
    return "\n".join([*lines, *estimated.warnings])
