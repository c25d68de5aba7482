"""The table that is shown, as it is filtered and sorted, written to a file for other programs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from textual.screen import Screen

from engine.errors import UserError, counted
from engine.files import check_target, path_of
from engine.tables import TableOfValues, check_suffix, write_table
from saetui.background import look_up
from saetui.services import Services
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.table import Table


def table_of(screen: Screen[object]) -> Table | None:
    """The table in focus, else the first in sight."""
    if isinstance(screen.focused, Table):
        return screen.focused
    return next((table for table in screen.query(Table) if table.is_on_screen and table.rows), None)


def ask_export(table: Table, services: Services) -> None:
    """Ask where to, and write it there."""
    if not table.rows:
        services.say("There is nothing to export: this table lists nothing.")
        return
    question = f"Export {counted(table.rows, 'row')} to a file that ends in .csv or .json"
    services.ask(Ask(question, f"{table.id or 'table'}.csv"), lambda given: export(table, given, services))


def export(table: Table, given: str, services: Services) -> None:
    """Write ``table`` to the file ``given``; one that is there already only when that is wanted."""
    path = (services.base / path_of(given)).absolute()
    if not services.guard(partial(_check, path)):
        return
    if not path.exists():
        _write(table, path, services)
        return

    def chosen(answer: str) -> None:
        if answer == "overwrite":
            _write(table, path, services)

    options = {"keep": "keep it, export nothing", "overwrite": "overwrite it"}
    services.ask(Pick(f"{path.name} is there already", options), chosen)


def _check(path: Path) -> None:
    check_suffix(path)
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent}: make it, or give another.")
    check_target(path)


def _write(table: Table, path: Path, services: Services) -> None:
    def write() -> int:
        records = table.records()
        write_table(path, TableOfValues.of(records))
        return len(records)

    def told(rows: int) -> None:
        services.say(f"Exported {counted(rows, 'row')} to {path}.", "information")

    look_up(services, "export", write, told, services.say, supersede=False)
