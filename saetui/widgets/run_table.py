"""The table of runs: its columns as wide as what they hold, the settings in which runs differ, and groups by one."""

from __future__ import annotations

import dataclasses
import time
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rich.cells import cell_len

from engine.errors import counted
from engine.numbers import exact
from engine.query import Kind, RowField, Rows
from engine.runs.tasks import TASKS
from engine.runs.watch import RunSnapshot
from saetui.formatting import duration, percent
from saetui.widgets.bars import waiting
from saetui.widgets.table import Column

MARKS = {
    "running": "●",
    "starting": "○",
    "paused": "Ⅱ",
    "done": "✓",
    "stopped": "■",
    "failed": "✗",
    "died": "✗",
    "damaged": "!",
}
COLUMNS = (
    Column("", 1, "left"),
    Column("run", 28, "left", ends=True),
    Column("makes", 18, "left", ends=True),
    Column("state", 8, "left"),
    Column("started", 10, "left"),
    Column("took", 8),
    Column("done", 5),
    Column("left", 8),
    Column("settings", 24, "left"),
    Column("stage", 0, "left"),
)
LEAST = (("settings", 10), ("makes", 12), ("started", 0), ("settings", 0), ("run", 14), ("took", 0), ("makes", 4))
"""What a column keeps where there is little room, in the order in which they give way; with 0 it goes. A run's id says
when it was started."""
LAST = 12  # terminal cells that the last column should have
_UNTOLD = ("name", "sae", "plan", "device", "workers", "keep_state")  # of settings: what a run makes, and where


def _settings() -> dict[str, RowField[RunSnapshot]]:
    """Every setting of what is kept as a run."""
    found: dict[str, RowField[RunSnapshot]] = {}
    for task in ("extract", "train", "score", "steer", "steerability", "demo"):
        for name, kind in typing.get_type_hints(TASKS[task].settings).items():
            sort: Kind = "number" if kind in (int, float) else "text"
            found.setdefault(name, RowField(sort, partial(_asked, name=name, sort=sort)))
    return found


def _asked(run: RunSnapshot, name: str, sort: str) -> Any:
    value = run.settings.get(name)
    if sort == "number":
        return value if isinstance(value, (int, float)) else None
    return None if value is None else _text(value)


_OWN: dict[str, RowField[RunSnapshot]] = {
    "run": RowField("text", lambda run: run.id),
    "makes": RowField("text", lambda run: run.name, ("name",)),
    "task": RowField("text", lambda run: run.task),
    "state": RowField("text", lambda run: run.state),
    "started": RowField("text", lambda run: _day(run.started)),
    "took": RowField("time", lambda run: run.took),
    "done": RowField("number", lambda run: run.share if run.live else None),
    "left": RowField("time", lambda run: run.seconds_left),
    "settings": RowField("text", lambda run: "  ".join(f"{k} {_text(v)}" for k, v in run.settings.items())),
    "stage": RowField("text", lambda run: run.error or (run.stage if run.live else "")),
    "age": RowField("time", lambda run: time.time() - run.started if run.started else None),
}
SORTS = tuple(_OWN)
SETTINGS = {name: field for name, field in _settings().items() if name not in (*_OWN, "name")}
RUNS: Rows[RunSnapshot] = Rows("Runs", _OWN | SETTINGS)
"""What the filter line may ask of runs, each of their settings too, and what they are sorted by."""


def differing(runs: Sequence[RunSnapshot]) -> dict[str, list[str]]:
    """Of each task, the settings in which its runs differ."""
    found: dict[str, list[str]] = {}
    for task in dict.fromkeys(run.task for run in runs):
        asked = [_whole(run) for run in runs if run.task == task]
        names = dict.fromkeys(name for one in asked for name in one if name not in _UNTOLD)
        found[task] = [name for name in names if any(one.get(name) != asked[0].get(name) for one in asked)]
    return found


def _whole(run: RunSnapshot) -> Mapping[str, Any]:
    """Its settings, with those that it left out."""
    known = dataclasses.fields(TASKS[run.task].settings) if run.task in TASKS else ()
    plain = {one.name: one.default for one in known if one.default is not dataclasses.MISSING}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in (plain | dict(run.settings)).items()}


def told(run: RunSnapshot, names: Sequence[str]) -> str:
    whole = _whole(run)
    return "  ".join(f"{name.replace('_', ' ')} {_text(whole[name])}" for name in names if name in whole)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return exact(value) if isinstance(value, float) else str(value) or "–"


def _day(began: float) -> str:
    """When it was: the time of today, else the date."""
    if not began:
        return ""
    then, now = time.localtime(began), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d", then)


def texts(run: RunSnapshot, names: Sequence[str]) -> tuple[str, ...]:
    """The cells of a run, one a column; ``names``: settings that are told."""
    return (
        MARKS[run.state],
        run.id,
        run.name,
        run.state,
        _day(run.started),
        duration(run.took) if run.took is not None else "",
        percent(run.share) if run.share is not None and run.live else "",
        duration(run.seconds_left) if run.seconds_left is not None else "",
        told(run, names),
        run.error or waiting(run) or (run.stage if run.live else ""),
    )


def fitted(rows: Sequence[Sequence[str]], width: int) -> list[tuple[int, Column]]:
    """The columns that hold something, with their places: as wide as that is, and less where there is little room."""
    wide = {
        place: max((cell_len(row[place]) for row in rows), default=0)
        for place, column in enumerate(COLUMNS)
        if column.title in ("", "run", "state", "stage") or any(row[place] for row in rows)
    }
    wide = {place: max(most, len(COLUMNS[place].title)) for place, most in wide.items()}
    last = max(wide)
    over = sum(most + 1 for place, most in wide.items() if place != last) + min(wide[last], LAST) + 2 - width
    for title, least in LEAST:
        place = next((place for place, most in wide.items() if most and COLUMNS[place].title == title), last)
        if over > 0 and place != last:
            cut = wide[place] + 1 if least == 0 else min(over, max(wide[place] - least, 0))
            over -= cut
            wide[place] -= cut
    return [
        (place, replace(COLUMNS[place], width=0 if place == last else most)) for place, most in wide.items() if most > 0
    ]


def grouped(runs: Sequence[RunSnapshot], name: str) -> list[RunSnapshot]:
    """Those with one value of the field ``name`` beside each other, the groups as that is sorted."""
    return RUNS.ordered(runs, name)


def group_of(run: RunSnapshot, name: str) -> str:
    value = RUNS.fields[name].of(run)
    return "–" if value is None else _text(value)


def in_words(runs: Sequence[RunSnapshot], name: str) -> str:
    """What is said beside a table of groups."""
    groups = len({group_of(run, name) for run in runs})
    return f"{counted(len(runs), 'run')} in {counted(groups, 'group')} by {name.replace('_', ' ')}"
