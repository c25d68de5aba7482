"""A table that draws only its visible rows: 65,536 latents cost as much as forty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from saetui.bindings import key
from saetui.formatting import fit, fit_ends, literal

Cells = Sequence[str]


@dataclass(frozen=True)
class Column:
    """``width`` 0: takes the room that the others leave (one column at most). ``align``: ``left`` or ``right``."""

    title: str
    width: int = 0
    align: str = "right"
    ends: bool = False
    """Whether a text that is too long loses its middle, not its end."""
    spare: bool = False
    """Whether it is left out where it would leave the column of width 0 less than ``ROOM``; the last ones first."""
    field: str = ""
    """What the rows are sorted by when it is clicked, where that is not its title."""

    @property
    def sorts(self) -> str:
        """What the rows are sorted by when it is clicked."""
        return self.field or self.title.replace(" ", "")


@dataclass(frozen=True)
class Exported:
    """What is listed, for a file that other programs read."""

    name: str
    """Of the file that is proposed, without its end."""
    rows: int
    records: Callable[[], list[dict[str, Any]]]
    """The rows by heading. Called in a thread."""


ROOM = 10  # terminal cells; less tells names apart no more
_KEPT = 512  # rows that were drawn: a few screens of them


class Table(ScrollView, can_focus=True):
    """Rows under a header, with a cursor. The cells of a row are fetched when it is drawn."""

    DEFAULT_CSS = """
    Table { height: 1fr; background: $background; color: $foreground; overflow-x: hidden; scrollbar-size-vertical: 1; }
    Table .table--header { color: $secondary; }
    Table .table--cursor { background: $panel; color: $foreground; text-style: bold; }
    Table:focus .table--cursor { background: $accent 30%; }
    Table .table--dim { color: $secondary; }
    """
    COMPONENT_CLASSES = {"table--header", "table--cursor", "table--dim"}
    BINDINGS = [
        key("table.down", "j,down", "cursor(1)", "Down"),
        key("table.up", "k,up", "cursor(-1)", "Up"),
        key("table.first", "g,home", "edge(False)", "First row"),
        key("table.last", "G,end", "edge(True)", "Last row"),
        key("table.half_down", "ctrl+d", "page(0.5)", "Half a page down"),
        key("table.half_up", "ctrl+u", "page(-0.5)", "Half a page up"),
        key("table.page_down", "pagedown,ctrl+f", "page(1.0)", "Page down"),
        key("table.page_up", "pageup,ctrl+b", "page(-1.0)", "Page up"),
        key("table.choose", "enter", "choose", "Open", show=True),
        key("table.export", "ctrl+e", "export", "Export as CSV or JSON"),
        key("table.copy", "y", "copy", "Copy the row"),
    ]

    cursor: reactive[int] = reactive(0, repaint=False)  # two rows are painted, not all

    @dataclass
    class Moved(Message):
        """The cursor moved to another row, or the rows changed under it."""

        table: "Table"
        row: int

    @dataclass
    class Chosen(Message):
        """Enter was pressed on a row, or it was clicked twice."""

        table: "Table"
        row: int

    @dataclass
    class Headed(Message):
        """The heading of a column was clicked: the rows are to stand by ``field``."""

        table: "Table"
        field: str

    @dataclass
    class ExportAsked(Message):
        """What is listed is to be written to a file. Sent by whatever lists something, table or not."""

        exported: Exported

    @dataclass
    class CopyAsked(Message):
        """A row is to be copied."""

        text: str
        what: str
        """In a few words."""

    def __init__(
        self, columns: Sequence[Column], cells: Callable[[int], Cells], empty: str = "", **options: Any
    ) -> None:
        """``cells(row)``: the texts of a row, one per column. ``empty``: the text of a table without rows."""
        super().__init__(**options)
        self.columns = list(columns)
        self._cells = cells
        self.records: Callable[[], list[dict[str, Any]]] = self._shown_records
        """The listed rows for export, by heading: what is shown, unless whoever made the table knows it exactly."""
        self.copied: Callable[[int], str] = lambda row: "  ".join(filter(None, map(str.strip, cells(row))))
        """What is copied of a row: what is shown of it, in full, unless whoever made the table knows more."""
        self.empty = empty
        self.order: Callable[[str], bool | None] = lambda sorts: None
        """Of what a column ``sorts`` by: whether the largest stands first; None where the rows do not stand by it."""
        self.opens = True
        """Whether enter on a row does something here."""
        self.rows = 0
        self._strips: dict[tuple[Cells, int, Style], Strip] = {}
        """Of rows that were drawn: when it scrolls, most stand only on another line."""

    def show(self, rows: int, cursor: int = 0) -> None:
        """Redraw with ``rows`` rows, and move the cursor to ``cursor``."""
        self.rows = rows
        self.virtual_size = Size(self.size.width, rows + 1)
        row = max(min(cursor, rows - 1), 0)
        self.set_reactive(Table.cursor, row)
        self._scroll_to_cursor()
        self.refresh()
        if rows:
            self.post_message(self.Moved(self, row))

    def set_columns(self, columns: Sequence[Column]) -> None:
        self.columns = list(columns)
        self._strips.clear()
        self.refresh()

    def validate_cursor(self, row: int) -> int:
        return max(min(row, self.rows - 1), 0)

    def watch_cursor(self, before: int, now: int) -> None:
        if self.rows == 0 or before == now:
            return
        for row in (before, now):
            self.refresh_row(row)
        self._scroll_to_cursor()
        self.post_message(self.Moved(self, now))

    def refresh_row(self, row: int) -> None:
        self.refresh(Region(0, row + 1 - self.scroll_offset.y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y == 0:
            return self._headings(width)
        row = y - 1 + self.scroll_offset.y
        if row >= self.rows:
            text = self.empty if self.rows == 0 and y == 2 else ""
            style = self.get_component_rich_style("table--dim")
            return Strip([Segment(f" {fit(text, width - 1)}".ljust(width), style)], width)
        return self._strip(self._cells(row), width, "table--cursor" if row == self.cursor else "")

    def _headings(self, width: int) -> Strip:
        """A mark stands behind the heading of the column that the rows stand by, so that titles stay over their
        cells."""
        parts = []
        for column, title, room in self._placed([c.title for c in self.columns], width):
            falls = self.order(column.sorts) if title else None
            mark = "" if falls is None else "▾" if falls else "▴"
            shown = _cell(title, room, column.align)
            parts.append(f"{shown.rstrip() if mark else shown}{mark}".ljust(room + 1))
        style = self.get_component_rich_style("table--header")
        line = f" {''.join(parts)}".removesuffix(" ")  # behind the last there may be a mark, else nothing
        return Strip([Segment(line, style)]).adjust_cell_length(width, Style(bgcolor=style.bgcolor))

    def _strip(self, cells: Cells, width: int, component: str) -> Strip:
        style = self.get_component_rich_style(component) if component else self.rich_style
        wanted = (tuple(cells), width, style)
        if wanted not in self._strips:
            if len(self._strips) >= _KEPT:
                self._strips.clear()
            self._strips[wanted] = self._drawn(*wanted)
        return self._strips[wanted]

    def _drawn(self, cells: Cells, width: int, style: Style) -> Strip:
        parts = []
        for column, text, room in self._placed(cells, width):
            shown = literal(text.replace("\n", " "))
            parts.append(_cell(fit_ends(shown, room) if column.ends else shown, room, column.align))
        return Strip([Segment(" " + " ".join(parts), style)]).adjust_cell_length(width, Style(bgcolor=style.bgcolor))

    def _placed(self, cells: Cells, width: int) -> list[tuple[Column, str, int]]:
        """The columns that are shown, the text of each, and its terminal cells; one more stands before each."""
        shown = list(zip(self.columns, cells, strict=True))
        for pair in [pair for pair in reversed(shown) if pair[0].spare]:
            if _left([column for column, _ in shown], width) < ROOM:
                shown.remove(pair)
        left = max(_left([column for column, _ in shown], width), 4)
        return [(column, text, column.width or left) for column, text in shown]

    def _column_at(self, x: int) -> Column | None:
        """The column whose heading is at terminal cell ``x``."""
        end = 0
        for column, title, room in self._placed([c.title for c in self.columns], self.scrollable_content_region.width):
            end += room + 1
            if x < end:
                return column if title else None
        return None

    @property
    def _visible_rows(self) -> int:
        return max(self.scrollable_content_region.height - 1, 1)

    def _scroll_to_cursor(self) -> None:
        top, last = self.scroll_offset.y, self.cursor - self._visible_rows + 1
        if not last <= top <= self.cursor:  # forced: it may not yet where the rows came just now
            self.scroll_to(y=min(max(top, last), self.cursor), animate=False, force=True)

    def on_resize(self, event: events.Resize) -> None:
        self.virtual_size = Size(self.size.width, self.rows + 1)
        self._scroll_to_cursor()

    def action_cursor(self, rows: int) -> None:
        self.cursor += rows

    def action_edge(self, last: bool) -> None:
        self.cursor = self.rows - 1 if last else 0

    def action_page(self, pages: float) -> None:
        self.cursor += int(pages * self._visible_rows)

    def _shown_records(self) -> list[dict[str, Any]]:
        titles = [column.title for column in self.columns]
        rows = [zip(titles, self._cells(row), strict=True) for row in range(self.rows)]
        return [{title: text.strip() for title, text in row if title} for row in rows]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        match action:
            case "choose":
                return self.opens
            case "copy":  # where the screen knows better what of it is wanted, its own key does that
                return not hasattr(self.screen, "action_copy")
            case "export":
                return any(column.title for column in self.columns)
        return True

    @property
    def exported(self) -> Exported:
        return Exported(self.id or "table", self.rows, self.records)

    def action_export(self) -> None:
        self.post_message(self.ExportAsked(self.exported))

    def action_copy(self) -> None:
        if self.rows:
            first = next(filter(None, map(str.strip, self._cells(self.cursor)[self._first :])), "the row")
            self.post_message(self.CopyAsked(self.copied(self.cursor), first))

    @property
    def _first(self) -> int:
        """The first column with a heading; the first of all where none has one."""
        return next((place for place, column in enumerate(self.columns) if column.title), 0)

    def action_choose(self) -> None:
        if self.rows:
            self.post_message(self.Chosen(self, self.cursor))

    async def on_click(self, event: events.Click) -> None:
        row = event.y - 1 + self.scroll_offset.y
        if event.y == 0:
            if column := self._column_at(event.x):
                self.post_message(self.Headed(self, column.sorts))
        elif row < self.rows:
            self.cursor = row
            if event.chain == 2:
                self.action_choose()


def _left(columns: Sequence[Column], width: int) -> int:
    """Terminal cells that ``columns`` leave to the one of width 0."""
    return width - 2 - sum(column.width + 1 for column in columns if column.width)


def _cell(text: str, room: int, align: str) -> str:
    """``text`` in exactly ``room`` terminal cells; some characters take two."""
    length = cell_len(text)
    if length > room:
        return set_cell_size(text, room - 1) + "…" if room > 1 else set_cell_size(text, room)
    return " " * (room - length) + text if align == "right" else text + " " * (room - length)
