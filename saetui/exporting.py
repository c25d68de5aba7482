"""What is listed on the screen, as it is filtered and sorted, written to a file for other programs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from textual.screen import Screen

from engine.errors import counted
from engine.files import check_target, path_of
from engine.tables import TableOfValues, check_suffix, write_table
from saetui.background import look_up
from saetui.services import Services
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.table import Exported, Table


@runtime_checkable
class Exports(Protocol):
    """A table, or a screen that lists something without one."""

    @property
    def exported(self) -> Exported: ...


def exported_of(screen: Screen[object]) -> Exported | None:
    """What the part in focus lists, else the screen itself, else the first table in sight."""
    for one in (screen.focused, screen):
        if isinstance(one, Exports):
            return one.exported
    return next((table.exported for table in screen.query(Table) if table.is_on_screen and table.rows), None)


def ask_export(listed: Exported, services: Services) -> None:
    """Ask where to, and write it there."""
    if not listed.rows:
        services.say("There is nothing to export: nothing is listed here.")
        return
    question = f"Export {counted(listed.rows, 'row')} to a file that ends in .csv or .json"
    services.ask(Ask(question, f"{listed.name}.csv"), lambda given: export(listed, given, services))


def export(listed: Exported, given: str, services: Services) -> None:
    """Write what is ``listed`` to the file ``given``; one that is there already only when that is wanted."""
    path = (services.base / path_of(given)).absolute()
    if not services.guard(partial(_check, path)):
        return
    if not path.exists():
        _write(listed, path, services)
        return

    def chosen(answer: str) -> None:
        if answer == "overwrite":
            _write(listed, path, services)

    options = {"keep": "keep it, export nothing", "overwrite": "overwrite it"}
    services.ask(Pick(f"{path.name} is there already", options), chosen)


def _check(path: Path) -> None:
    check_suffix(path)
    check_target(path)


def _write(listed: Exported, path: Path, services: Services) -> None:
    new = "" if path.parent.exists() else ", in a folder that was not there"

    def write() -> int:
        records = listed.records()
        write_table(path, TableOfValues.of(records))
        return len(records)

    def told(rows: int) -> None:
        services.say(f"Exported {counted(rows, 'row')} to {path}{new}.", "information")

    look_up(services, "export", write, told, services.say, supersede=False)
