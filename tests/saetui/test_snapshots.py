"""Every screen as it is kept in ``snapshots/``: in three sizes, in many, few and no colours, light, and in ASCII."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from engine.workspace import Workspace
from saetui.modes.neurons.image_search import LookScreen
from saetui.preferences import Preferences
from saetui.terminal.probe import Terminal
from saetui.widgets.gallery import Gallery
from tests.support.pilots import until
from tests.support.snapshots import Snapshots, cells
from tests.support.study import Answered, remember_answers, write_study

SMALL, LARGE, TINY = (80, 24), (160, 50), (20, 5)
MODES = ("data", "train", "neurons", "steer", "hierarchy")
ENDLESS = ("runs", "trainings")  # groups of threads that look again and again


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("snapshots")
    with contextlib.chdir(folder):
        yield write_study(folder)


@pytest.fixture
def snapshots(request: pytest.FixtureRequest) -> Iterator[Snapshots]:
    kept = Snapshots(request.config.getoption("--update-snapshots"))
    yield kept
    assert not kept.differences, "\n".join(kept.differences)


@contextlib.asynccontextmanager
async def opened(place: Workspace, size: tuple[int, int], **preferences: Any) -> AsyncIterator[Pilot[Any]]:
    chosen = Preferences(**preferences)
    colours: Any = "truecolor" if chosen.colours == "auto" else chosen.colours
    app = Answered(place, chosen, Terminal(colours=colours, columns=size[0], rows=size[1]))
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: len(app.runs) == len(list(place.runs.glob("*"))))
        yield pilot


async def still(pilot: Pilot[Any]) -> list[list[tuple[str, str]]]:
    """The screen once nothing is read or drawn any more."""
    for line in pilot.app.screen.query(Input):
        line.cursor_blink = False
    before = None
    while True:
        await until(pilot, lambda: _idle(pilot.app))
        await pilot.pause(0.05)
        now = cells(pilot.app.screen._compositor.render_strips())
        if now == before and _idle(pilot.app):
            return now
        before = now


def _idle(app: Any) -> bool:
    busy = [worker for worker in app.workers if worker.group not in ENDLESS and not worker.is_finished]
    galleries = [one for one in app.screen.query(Gallery) if one.display and one.size]
    return not busy and all(one._next is None and one._drawn(one.tiles) for one in galleries)


async def screens(pilot: Pilot[Any], place: Workspace) -> AsyncIterator[tuple[str, list[list[tuple[str, str]]]]]:
    """Every screen of the workbench, reached by its keys."""
    for number, mode in enumerate(MODES, 1):
        await pilot.press(str(number))
        yield mode, await still(pilot)
    await pilot.press("3", "enter")
    yield "latent", await still(pilot)
    await pilot.press("m")
    yield "heat", await still(pilot)
    await pilot.press("m", "escape", "question_mark")
    yield "help", await still(pilot)
    await pilot.press("escape", "colon", *"neurons.s")
    yield "command", await still(pilot)
    await pilot.press("escape", "o")
    yield "pick", await still(pilot)
    await pilot.press("escape", "J")
    yield "jobs", await still(pilot)
    await pilot.press("escape", "c", "enter")
    yield "compare", await still(pilot)
    await pilot.press("escape", "I")
    await until(pilot, lambda: isinstance(pilot.app.screen, LookScreen) and pilot.app.screen.found)
    await pilot.press("l")
    yield "look", await still(pilot)
    await pilot.press("q", "2", "n")
    yield "form", await still(pilot)
    await pilot.press("escape")


@pytest.mark.parametrize("colours", ["truecolor", "256", "mono"])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_screens(study, snapshots, size, colours):
    async def scenario() -> None:
        remember_answers(study)
        async with opened(study, size, colours=colours) as pilot:
            async for name, screen in screens(pilot, study):
                assert [len(line) for line in screen] == [size[0]] * size[1]
                _check_colours(screen, colours)
                snapshots.check(f"{name}-{size[0]}x{size[1]}-{colours}", screen)

    asyncio.run(scenario())


def _check_colours(screen: list[list[tuple[str, str]]], colours: str) -> None:
    allowed = {
        "truecolor": r"(bold |underline |reverse |italic |dim )*(#[0-9a-f]{6})?( ?on #[0-9a-f]{6})?",
        "256": r"(bold |underline |reverse |italic |dim )*(\d+)?( ?on \d+)?",
        "mono": r"(bold|underline|reverse| )*",
    }
    for style in {style for line in screen for _, style in line}:
        assert re.fullmatch(allowed[colours], style), style


def test_modes_stand_in_very_little_room(study):
    async def scenario() -> None:
        async with opened(study, TINY) as pilot:
            for key in "12345":
                await pilot.press(key)
                assert [len(line) for line in await still(pilot)] == [TINY[0]] * TINY[1]

    asyncio.run(scenario())


def test_the_light_theme(study, snapshots):
    async def scenario() -> None:
        async with opened(study, SMALL, theme="paper") as pilot:
            await pilot.press("3")
            snapshots.check("neurons-80x24-paper", await still(pilot))

    asyncio.run(scenario())


def test_ascii_alone(study, snapshots):
    async def scenario() -> None:
        remember_answers(study)
        async with opened(study, (120, 34), ascii=True) as pilot:
            async for name, screen in screens(pilot, study):
                assert all(character.isascii() for line in screen for character, _ in line)
                snapshots.check(f"{name}-ascii", screen)

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_the_first_screen(study, snapshots, size):
    async def scenario() -> None:
        async with opened(Workspace(Path("nowhere")), size) as pilot:
            snapshots.check(f"start-{size[0]}x{size[1]}", await still(pilot))

    asyncio.run(scenario())
