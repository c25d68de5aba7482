"""The table of runs: in which settings they differ, as wide as what it holds, what waits, and what was put away."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from engine.config import TrainSettings
from engine.files import write_text
from engine.runs.run import Run, runs
from engine.runs.watch import RunSnapshot
from engine.settings import to_mapping
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.widgets.bars import TopBar, summary
from saetui.widgets.run_table import COLUMNS, RUNS, differing, fitted, grouped, texts, told
from saetui.widgets.table import Table
from tests.support.pilots import screen_text, until

LONG = "clip-vit-large-layer22-matryoshka-expansion-8-seed"


def snapshot(name: str, state: Any = "done", **changes: Any) -> RunSnapshot:
    settings = to_mapping(TrainSettings(activations="a", name=name, **changes))
    return RunSnapshot(f"20260101-120000-{name}", "train", name, state, settings=settings)


def test_the_settings_that_differ_are_told_and_no_others() -> None:
    found = [snapshot("a", k=5), snapshot("b", k=10, lr=0.01), snapshot("c", k=10)]
    assert differing(found) == {"train": ["k", "lr"]}
    assert [told(run, ["k", "lr"]) for run in found] == ["k 5  lr 0", "k 10  lr 0.01", "k 10  lr 0"]
    assert differing(found[:1]) == {"train": []}
    old = RunSnapshot("old", "train", "old", "done", settings={"activations": "a"})
    assert differing([old, snapshot("d", k=20)]) == {"train": []}, "what an older version left out is the default"


def test_runs_are_asked_for_and_grouped_by_any_setting() -> None:
    found = [snapshot("a", k=5), snapshot("b", k=10, arch="topk"), snapshot("c", k=5)]
    assert [run.name for run in RUNS.filtered(found, "k>5 arch=topk")] == ["b"]
    assert [run.name for run in grouped(found, "k")] == ["b", "a", "c"]


@pytest.mark.parametrize("width", [38, 78, 118, 158])
def test_no_name_is_cut_beside_blank_columns(width: int) -> None:
    found = [snapshot(f"{LONG}-{n}", k=n + 1) for n in range(3)]
    rows = [texts(run, differing(found)["train"]) for run in found]
    columns = fitted(rows, width)
    assert sum(column.width + 1 for _, column in columns) < width
    blank = [COLUMNS[place].title for place, column in columns if column.width and not any(row[place] for row in rows)]
    assert blank == []
    if width > 130:
        assert next(column.width for _, column in columns if column.title == "makes") == cell_len(rows[0][2])


def test_a_run_that_loads_says_so_with_its_seconds() -> None:
    run = RunSnapshot("r", "train", "x8", "running", total=1400, waits_for="loading", waited=12)
    assert summary([run]) == "● train x8 loading 0:12" and texts(run, [])[-1] == "loading 0:12"
    assert (
        run.share is None
        and summary([RunSnapshot("r", "train", "x8", "running", done=7, total=14)]) == "● train x8 50%"
    )


def test_a_failed_run_is_seen_until_somebody_looks_and_is_put_away_and_back(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "study")
    write_text(place.root / MARKER, "")
    bad = Run.create(place, "train", {"name": "bad", "activations": "a"}, ["train"])
    failed = {"state": "failed", "error": "The disk is full.", "started": 1.0, "ended": time.time()}
    write_text(bad.path / "status.json", json.dumps(failed))

    async def test() -> None:
        app = Workbench(place, mode="train")
        async with app.run_test(size=(100, 30)) as pilot:
            bar = app.screen.query_one(TopBar)
            await until(pilot, lambda: "train bad failed: J" in bar.run)
            await pilot.press("J")
            await until(pilot, lambda: "The disk is full." in screen_text(pilot))
            await pilot.press("d")
            await until(pilot, lambda: not runs(place) and "No runs yet" in screen_text(pilot))
            await pilot.press("u")
            await until(pilot, lambda: [run.id for run in runs(place)] == [bad.id])
            await until(pilot, lambda: app.screen.query_one(Table).rows == 1)
            await pilot.press("a", "A")
            await until(pilot, lambda: app.screen.query_one(Table).rows == 1 and not runs(place))
            await pilot.press("a", "escape")
            await until(pilot, lambda: [run.id for run in runs(place)] == [bad.id])
            await until(pilot, lambda: bar.run == "")
            await until(pilot, lambda: app.screen.trainings.rows)
            await pilot.press("d")
            await until(pilot, lambda: not runs(place) and not app.screen.trainings.rows)
            await pilot.press("u")
            await until(pilot, lambda: app.screen.trainings.rows)

    asyncio.run(test())
