"""R in Neurons: a report on what is listed, by a process of its own, which esc stops."""

import asyncio
import shutil

import pytest

from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.widgets.dialogs import Ask, Pick
from tests.support.pilots import until
from tests.support.synthetic import write_synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("made") / "study", w=64, images=48, top=8)


@pytest.fixture
def place(made, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("images"))
    (folder / "images").symlink_to(made / "images")
    return folder


def scenario(test, place):
    async def run():
        app = Workbench(Workspace(place), mode="neurons")
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: app.screen.scores is not None)
            await test(app, pilot)

    asyncio.run(run())


def notices(app):
    return [notice.message for notice in app._notifications]


async def settled(pilot, app, words):
    await until(pilot, lambda: any(words in one for one in notices(app)), 60)


def test_it_reports_on_what_is_listed_and_asks_before_it_replaces(place):
    async def test(app, pilot):
        neurons = app.screen
        await pilot.press("slash", *"latent<9", "enter", "R")
        asked = app.screen
        assert isinstance(asked, Ask) and "'latent<9'" in asked._question
        await pilot.press("enter")
        await settled(pilot, app, "9 latents")
        written = place / "report-synthetic.html"
        first = written.read_bytes()
        assert b"latent&lt;9" in first
        app.clear_notifications()
        await pilot.press("R", "enter")
        assert isinstance(app.screen, Pick)
        await pilot.press("enter")  # keep it
        assert app.screen is neurons and written.read_bytes() == first
        await pilot.press("R", "enter", "j", "enter")
        await settled(pilot, app, "9 latents")
        assert written.read_bytes() == first

    scenario(test, place)


def test_esc_stops_it_at_once_and_leaves_nothing(place):
    async def test(app, pilot):
        await pilot.press("R", "enter", "escape")
        await settled(pilot, app, "The report was stopped.")
        assert not list(place.glob("*.html")) and "latents" in str(app.screen.head.render())
        await pilot.press("R")
        assert isinstance(app.screen, Ask)  # another can be written

    scenario(test, place)


def test_what_is_refused_is_said(place):
    (place / "notes").mkdir()

    async def test(app, pilot):
        await pilot.press("R")
        app.screen.query_one("Input").value = "notes"
        await pilot.press("enter")
        await settled(pilot, app, "notes")
        assert list((place / "notes").iterdir()) == []

    scenario(test, place)
