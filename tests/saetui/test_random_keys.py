"""Keys at random, windows of any size, files that go wrong: nothing ends the workbench."""

import asyncio
import contextlib
import random
import shutil
from pathlib import Path

import pytest
from textual.widgets import Input

from engine.runs.run import Run
from engine.workspace import Workspace
from saetui.app import Workbench
from tests.saetui.test_bindings import EVERY
from tests.support.study import Answered, remember_answers, write_study

NEVER = {"q", "ctrl+q", "ctrl+z"}  # these do end it, or suspend it
KEYS = sorted({key for _, binding in EVERY for key in binding.key.split(",")} - NEVER)
OFTEN = ["1", "2", "3", "4", "5", "enter", "enter", "escape", "escape", "escape", "tab", "j", "k"]
WORDS = [
    "pencil",
    "ms>.2 (",
    "0",
    "wide",
    "2x",
    "-1..4 by 0.5",
    "images/drawn",
    "/nowhere",
    "blank",
    "sort freq",
    "[b]",
]
SIZES = [(160, 50), (80, 24), (120, 34), (20, 5), (60, 15)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        write_study(folder)
    return folder / "study"


def spoil(chance: random.Random, root: Path) -> None:
    """Cut, remove or empty one of the workspace's files."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".png")
    if not files:
        return
    path = chance.choice(files)
    how = chance.choice(("cut", "remove", "empty"))
    if how == "remove":
        path.unlink()
    else:
        contents = path.read_bytes()
        path.write_bytes(contents[: len(contents) // 2] if how == "cut" else b"")


async def press_at_random(app: Workbench, chance: random.Random, presses: int, spoiled: Path | None) -> None:
    """Raises what ended the app, if anything did."""
    async with app.run_test(size=chance.choice(SIZES)) as pilot:
        for _ in range(presses):
            if isinstance(app.focused, Input) and chance.random() < 0.5:
                await pilot.press(*chance.choice(WORDS))
            else:
                await pilot.press(chance.choice(KEYS if chance.random() < 0.6 else OFTEN))
            if chance.random() < 0.02:
                await pilot.resize_terminal(*chance.choice(SIZES))
            if chance.random() < 0.05:
                await pilot.pause(chance.random() / 2)
            if spoiled and chance.random() < 0.02:
                spoil(chance, spoiled)
        assert app.is_running and app._exception is None


def play(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, presses: int, spoils: bool) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, "detach", lambda run: None)  # or dozens of trainings would begin
    place = Workspace(Path(shutil.copytree(made, "study")))
    remember_answers(place)
    chance = random.Random(seed)
    asyncio.run(press_at_random(Answered(place), chance, presses, place.root if spoils else None))


@pytest.mark.parametrize("spoils", [False, True], ids=["whole", "spoiled"])
def test_random_keys(made, tmp_path, monkeypatch, spoils):
    play(made, tmp_path, monkeypatch, 0, 60, spoils)


@pytest.mark.slow
@pytest.mark.parametrize("spoils", [False, True], ids=["whole", "spoiled"])
@pytest.mark.parametrize("seed", range(1, 7))
def test_many_random_keys(made, tmp_path, monkeypatch, seed, spoils):
    play(made, tmp_path, monkeypatch, seed, 400, spoils)
