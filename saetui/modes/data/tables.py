"""The left side of mode Data: sources, encoders and stores, one table each."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from textual.app import ComposeResult
from textual.containers import Vertical

from saetui.modes.data.listing import COLUMNS, EMPTY, KINDS, Kind, Listing, Selected
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Table

EXAMPLES: dict[Kind, str] = {
    "source": "filter: images>1000 OR stores=0",
    "encoder": "filter: clip stores>0",
    "store": "filter: size>1GB NOT state=ready",
}
MOST = 6  # sources and encoders in sight


class Tables(Vertical):
    """Shows a listing. Moving in a table and choosing a row are told by the table itself."""

    DEFAULT_CSS = """
    Tables #stores { height: 1fr; }
    Tables Table { margin-bottom: 1; }
    """

    def __init__(self, listing: Listing) -> None:
        super().__init__(id="left", classes="left")
        self.listing = listing
        self.filters: dict[Kind, FilterLine] = {kind: FilterLine(EXAMPLES[kind], folds=True) for kind in KINDS}

    def compose(self) -> ComposeResult:
        for kind in KINDS:
            columns = [column for column, _ in COLUMNS[kind]]
            yield self.filters[kind]
            table = Table(columns, partial(self.listing.cells, kind), EMPTY[kind], id=f"{kind}s")
            table.records, table.order = partial(self.listing.records, kind), partial(self.listing.falls, kind)
            yield table

    def table(self, kind: Kind) -> Table:
        return self.query_one(f"#{kind}s", Table)

    def kind_of_line(self, line: FilterLine) -> Kind:
        return next(kind for kind, one in self.filters.items() if one is line)

    def kind_of(self, table: Table) -> Kind:
        return next(kind for kind in KINDS if table.id == f"{kind}s")

    def selected(self, kind: Kind) -> Selected | None:
        """The row under the cursor of a table."""
        names, row = self.listing.names(kind), self.table(kind).cursor
        return Selected(kind, names[row]) if row < len(names) else None

    def show(self, kept: Selected | None) -> None:
        """Draw all anew; cursors stay on their rows, and one goes to ``kept``."""
        for kind in KINDS:
            table, names = self.table(kind), self.listing.names(kind)
            self.filters[kind].say(self.listing.mistake(kind))
            table.empty = self.filters[kind].empty if self.listing.lines.get(kind) else EMPTY[kind]
            here = kept.name if kept and kept.kind == kind else names[table.cursor] if table.cursor < len(names) else ""
            table.set_columns(self.listing.columns(kind))
            with self.prevent(Table.Moved):
                table.show(len(names), names.index(here) if here in names else 0)
            if kind != "store":
                table.styles.height = min(max(len(names), 2), MOST) + 1

    @contextmanager
    def redrawn(self) -> Iterator[None]:
        """Draw those stores anew that say something else after the block."""
        before = [self.listing.cells("store", row) for row in range(len(self.listing.rows("store")))]
        yield
        for row, cells in enumerate(before):
            if row < len(self.listing.rows("store")) and self.listing.cells("store", row) != cells:
                self.table("store").refresh_row(row)
