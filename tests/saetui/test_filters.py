"""The same filter line in every table: what is asked is listed, a mistake is said under it and lists nothing."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.config import SteerSettings
from engine.files import to_toml, write_text
from engine.runs.run import Run
from engine.settings import to_mapping
from engine.steer.recipes import FORMAT, VERSION
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.modes.data.listing import COLUMNS, KINDS, Listing
from saetui.modes.hierarchy.screen import GROUPS, TAXA
from saetui.modes.hierarchy.trees import BY_GROUP, BY_TAXON
from saetui.modes.steer import recipes_screen, versions_screen
from saetui.modes.train.training_list import SORTS, TRAININGS, sort_of
from saetui.modes.train.training_table import FIGURES, columns_of
from saetui.widgets import runs_drawer
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.runs_drawer import RUNS, RunsDrawer
from saetui.widgets.table import Table
from tests.support.pilots import rows, screen_text, until
from tests.support.synthetic import write_synthetic

Test = Callable[[Any, Pilot[Any]], Awaitable[None]]


def scenario(test: Test, place: Path, mode: str) -> None:
    async def run() -> None:
        app = Workbench(Workspace(place), mode=mode)
        async with app.run_test(size=(130, 40)) as pilot:
            await pilot.pause()
            await test(app, pilot)

    asyncio.run(run())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_text(tmp_path / "study" / MARKER, "# empty\n")
    return tmp_path / "study"


def test_every_heading_is_a_field_and_an_order(tmp_path: Path) -> None:
    tables = [
        (RUNS.language, runs_drawer.COLUMNS),
        (TRAININGS.language, columns_of(FIGURES)),
        (recipes_screen.RECIPES.language, recipes_screen.COLUMNS),
        (versions_screen.VERSIONS.language, versions_screen.COLUMNS),
        (BY_GROUP.language, GROUPS[1:]),
        (BY_TAXON.language, TAXA),
        *((Listing(tmp_path).asked(kind).language, [column for column, _ in COLUMNS[kind][1:]]) for kind in KINDS),
    ]
    for language, columns in tables:
        for heading in [column.title.split(" ")[0].lower() for column in columns if column.title]:
            assert heading in language.named, (language.things, heading)
            assert language.parse(f"{heading}=1")
    for column in columns_of(FIGURES):
        assert not column.title or sort_of(column.title) in SORTS


async def refuses(app: Any, pilot: Pilot[Any], line: FilterLine, table: Table, wrong: str, says: str) -> None:
    """A mistake is said under the line, and lists nothing until it is mended; esc clears it."""
    before = table.rows
    assert before and "-folded" in line.classes
    await pilot.press("slash", *wrong)
    await pilot.pause()
    shown = " ".join(screen_text(pilot).replace("│", " ").split())
    assert says in shown and "This filter is not understood" in shown and table.rows == 0
    await pilot.press("escape")
    assert table.rows == before and table.has_focus and "-folded" in line.classes


def test_runs(place: Path) -> None:
    for name, state in [("x4", "done"), ("x8", "failed"), ("y8", "done")]:
        run = Run.create(Workspace(place), "train", {"name": name}, ["train"])
        write_text(run.path / "status.json", json.dumps({"state": state, "started": time.time()}))

    async def test(app: Any, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: len(app.runs) == 3)
        await pilot.press("J")
        drawer, table = app.screen, app.screen.query_one(Table)
        assert isinstance(drawer, RunsDrawer)
        await refuses(app, pilot, drawer.filter, table, "state>>1", "state is text and has no order")
        await pilot.press("slash", *"makes=x* NOT state=failed", "enter")
        assert [run.name for run in drawer.runs] == ["x4"] and table.has_focus
        await pilot.press("escape", "o", "j", "j", "enter")
        assert [run.name for run in drawer.runs] == ["x4", "x8", "y8"], "by what they make"
        await pilot.press("escape")
        assert not isinstance(app.screen, RunsDrawer)

    scenario(test, place, "data")


def test_trainings(place: Path) -> None:
    for name, state in [("x4", "stopped"), ("x8", "failed")]:
        run = Run.create(Workspace(place), "train", {"activations": "a", "name": name, "k": int(name[1])}, ["train"])
        write_text(run.path / "status.json", json.dumps({"state": state, "started": time.time()}))

    async def test(app: Any, pilot: Pilot[Any]) -> None:
        pane = app.screen
        await until(pilot, lambda: len(pane.trainings.rows) == 2)
        await refuses(app, pilot, pane.filter, pane.table, "fve>0,5", "'0,5' is no number after fve>")
        await pilot.press("slash", *"k>5 OR state=done", "enter")
        assert [row.name for row in pane.trainings.rows] == ["x8"]
        app.say = said = []
        pane.services.say = lambda sentence, *_: said.append(sentence)
        assert pane.obey("sort", "tok/s") and pane.trainings.sort == "speed"
        assert pane.obey("sort", "beauty") and said == [
            f"Trainings cannot be sorted by 'beauty': choose one of {', '.join(SORTS)}."
        ]

    scenario(test, place, "train")


def test_recipes_and_their_damage(place: Path) -> None:
    for name, latent in [("pencil+2x", "7=2x"), ("hat-1x", "8=-1x")]:
        settings = to_mapping(SteerSettings(sae="s", vlm="demo", latent=(latent,)))
        document = {"format": FORMAT, "version": VERSION, "settings": settings}
        write_text(place / "recipes" / f"{name}.toml", to_toml(document))
    write_text(place / "recipes" / "torn.toml", "damaged [")
    found = recipes_screen.read(Workspace(place))
    assert [one.name for one in recipes_screen.RECIPES.filtered(found, "latents=*-1x")] == ["hat-1x"]
    chosen: list[Any] = []

    async def test(app: Any, pilot: Pilot[Any]) -> None:
        screen = recipes_screen.RecipesScreen(found)
        await app.push_screen(screen, chosen.append)
        assert len(rows(screen.table)) == 3 and "is not valid TOML" in " ".join(rows(screen.table))
        await refuses(app, pilot, screen.filter, screen.table, "recipe=", "a text is missing after recipe=")
        await pilot.press("slash", *"pencil", "enter", "enter")
        assert [one.name for one in chosen] == ["pencil+2x"]

    scenario(test, place, "steer")


def test_sources_and_stores(place: Path) -> None:
    write_text(place / MARKER, 'images = "pictures"\nmodel = "demo"\n')
    (place / "pictures").mkdir()

    async def test(app: Any, pilot: Pilot[Any]) -> None:
        pane = app.screen
        await until(pilot, lambda: pane.tables.table("source").rows == 1)
        pane.tables.table("source").focus()
        line, table = pane.tables.filters["source"], pane.tables.table("source")
        await refuses(app, pilot, line, table, "bytes>1", "Image sources have no 'bytes' to compare")
        await pilot.press("slash", *"stores>0 OR pict", "enter")
        assert table.rows == 1 and table.has_focus
        await pilot.press("slash", *" NOT stores=0", "enter")
        assert table.rows == 0 and "Nothing answers to this filter" in screen_text(pilot)
        assert pane.tables.table("encoder").rows == 1, "each table has its own"

    scenario(test, place, "data")


def test_trees(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "study", 200, 300)

    async def test(app: Any, pilot: Pilot[Any]) -> None:
        pane = app.screen
        await until(pilot, lambda: pane.trees)
        pane.taxa.focus()
        everything = [branch for branch in _all(pane.trees.by_taxon)]
        wanted = [one for one in everything if one.values["latents"] > 5 and one.children == []]
        await pilot.press("slash", *"lat>>1")
        assert "Nodes have no 'lat' to compare: use latents" in screen_text(pilot) and pane.taxa.rows == 0
        await pilot.press("escape", "slash", *"latents>5", "enter")
        shown = {branch.place for branch, _ in pane.taxa._shown}
        assert {one.place for one in wanted} <= shown, "nodes that are asked for are opened"
        asked = {one.place for one in everything if one.values["latents"] > 5}
        assert shown == {place[:length] for place in asked for length in range(1, len(place) + 1)}
        await pilot.press("escape")
        assert pane.taxa.rows and pane.groups.rows and not pane.filter.value
        await pilot.press("O", "j", "j", "j", "enter")  # by latents: as they are, name, images, latents
        await until(pilot, lambda: pane._sorts == {"taxa": "latents"})
        root = pane.trees.by_taxon[0]
        counts = [
            branch.values["latents"] for branch, _ in pane.taxa._shown if len(branch.place) == len(root.place) + 1
        ]
        assert counts == sorted(counts, reverse=True) and counts

    scenario(test, root, "hierarchy")


def _all(branches: Any) -> Any:
    for branch in branches:
        yield branch
        yield from _all(branch.children)
