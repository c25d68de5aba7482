"""Earlier versions as a list to choose from."""

from __future__ import annotations

import time
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.images.opening import is_plain
from saetui.bindings import key
from saetui.formatting import times
from saetui.modes.steer.versions import Version
from saetui.widgets.table import Column, Table

COLUMNS = (
    Column("when", 12, "left"),
    Column("image", 14, "left", ends=True),
    Column("latents", 18, "left"),
    Column("steered answer", 0, "left"),
)


class VersionsScreen(ModalScreen[Version | None]):
    """The newest first; enter takes one back, answers and all, without asking the model."""

    DEFAULT_CSS = """
    VersionsScreen { align: center bottom; }
    VersionsScreen > Vertical { height: 70%; background: $surface; border-top: heavy $accent; padding: 0 1; }
    VersionsScreen Static { height: 1; color: $secondary; }
    """
    BINDINGS = [key("versions.close", "escape,q,v", "dismiss", "Close", show=True)]

    def __init__(self, versions: list[Version]):
        super().__init__()
        self.versions = versions

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Table(COLUMNS, self._cells)
            yield Static("enter takes it back   esc close")

    def on_mount(self) -> None:
        self.query_one(Table).show(len(self.versions))
        self.query_one(Table).focus()

    def _cells(self, row: int) -> tuple[str, ...]:
        version = self.versions[row]
        setup = version.setup
        image = setup.image if is_plain(setup.image) else Path(setup.image).name
        latents = ", ".join(
            f"{slot.name.split(' · ')[0] or slot.latent} {times(slot.times)}" for slot in setup.rack if slot.on
        )
        when = time.strftime("%d %b %H:%M", time.localtime(version.time))
        return when, image, latents, version.answers.steered.replace("\n", " ")

    def on_table_chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.dismiss(self.versions[event.row])
