"""An image and the latents that it fires, as a whole and under a cursor that moves over its patches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from engine.errors import counted
from engine.neurons.quantities import Quantity
from engine.neurons.results import ImageLatents
from engine.query import RowField, Rows
from engine.server.protocol import Done, Failed, FindImageLatents, Loading, ServerEvent
from saetui.background import look_up
from saetui.bindings import key
from saetui.formatting import literal, loading, number, percent, significant
from saetui.modes.neurons.copied import in_one_line
from saetui.modes.neurons.latent_table import BESIDE, NUMBER, cells, columns
from saetui.services import Served
from saetui.widgets.bars import KeyBar
from saetui.widgets.picture import Picture
from saetui.widgets.table import Column, Table

if TYPE_CHECKING:
    from saetui.scores import Scores

Pairs = list[tuple[int, float]]
COLUMNS = (NUMBER, Column("fires", 7), Column("of max", 6), *columns(BESIDE), Column("names", 0, "left"))


def fields_of(scores: Scores) -> Rows[tuple[int, float]]:
    """What a table of latents, each with what it fires, is sorted by: its columns."""

    def number_of(one: Quantity) -> RowField[tuple[int, float]]:
        return RowField("number", lambda pair: float(scores.neurons.values(one)[pair[0]]))

    maximum = scores.neurons.maximum
    fields: dict[str, RowField[tuple[int, float]]] = {
        "latent": RowField("number", lambda pair: pair[0], ("#",)),
        "fires": RowField("number", lambda pair: pair[1]),
        "of max": RowField("number", lambda pair: pair[1] / float(maximum[pair[0]] or 1), ("ofmax",)),
        "names": RowField("text", lambda pair: scores.name(pair[0])),
    }
    return Rows("Latents", fields | {shown.title: number_of(one) for one, shown in BESIDE})


class Patches(Picture, can_focus=True):
    """The picture, where the chosen latent fires on it, and a frame around one patch."""

    BINDINGS = [
        key("look.left", "h,left", "move(0, -1)", "Left"),
        key("look.down", "j,down", "move(1, 0)", "Down"),
        key("look.up", "k,up", "move(-1, 0)", "Up"),
        key("look.right", "l,right", "move(0, 1)", "Right"),
        key("look.whole", "w,escape", "whole", "Whole image", show=True),
    ]

    class Moved(Message):
        """Another patch, or the whole image, is looked at."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.pixels: Any = None
        self.size_of_grid: tuple[int, int] | None = None
        self.patch: tuple[int, int] | None = None
        self.heat: Any = None
        self.maximum = 1.0

    def action_move(self, down: int, right: int) -> None:
        if self.size_of_grid is None:
            return
        rows, columns = self.size_of_grid
        if self.patch is None:
            self.patch = (rows // 2, columns // 2)
        else:
            row, column = self.patch
            self.patch = (min(max(row + down, 0), rows - 1), min(max(column + right, 0), columns - 1))
        self.draw()
        self.post_message(self.Moved())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "whole" or self.patch is not None

    def action_whole(self) -> None:
        self.patch = None
        self.draw()
        self.post_message(self.Moved())

    def look_at(self, pixels: Any) -> None:
        self.pixels = pixels
        self.draw()

    def draw(self) -> None:
        if self.pixels is not None:
            self.show(self.pixels, key=id(self.pixels))
            self.show_heat(self.heat, self.maximum, self.mark)

    @property
    def mark(self) -> tuple[int, int, int, int] | None:
        """The patch under the cursor, as for ``draw``."""
        return None if self.patch is None or self.size_of_grid is None else (*self.patch, *self.size_of_grid)

    def fire(self, heat: Any, maximum: float) -> None:
        """Draw where a latent fires: ``heat`` (rows, columns), or None."""
        self.heat, self.maximum = heat, maximum
        self.draw()


class LookScreen(Served, Screen[Pairs | None]):
    """Dismissed with the latents to list: those of the image or patch, or the one that was chosen first."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]
    BINDINGS = [
        key("look.list", "enter", "list", "List these latents", show=True),
        key("look.heat", "m", "heat", "Heat map", show=True),
        key("look.copy", "y", "copy", "Copy", show=True),
        key("look.part", "tab,shift+tab", "app.focus_next", "Picture or table", show=True),
        key("look.close", "q,escape", "dismiss", "Close", show=True),
    ]
    DEFAULT_CSS = """
    LookScreen { background: $background; }
    LookScreen #title { height: 1; background: $panel; padding: 0 1; }
    LookScreen Patches { width: 45%; max-width: 64; height: 1fr; max-height: 34; margin: 1 2; }
    LookScreen #said { height: 1; padding: 0 1; color: $secondary; }
    LookScreen.-narrow Patches { width: 32; margin: 1; }
    """

    def __init__(self, scores: Scores, image: str, title: str):
        super().__init__()
        self.scores, self.image, self.heading = scores, image, title
        self.found: ImageLatents | None = None
        self.shown: Pairs = []
        self.sort, self._fields = "", fields_of(scores)
        self._asked = -1
        self._listed = ""

    def compose(self) -> ComposeResult:
        yield Static(Text(literal(f"latents of {self.scores.sae} fired by {self.heading}")), id="title")
        with Horizontal():
            yield from self._parts()
        yield KeyBar()

    def _parts(self) -> Iterable[Widget]:
        yield Patches()
        with Vertical():
            yield Static(id="said", markup=False)
            table = Table(COLUMNS, self._cells, empty="…", id="fired")
            table.records = lambda: self._fields.records(self.shown)
            table.order = lambda heading: self._fields.falls(heading, self.sort)
            yield table

    def on_mount(self) -> None:
        self.query_one(Patches).focus()
        self._say("reading the image …")
        self._load()
        self._asked = self.services.ask_model(FindImageLatents(self.image, str(self.scores.path)), self._heard)

    def on_unmount(self) -> None:
        if self.found is None:
            self.services.models.cancel(self._asked)

    def _load(self) -> None:
        image, picture = self.image, self.query_one(Patches)

        def find() -> Any:
            from engine.images import opening

            return opening.picture(image, side=480)[0]

        look_up(self, "picture", find, picture.look_at, picture.failed)

    def _heard(self, event: ServerEvent) -> None:
        match event:
            case Loading():
                self._say(loading(event))
            case Failed():
                self._say(event.error)
            case Done(ImageLatents() as found):
                self.found = found
                self.query_one(Patches).size_of_grid = found.grid
                self._list()

    def on_patches_moved(self, event: Patches.Moved) -> None:
        self.refresh_bindings()  # esc leads elsewhere now
        self._list()

    def _list(self) -> None:
        if self.found is None:
            return
        picture = self.query_one(Patches)
        if picture.patch is None or picture.size_of_grid is None:
            pairs = self.found.image
            move = ": hjkl moves over its patches" if picture.size_of_grid else ""
            self._listed = f"{counted(len(pairs), 'latent')} of the whole image{move}"
        else:
            row, column = picture.patch
            pairs = self.found.patches[row * picture.size_of_grid[1] + column]
            self._listed = f"{counted(len(pairs), 'latent')} of the patch in row {row + 1}, column {column + 1}"
        self._say(self._listed)
        self.shown = self._fields.ordered(list(pairs), self.sort)
        self.query_one(Table).show(len(self.shown))
        self._fire()

    def on_table_moved(self, event: Table.Moved) -> None:
        self._fire()

    def action_heat(self) -> None:
        self.services.remember("look", heat=not self._shows_heat)
        self._fire()

    @property
    def _shows_heat(self) -> bool:
        return self.services.session.recall("look", "heat", True)

    def _fire(self) -> None:
        """Draw where the latent under the cursor fires."""
        table, picture = self.query_one(Table), self.query_one(Patches)
        if not self._shows_heat or not self.shown or self.found is None or self.found.grid is None:
            picture.fire(None, 1.0)
            return
        latent, _ = self.shown[min(table.cursor, len(self.shown) - 1)]
        fired = dict(self.found.maps).get(latent) or [dict(patch).get(latent, 0.0) for patch in self.found.patches]
        heat = np.array(fired, np.float32).reshape(self.found.grid)
        picture.fire(heat, float(self.scores.neurons.maximum[latent]) or float(heat.max()))
        row, column = divmod(int(heat.argmax()), heat.shape[1])
        self._say(
            f"{self._listed} · {latent} peaks at {significant(float(heat.max()))}, row {row + 1}, column {column + 1}"
        )

    def _say(self, words: str) -> None:
        self.query_one("#said", Static).update(Text(literal(words), no_wrap=True, overflow="ellipsis"))

    def _cells(self, row: int) -> tuple[str, ...]:
        latent, value = self.shown[row]
        most = float(self.scores.neurons.maximum[latent])
        share = percent(value / most if most > 0 else None, width=COLUMNS[2].width)
        numbers = cells(self.scores, latent, BESIDE)
        return (str(latent), number(value, width=COLUMNS[1].width), share, *numbers, self.scores.name(latent))

    def on_table_headed(self, event: Table.Headed) -> None:
        self.sort = self._fields.clicked(event.field, self.sort)
        self._list()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        chosen = self.shown[event.row]
        self.dismiss([chosen, *(pair for pair in self.shown if pair != chosen)])

    def action_copy(self) -> None:
        """The latent under the cursor, and what it fires here."""
        if self.shown:
            latent, value = self.shown[self.query_one(Table).cursor]
            fires = f"fires {significant(value)} on {self.heading}"
            self.services.copy(f"{in_one_line(self.scores, latent)}; {fires}", f"latent {latent}")

    def action_list(self) -> None:
        if self.shown:
            self.dismiss(self.shown)
