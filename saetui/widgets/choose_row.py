"""A table over a mode to choose a row from, with its filter line and its orders."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from engine.query import Rows
from saetui.bindings import key
from saetui.widgets.bars import KeyBar
from saetui.widgets.dialogs import Pick
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Column, Table

R = TypeVar("R")


class ChooseRow(ModalScreen[R | None], Generic[R]):
    """Dismissed with the record of the row, or None on esc."""

    DEFAULT_CSS = """
    ChooseRow { align: center bottom; }
    ChooseRow > Vertical { height: 70%; background: $surface; border-top: heavy $accent; padding: 0 1; }
    """
    BINDINGS = [
        key("rows.help", "question_mark,f1", "app.help", "Help"),
        key("rows.close", "q", "dismiss", "Close"),
        key("rows.back", "escape", "back", "Out of the filter, or close", show=True),
        key("rows.filter", "slash", "filter", "Filter", show=True),
        key("rows.sort", "o", "sort", "Sort", show=True),
    ]

    def __init__(
        self,
        columns: Sequence[Column],
        cells: Callable[[R], Sequence[str]],
        fields: Rows[R],
        rows: Sequence[R],
        example: str,
    ):
        """``cells``: the texts of a record, one a column. ``example``: of a filter."""
        super().__init__()
        self._fields, self._all = fields, list(rows)
        self.rows = self._all
        self.filter, self.sort = FilterLine(f"filter: {example}", folds=True), ""
        self.table = Table(columns, lambda row: cells(self.rows[row]))
        self.table.records = lambda: fields.records(self.rows)
        self.table.order = lambda heading: fields.falls(heading, self.sort)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield from (self.filter, self.table, KeyBar(helps=False))

    def on_mount(self) -> None:
        self._relist()
        self.table.focus()

    def _relist(self) -> None:
        self.rows = self._fields.ordered(self.filter.listed(self._fields, self._all), self.sort)
        self.table.empty = self.filter.empty
        self.table.show(len(self.rows))

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        self._relist()

    def on_filter_line_left(self, event: FilterLine.Left) -> None:
        self.table.focus()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.dismiss(self.rows[event.row])

    def on_table_headed(self, event: Table.Headed) -> None:
        self.sort = self._fields.clicked(event.field, self.sort)
        self._relist()

    def action_filter(self) -> None:
        self.filter.focus()

    def action_sort(self) -> None:
        def chosen(sort: Any) -> None:
            self.sort = self.sort if sort is None else sort
            self._relist()

        options = {"": "as they came"} | {name: name for name in self._fields.fields}
        self.app.push_screen(Pick("Sort by", options, self.sort), chosen)

    def action_back(self) -> None:
        if self.filter.value or self.filter.typing:
            self.filter.value = ""
            self.table.focus()
        else:
            self.dismiss()
