"""The form that starts an extraction: it says what that will take before it begins."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from engine.activations.results import READS, Estimated
from engine.config import ExtractSettings
from engine.errors import counted
from engine.workspace import Workspace, free_name, short_slug
from saetui.formatting import duration, rate, size
from saetui.modes.data.listing import Listing, Selected
from saetui.modes.forms import AskingForm

IMPORTED = ("source", "name", "format", *READS, "images", "tokens_per_image", "transparency")
FIRST = ("model", "images", "name", "at", "tokens", "dtype", "limit", "embeddings")


class ExtractForm(AskingForm):
    """Dismissed with the settings of ``extract``, or None."""

    TASK = "estimate"

    def __init__(self, workspace: Workspace, values: Mapping[str, Any], known: Mapping[str, Sequence[str]]):
        place = {"workspace": workspace, "task": "extract"}
        super().__init__("Extract activations", ExtractSettings, values, FIRST, known, **place)

    def told(self, estimated: Estimated) -> None:
        self.say(in_words(estimated), estimated.bytes > estimated.free)


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


def imported_values(listing: Listing) -> dict[str, Sequence[str]]:
    """What the form of an import offers for its fields."""
    known = known_values(listing)
    return {"model": known["model"], "images": known["images"], "hook": known["at"], "tokens": known["tokens"]}


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
