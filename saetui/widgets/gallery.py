"""The top images of a latent in one widget: as many and as large as the room allows, with their numbers below."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from engine.errors import UserError
from engine.images import BrokenImage
from saetui.formatting import fit, literal
from saetui.terminal.cells import Look
from saetui.widgets.picture import Picture

GAP = 2  # columns between pictures
_KEPT = 160  # drawn pictures kept: ten latents of sixteen


@dataclass(frozen=True)
class Tile:
    """One picture: ``load`` gives its pixels, ``heat`` its map (or None), in a thread; ``key`` names the contents."""

    key: Any
    caption: str
    load: Callable[[], Any]
    heat: Callable[[], Any] = lambda: None
    heat_maximum: float = 1.0


@dataclass(frozen=True)
class Grid:
    """Where tiles stand: ``columns`` x ``rows``, each ``width`` x ``height`` cells with a line of text below."""

    columns: int
    rows: int
    width: int
    height: int

    @classmethod
    def best(cls, room: Size, tiles: int, ratio: float = 2.0) -> "Grid":
        """The grid of at most ``tiles`` places whose square pictures are largest; fewer places where they are tiny."""
        found = cls(0, 0, 0, 0)
        for wanted in (tiles, 12, 8, 6, 4, 2, 1):
            if wanted > tiles:
                continue
            for columns in range(1, wanted + 1):
                rows = -(-wanted // columns)
                width, height = (room.width + GAP) // columns - GAP, room.height // rows - 1
                height = min(height, int(width / ratio))
                width = min(width, int(height * ratio))
                if height > found.height:
                    found = cls(columns, rows, width, height)
            if found.height >= _LEGIBLE:
                break
        return found if found.height > 0 and found.width > 0 else cls(0, 0, 0, 0)


@dataclass(frozen=True)
class Wish:
    """What the thread shall draw, and all that it needs of the app: by then the gallery may have left it."""

    tiles: list[Tile]
    ahead: list[Tile]
    grid: Grid
    look: Look
    heat: bool
    theme: str
    console: Console


_FLUSH = 0.02  # seconds between messages while pictures are drawn
_CALM = 0.06  # seconds without a wish after which pictures are drawn that may be wished for next
_LATE = 0.15  # seconds after which those that are there are shown without the others
_LEGIBLE = 6  # rows of cells below which a picture says little


class Gallery(Widget):
    """Pictures are read and drawn in a thread; what was drawn is kept, and the latest wish is served first."""

    DEFAULT_CSS = """
    Gallery { height: 1fr; color: $foreground; }
    Gallery .gallery--chosen { color: $accent; text-style: bold; }
    Gallery .gallery--caption { color: $secondary; }
    """
    COMPONENT_CLASSES = {"gallery--chosen", "gallery--caption"}

    chosen: reactive[int] = reactive(0, repaint=False)
    show_heat: reactive[bool] = reactive(False, repaint=False)

    @dataclass
    class Drawn(Message):
        """Pictures have been drawn (their keys)."""

        gallery: "Gallery"
        keys: list[Any]
        late: bool
        """It has taken so long that a part should be shown."""

        @property
        def control(self) -> "Gallery":
            return self.gallery

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.tiles: list[Tile] = []
        self._next: list[Tile] | None = None
        """Tiles that take the place of ``tiles`` once they are drawn, so that the screen is painted once."""
        self._ahead: list[Tile] = []
        self.grid = Grid(0, 0, 0, 0)
        self._strips: OrderedDict[Any, list[Strip] | str] = OrderedDict()
        self._wake = threading.Condition()
        self._wish: Wish | None = None
        self._closed = False

    @property
    def look(self) -> Look:
        app: Any = self.app
        return Look(app.picture_style, app.colours, app.cell_ratio, app.ascii, not app.current_theme.dark)

    def show(self, tiles: Sequence[Tile], ahead: Sequence[Tile] = ()) -> None:
        """Show ``tiles`` as soon as they are drawn; ``ahead`` are drawn after them, for the next wish."""
        self._next, self._ahead = list(tiles), list(ahead)
        if not tiles or self._drawn(self._next):
            self._turn()
        self._ask()

    def _drawn(self, tiles: list[Tile]) -> bool:
        """Whether every picture of ``tiles`` that would be in sight has been drawn."""
        grid = Grid.best(self.size, len(tiles), self.look.ratio)
        return all(self._key(tile, grid) in self._strips for tile in tiles[: grid.columns * grid.rows])

    def _turn(self) -> None:
        """Paint the next tiles instead of the present ones."""
        if self._next is not None:
            self.tiles, self._next = self._next, None
            self.set_reactive(Gallery.chosen, 0)
            self.grid = Grid.best(self.size, len(self.tiles), self.look.ratio)
            self.refresh()

    def on_mount(self) -> None:
        threading.Thread(target=self._draw, daemon=True, name="gallery").start()

    def on_unmount(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def watch_show_heat(self) -> None:
        self._arrange()

    def watch_chosen(self, before: int, now: int) -> None:
        for place in (before, now):
            self._refresh_tile(place, caption_only=True)

    def validate_chosen(self, place: int) -> int:
        return max(min(place, len(self.tiles) - 1), 0)

    def render_line(self, y: int) -> Strip:
        width, grid = self.size.width, self.grid
        blank = self.visual_style.rich_style
        if not grid.rows or not self.tiles:
            return Strip.blank(width, blank)
        row, line = divmod(y, grid.height + 1)
        segments: list[Segment] = []
        for column in range(grid.columns):
            place = row * grid.columns + column
            if row >= grid.rows or place >= len(self.tiles):
                break
            segments += self._tile_line(place, line, blank)
            segments.append(Segment(" " * GAP, blank))
        return Strip(segments).adjust_cell_length(width, blank)

    def _tile_line(self, place: int, line: int, blank: Style) -> list[Segment]:
        tile, grid = self.tiles[place], self.grid
        if line == grid.height:
            kind = "gallery--chosen" if place == self.chosen else "gallery--caption"
            mark = "▸" if place == self.chosen else " "
            text = set_cell_size(mark + fit(literal(tile.caption), grid.width - 1), grid.width)
            return [Segment(text, self.get_component_rich_style(kind))]
        drawn = self._strips.get(self._key(tile, grid))
        if isinstance(drawn, list) and line < len(drawn):
            return [s if s.style else Segment(s.text, blank) for s in drawn[line]]
        if isinstance(drawn, str) and line == grid.height // 2:
            text = fit(literal(drawn), grid.width)
            return [
                Segment(text + " " * (grid.width - cell_len(text)), self.get_component_rich_style("gallery--caption"))
            ]
        return [Segment(" " * grid.width, blank)]

    def _key(self, tile: Tile, grid: Grid) -> Any:
        return tile.key, grid, self.show_heat, self.app.theme

    def _arrange(self) -> None:
        """The size or the look has changed: everything is drawn anew."""
        self._next = self.tiles if self._next is None else self._next
        self._turn()
        self._ask()

    def _ask(self) -> None:
        tiles = self.tiles if self._next is None else self._next
        grid = Grid.best(self.size, len(tiles), self.look.ratio)
        visible = grid.columns * grid.rows
        with self._wake:
            self._wish = Wish(
                tiles[:visible], self._ahead, grid, self.look, self.show_heat, self.app.theme, self.app.console
            )
            self._wake.notify()

    def _refresh_tile(self, place: int, caption_only: bool = False) -> None:
        grid = self.grid
        if not grid.columns or place >= grid.columns * grid.rows:
            return
        row, column = divmod(place, grid.columns)
        x, y = column * (grid.width + GAP), row * (grid.height + 1)
        top = y + grid.height if caption_only else y
        self.refresh(Region(x, top, grid.width + GAP, y + grid.height + 1 - top))

    def on_gallery_drawn(self, event: Drawn) -> None:
        """In the app's thread: paint those that are in sight."""
        event.stop()
        if self._next is not None:
            if event.late or self._drawn(self._next):
                self._turn()
            return
        fresh = set(event.keys)
        for place, tile in enumerate(self.tiles):
            if tile.key in fresh:
                self._refresh_tile(place)

    # In the thread

    def _draw(self) -> None:
        while True:
            with self._wake:
                while self._wish is None and not self._closed:
                    self._wake.wait()
                if self._closed or self._wish is None:
                    return
                wish, self._wish = self._wish, None
            self._serve(wish)

    def _serve(self, wish: Wish) -> None:
        self._draw_all(wish.tiles, wish)
        with self._wake:  # the app's thread paints now, and this one would hold it up
            disturbed = self._wake.wait_for(lambda: self._wish is not None or self._closed, _CALM)
        if not disturbed:
            self._draw_all(wish.ahead, wish)

    def _draw_all(self, tiles: list[Tile], wish: Wish) -> None:
        fresh: list[Any] = []
        begun = since = time.monotonic()
        for tile in tiles:
            if self._wish is not None or self._closed or not wish.grid.rows:
                break
            key = (tile.key, wish.grid, wish.heat, wish.theme)
            if key in self._strips:
                self._strips.move_to_end(key)
                continue
            self._strips[key] = self._strips_of(tile, wish)
            while len(self._strips) > _KEPT:
                self._strips.popitem(last=False)
            fresh.append(tile.key)
            now = time.monotonic()
            if now - since > _FLUSH:
                self.post_message(self.Drawn(self, fresh, now - begun > _LATE))
                fresh, since = [], now
        if fresh:
            self.post_message(self.Drawn(self, fresh, False))

    def _strips_of(self, tile: Tile, wish: Wish) -> list[Strip] | str:
        try:
            pixels, patches = tile.load(), tile.heat() if wish.heat else None
        except (UserError, BrokenImage, OSError) as error:
            return str(error)
        size = Size(wish.grid.width, wish.grid.height)
        strips = Picture.strips_for(pixels, size, wish.look, patches, tile.heat_maximum)
        for strip in strips:
            strip.render(wish.console)  # each style keeps its codes, so that the app's thread need not make them
        return strips
