"""Earlier versions as a list to choose from."""

from __future__ import annotations

import time
from pathlib import Path

from engine.images.opening import is_plain
from engine.query import RowField, Rows
from saetui.bindings import key
from saetui.formatting import times
from saetui.modes.steer.versions import Version
from saetui.widgets.choose_row import ChooseRow
from saetui.widgets.table import Column

COLUMNS = (
    Column("when", 12, "left"),
    Column("image", 14, "left", ends=True),
    Column("latents", 18, "left"),
    Column("steered answer", 0, "left", field="answer"),
)


class VersionsScreen(ChooseRow[Version]):
    """The newest first; enter takes one back, answers and all, without asking the model."""

    BINDINGS = [key("versions.close", "v", "dismiss", "Close")]

    def __init__(self, versions: list[Version]):
        super().__init__(COLUMNS, cells, VERSIONS, versions, "pencil OR image=blank")
        self.table.copied = lambda row: self.rows[row].text()


def cells(version: Version) -> tuple[str, ...]:
    when = time.strftime("%d %b %H:%M", time.localtime(version.time))
    return when, _image(version), _latents(version), _answer(version)


def _image(version: Version) -> str:
    image = version.setup.image
    return image if is_plain(image) else Path(image).name


def _latents(version: Version) -> str:
    rack = version.setup.rack
    return ", ".join(f"{slot.name.split(' · ')[0] or slot.latent} {times(slot.times)}" for slot in rack if slot.on)


def _answer(version: Version) -> str:
    return version.answers.steered.replace("\n", " ")


VERSIONS: Rows[Version] = Rows(
    "Versions",
    {
        "age": RowField("time", lambda version: time.time() - version.time, ("when",)),
        "image": RowField("text", _image),
        "latents": RowField("text", _latents),
        "answer": RowField("text", _answer, ("steered",)),
        "prompt": RowField("text", lambda version: version.setup.prompt),
        "sae": RowField("text", lambda version: version.setup.sae),
    },
)
