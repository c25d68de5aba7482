"""The top images of a latent in a grid: as many and as large as fit, each with its caption."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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
from saetui.formatting import fit, fit_ends, literal, significant
from saetui.terminal.cells import Look, draw
from saetui.terminal.heat import Part, strongest
from saetui.widgets.picture import look_of

GAP = 2  # columns between pictures
_MAX_CACHED = 160  # drawn pictures: ten latents of sixteen
_REPORT_EVERY = 0.02  # seconds between messages while pictures are drawn
_IDLE_BEFORE_AHEAD = 0.06  # seconds without a new request before pictures are drawn ahead
_LATE_AFTER = 0.15  # seconds after which a part of the pictures is shown without the rest
_LEGIBLE_ROWS = 6  # cells below which a picture says little
LEAST = 5  # terminal cells of a name that is cut; fewer tell nothing


@dataclass(frozen=True)
class Tile:
    """One picture. ``load`` returns its pixels, ``heat`` its map or None, ``frame`` a part to outline or None, in a
    thread; ``key`` identifies all of them."""

    key: Any
    caption: str
    load: Callable[[], Any]
    heat: Callable[[], Any] = lambda: None
    frame: Callable[[], Part | None] = lambda: None
    heat_maximum: float = 1.0
    value: float | None = None
    """The number in the caption, where that is an activation."""
    name: str = ""
    """Behind the caption, in the room that it leaves."""

    def words(self, width: int, peak: float | None = None) -> str:
        """What stands below the picture; ``peak``: the value of its strongest patch, where that is outlined."""
        told = self.caption
        if peak is not None:  # maps are kept in few digits
            same = self.value is not None and abs(peak - self.value) <= 0.01 * abs(peak)
            told = f"peak {self.caption}" if same else f"{self.caption} peak {significant(peak)}"
        caption = fit(literal(told), width)
        room = width - cell_len(caption) - 1
        name = literal(self.name)
        return f"{caption} {fit_ends(name, room)}" if name and room >= min(cell_len(name), LEAST) else caption


@dataclass(frozen=True)
class Grid:
    """The layout: ``columns`` x ``rows`` tiles of ``width`` x ``height`` cells, with a line of text below each."""

    columns: int
    rows: int
    width: int
    height: int
    share: int = 0
    """Cells of the width that each column has, for captions."""

    @classmethod
    def best(cls, room: Size, tiles: int, ratio: float = 2.0) -> "Grid":
        """The grid that makes up to ``tiles`` square pictures largest, and fewer of them where they would be tiny.

        Its columns share the width: captions have what pictures leave.
        """
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
            if found.height >= _LEGIBLE_ROWS:
                break
        if found.height <= 0 or found.width <= 0:
            return cls(0, 0, 0, 0)
        return replace(found, share=(room.width + GAP) // found.columns - GAP)


@dataclass(frozen=True)
class DrawRequest:
    """What the thread is to draw, with all it needs of the app: the gallery may be unmounted by then."""

    tiles: list[Tile]
    ahead: list[Tile]
    grid: Grid
    look: Look
    heat: bool
    shade: str
    console: Console


class Gallery(Widget):
    """A grid of pictures, read and drawn in a thread and cached. A new request replaces the one being drawn."""

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
        """Pictures have been drawn; ``keys`` are those of their tiles."""

        keys: list[Any]
        late: bool
        """Drawing takes long: show what is there."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.tiles: list[Tile] = []
        self._next: list[Tile] | None = None
        """Tiles that replace ``tiles`` once they are drawn, so that the screen is painted once."""
        self._ahead: list[Tile] = []
        self.grid = Grid(0, 0, 0, 0)
        self._peaks: dict[Any, float] = {}
        self._strips: OrderedDict[Any, list[Strip] | str] = OrderedDict()
        self._wake = threading.Condition()
        self._request: DrawRequest | None = None
        self._unmounted = False

    @property
    def look(self) -> Look:
        return look_of(self.app)

    def show(self, tiles: Sequence[Tile], ahead: Sequence[Tile] = ()) -> None:
        """Show ``tiles`` once they are drawn, then draw ``ahead``, the tiles that are likely to be shown next."""
        self._next, self._ahead = list(tiles), list(ahead)
        if not tiles or self._drawn(self._next):
            self._show_next()
        self._post_request()

    def _drawn(self, tiles: list[Tile]) -> bool:
        """Whether every picture of ``tiles`` that fits has been drawn."""
        grid = Grid.best(self.size, len(tiles), self.look.ratio)
        return all(self._key(tile, grid) in self._strips for tile in tiles[: grid.columns * grid.rows])

    def _show_next(self) -> None:
        """Replace the tiles on the screen by the next ones."""
        if self._next is not None:
            self.tiles, self._next = self._next, None
            self.set_reactive(Gallery.chosen, 0)
            self.grid = Grid.best(self.size, len(self.tiles), self.look.ratio)
            self.refresh()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._redraw())
        threading.Thread(target=self._draw_requests, daemon=True, name="gallery").start()

    def on_unmount(self) -> None:
        with self._wake:
            self._unmounted = True
            self._wake.notify()

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    def watch_show_heat(self) -> None:
        self._redraw()

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
            over = 0 if line == grid.height else grid.share - grid.width
            segments.append(Segment(" " * (over + GAP), blank))
        return Strip(segments).adjust_cell_length(width, blank)

    def _tile_line(self, place: int, line: int, blank: Style) -> list[Segment]:
        tile, grid = self.tiles[place], self.grid
        if line == grid.height:
            kind = "gallery--chosen" if place == self.chosen else "gallery--caption"
            mark = "▸" if place == self.chosen else " "
            peak = self._peaks.get(tile.key) if self.show_heat else None
            text = set_cell_size(mark + tile.words(grid.share - 1, peak), grid.share)
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
        return tile.key, grid, self.show_heat, self._shade

    @property
    def _shade(self) -> str:
        """The theme, as far as pictures depend on it."""
        return self.app.theme if self.show_heat or self.look.in_glyphs else ""

    def _redraw(self) -> None:
        """Redraw everything: the size or the look has changed."""
        self._next = self.tiles if self._next is None else self._next
        self._show_next()
        self._post_request()

    def _post_request(self) -> None:
        tiles = self.tiles if self._next is None else self._next
        grid = Grid.best(self.size, len(tiles), self.look.ratio)
        visible = grid.columns * grid.rows
        with self._wake:
            self._request = DrawRequest(
                tiles[:visible], self._ahead, grid, self.look, self.show_heat, self._shade, self.app.console
            )
            self._wake.notify()

    def _refresh_tile(self, place: int, caption_only: bool = False) -> None:
        grid = self.grid
        if not grid.columns or place >= grid.columns * grid.rows:
            return
        row, column = divmod(place, grid.columns)
        x, y = column * (grid.share + GAP), row * (grid.height + 1)
        top = y + grid.height if caption_only else y
        self.refresh(Region(x, top, grid.share + GAP, y + grid.height + 1 - top))

    def on_gallery_drawn(self, event: Drawn) -> None:
        """Paint the tiles that have been drawn. Runs in the app's thread."""
        event.stop()
        if self._next is not None:
            if event.late or self._drawn(self._next):
                self._show_next()
            return
        fresh = set(event.keys)
        for place, tile in enumerate(self.tiles):
            if tile.key in fresh:
                self._refresh_tile(place)

    # The methods below run in the drawing thread.

    def _draw_requests(self) -> None:
        while True:
            with self._wake:
                while self._request is None and not self._unmounted:
                    self._wake.wait()
                if self._unmounted or self._request is None:
                    return
                request, self._request = self._request, None
            self._serve(request)

    def _serve(self, request: DrawRequest) -> None:
        self._draw_all(request.tiles, request)
        with self._wake:  # the app's thread is painting now: do not compete with it
            interrupted = self._wake.wait_for(lambda: self._request is not None or self._unmounted, _IDLE_BEFORE_AHEAD)
        if not interrupted:
            self._draw_all(request.ahead, request)

    def _draw_all(self, tiles: list[Tile], request: DrawRequest) -> None:
        fresh: list[Any] = []
        began = reported = time.monotonic()
        for tile in tiles:
            if self._request is not None or self._unmounted or not request.grid.rows:
                break
            key = (tile.key, request.grid, request.heat, request.shade)
            if key in self._strips:
                self._strips.move_to_end(key)
                continue
            self._strips[key] = self._strips_of(tile, request)
            while len(self._strips) > _MAX_CACHED:
                self._strips.popitem(last=False)
            fresh.append(tile.key)
            now = time.monotonic()
            if now - reported > _REPORT_EVERY:
                self.post_message(self.Drawn(fresh, now - began > _LATE_AFTER))
                fresh, reported = [], now
        if fresh:
            self.post_message(self.Drawn(fresh, False))

    def _strips_of(self, tile: Tile, request: DrawRequest) -> list[Strip] | str:
        try:
            pixels, patches, frame = tile.load(), tile.heat() if request.heat else None, tile.frame()
        except (UserError, BrokenImage, OSError) as error:
            return str(error)
        if patches is not None and strongest(patches):
            self._peaks[tile.key] = float(np.nanmax(patches))
        grid = request.grid
        strips = draw(pixels, grid.width, grid.height, request.look, patches, tile.heat_maximum, frame=frame)
        for strip in strips:
            strip.render(request.console)  # caches the codes of each style, which spares the app's thread that work
        return strips
