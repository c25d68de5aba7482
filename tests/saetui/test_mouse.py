"""What is drawn as something to press can be clicked: tabs, headings, the keys at the bottom; esc stands there."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.workspace import Workspace
from saetui.modes.steer.versions_screen import VersionsScreen
from saetui.widgets.bars import TITLES, KeyBar, TopBar
from saetui.widgets.dialogs import Help, Pick
from saetui.widgets.form import Form
from saetui.widgets.runs_drawer import RunsDrawer
from saetui.widgets.table import Table
from tests.support.pilots import until
from tests.support.study import Answered, remember_answers, write_study


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("mouse")
    with contextlib.chdir(folder):
        yield write_study(folder)


def scenario(place: Workspace, mode: str, act: Callable[[Any, Pilot[Any]], Any], size: tuple[int, int] = (80, 24)):
    async def run() -> None:
        app = Answered(place, mode=mode)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(run())


def line_of(app: Any, bar: type[TopBar | KeyBar]) -> str:
    return app.screen.query_one(bar).render().plain


async def click_on(pilot: Pilot[Any], bar: type[TopBar | KeyBar], words: str) -> None:
    at = line_of(pilot.app, bar).index(words)
    await pilot.click(bar, offset=(at + len(words) - 1, 0))
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_each_tab_can_be_clicked(place, size):
    async def act(app, pilot):
        for mode, title in reversed(TITLES.items()):
            await click_on(pilot, TopBar, title)
            assert mode == app.screen.MODE

    scenario(place, "data", act, size)


def test_each_key_of_the_footer_can_be_clicked(place):
    async def act(app, pilot):
        await until(pilot, lambda: app.screen.table.rows)
        await click_on(pilot, KeyBar, "/ Filter")
        assert app.screen.filter.typing
        await click_on(pilot, KeyBar, "esc Back")
        assert app.focused is app.screen.table
        await click_on(pilot, KeyBar, "? help")
        assert isinstance(app.screen, Help)

    scenario(place, "neurons", act)


def test_esc_stands_in_the_footer_where_it_goes_back_and_nowhere_else(place):
    async def act(app, pilot):
        await until(pilot, lambda: app.screen.table.rows)
        assert "esc" not in line_of(app, KeyBar)
        await pilot.press("enter")
        await pilot.pause()
        assert "esc Back" in line_of(app, KeyBar)
        await pilot.press("escape", "slash", *"ms>.1", "enter")
        await pilot.pause()
        assert "esc Back" in line_of(app, KeyBar)
        await pilot.press("escape")
        await pilot.pause()
        assert "esc" not in line_of(app, KeyBar)
        for mode, keys in (("2", ("enter",)), ("1", ("slash",)), ("5", ("slash",))):
            await pilot.press(mode)
            await until(pilot, lambda: any(table.rows for table in app.screen.query(Table)))
            await pilot.pause()
            assert "esc" not in line_of(app, KeyBar), mode
            await pilot.press(*keys)
            await pilot.pause()
            assert "esc" in line_of(app, KeyBar), mode
            await pilot.press("escape")
            await pilot.pause()
            assert "esc" not in line_of(app, KeyBar), mode

    scenario(place, "neurons", act)


def headings(table: Table) -> list[tuple[int, str]]:
    """Where each heading that can be seen ends, and what it is."""
    line, found, end = table.render_line(0).text, [], 0
    for column in table.columns:
        if column.title and (at := line.find(column.title, end)) >= 0:
            end = at + len(column.title)
            found.append((end - 1, column.title))
    return found


def mark_of(table: Table, end: int) -> str:
    """What stands behind the heading that ends at ``end``; no other has a mark."""
    line = table.render_line(0).text
    assert line.count("▾") + line.count("▴") == 1, line
    return line[end + 1]


@pytest.mark.parametrize(
    ("mode", "table"),
    [
        ("neurons", "#latents"),
        ("train", "#trainings"),
        ("data", "#stores"),
        ("data", "#sources"),
        ("data", "#encoders"),
        ("hierarchy", "#groups"),
        ("hierarchy", "#taxa"),
    ],
)
def test_every_heading_sorts_and_once_more_the_other_way_round(place, mode, table):
    """No heading is dead: each sends what its screen knows, and the second click turns what differs round. A mark
    behind it says so."""

    async def act(app, pilot):
        await until(pilot, lambda: app.screen.query_one(table, Table).rows)
        shown = app.screen.query_one(table, Table)
        for at, title in headings(shown):
            orders, marks = [], ""
            for _ in range(2):
                await pilot.click(shown, offset=(at, 0))
                await pilot.pause()
                orders.append(sort_of(app.screen, table))
                marks += mark_of(shown, at)
            assert len(set(orders)) == 2 and set(marks) == {"▾", "▴"}, (title, orders, marks)

    scenario(place, mode, act, (160, 50))


def sort_of(screen: Any, table: str) -> Any:
    match screen.MODE:
        case "neurons":
            return screen.listed.sort, screen.listed.descending
        case "train":
            return screen.trainings.sort
        case "data":
            return screen.listing.sorts.get(table[1:-1])
    return screen._sorts.get(table[1:])


def test_the_headings_of_the_lists_over_a_mode_sort_too(place):
    remember_answers(place)

    async def act(app, pilot):
        await pilot.press("J")
        await pilot.pause()
        await dead_headings(pilot, RunsDrawer)
        await pilot.press("escape", "r")
        versions = app.session.path.with_suffix(".versions.jsonl")
        await until(pilot, versions.is_file)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, VersionsScreen))
        await dead_headings(pilot, VersionsScreen)
        await click_on(pilot, KeyBar, "/ Filter")
        assert app.screen.filter.typing
        await click_on(pilot, KeyBar, "or close")
        await click_on(pilot, KeyBar, "or close")
        assert app.screen.MODE == "steer"

    async def dead_headings(pilot, kind):
        screen: Any = pilot.app.screen
        assert isinstance(screen, kind)
        for at, title in headings(screen.query_one(Table)):
            orders, marks = [], ""
            for _ in range(2):
                await pilot.click(screen.query_one(Table), offset=(at, 0))
                await pilot.pause()
                orders.append(screen.sort)
                marks += mark_of(screen.query_one(Table), at)
            assert len(set(orders)) == 2 and set(marks) == {"▾", "▴"}, (title, orders, marks)

    scenario(place, "steer", act)


def test_the_headings_of_an_image_search_sort_its_latents(place):
    async def act(app, pilot):
        await until(pilot, lambda: app.screen.table.rows)
        await pilot.press("I")
        await until(pilot, lambda: getattr(app.screen, "found", None))
        await pilot.pause()
        table = app.screen.query_one(Table)
        for at, title in headings(table):
            orders, marks = [], ""
            for _ in range(2):
                await pilot.click(table, offset=(at, 0))
                await pilot.pause()
                orders.append([latent for latent, _ in app.screen.shown])
                marks += mark_of(table, at)
            assert set(marks) == {"▾", "▴"}
            assert orders[0] == orders[1][::-1] or title in ("MS", "raw"), (title, orders)

    scenario(place, "neurons", act, (160, 50))


def test_a_row_that_is_clicked_twice_opens(place):
    async def act(app, pilot):
        await until(pilot, lambda: app.screen.table.rows)
        await pilot.click(app.screen.table, offset=(5, 3), times=2)
        await pilot.pause()
        assert app.screen.table.cursor == 2 and app.screen.has_class("-open")

    scenario(place, "neurons", act)


async def click_key(pilot: Pilot[Any], words: str) -> None:
    """Click on a key of the bar of the dialog that is open, wherever it stands."""
    bar = pilot.app.screen.query_one(KeyBar)
    lines = [bar.render_line(y).text for y in range(bar.size.height)]
    (y,) = (y for y, line in enumerate(lines) if words in line)
    await pilot.click(bar, offset=(lines[y].index(words) + 1, y))
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 34)])
def test_the_keys_of_the_runs_can_be_clicked(place, size):
    async def act(app, pilot):
        await until(pilot, lambda: app.runs)
        await pilot.press("J")
        await pilot.pause()
        drawer = app.screen
        assert "Open" not in str(drawer.query_one(KeyBar).render()), "a run opens nothing"
        await click_key(pilot, "/ Filter")
        assert drawer.filter.typing
        await click_key(pilot, "esc Back")
        assert drawer.query_one(Table).has_focus
        await click_key(pilot, "o Sort")
        assert isinstance(app.screen, Pick)
        await pilot.press("escape")
        before = len(drawer.runs)
        await click_key(pilot, "a Archive")
        await until(pilot, lambda: len(drawer.runs) == before - 1)
        await click_key(pilot, "A Show archived")
        assert drawer.query_one(KeyBar).render_line(0).text.startswith(" archived ") and len(drawer.runs) == 1
        await click_key(pilot, "A Show archived")
        await click_key(pilot, "u Put back")
        await until(pilot, lambda: len(drawer.runs) == before)
        await click_key(pilot, "esc Back")
        assert app.screen.MODE == "train"

    scenario(place, "train", act, size)


@pytest.mark.parametrize(("mode", "key"), [("train", "n"), ("train", "i"), ("data", "e")])
def test_the_keys_of_a_form_can_be_clicked(place, mode, key):
    async def act(app, pilot):
        await until(pilot, lambda: any(table.rows for table in app.screen.query(Table)))
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Form))
        form = app.screen
        assert form.focused is form.editor(form.fields[0].name)
        await click_key(pilot, "Next field")
        assert form.focused is form.editor(form.fields[1].name)
        form.editor(form.fields[0].name).value = ""
        await click_key(pilot, "^s Start")
        assert app.screen is form and form.wrong == form.fields[0].name
        await click_key(pilot, "esc Cancel")
        assert mode == app.screen.MODE

    scenario(place, mode, act)


def test_esc_says_where_it_leads_from_an_image_that_is_searched_by(place):
    async def act(app, pilot):
        await until(pilot, lambda: app.screen.table.rows)
        await pilot.press("I")
        await until(pilot, lambda: getattr(app.screen, "found", None))
        await pilot.pause()
        assert "esc Close" in line_of(app, KeyBar)
        await pilot.press("j")
        await pilot.pause()
        assert "esc Whole image" in line_of(app, KeyBar)
        await pilot.press("escape")
        await pilot.pause()
        assert "esc Close" in line_of(app, KeyBar)
        await pilot.press("escape")
        assert app.screen.MODE == "neurons"

    scenario(place, "neurons", act)
