"""By keyboard alone: from the start to a steered answer, in a pilot and in a real tmux; and to two SAEs compared."""

import asyncio
import csv
import re
import shutil
from pathlib import Path

import pytest

from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.modes.neurons.compare import CompareScreen
from tests.support.pilots import screen_text, until
from tests.support.tmux import SAETUI

FILTER, SEND, RAISE = ["slash", *"cup", "enter"], ["s"], ["L"]
KEYS = [*FILTER, *SEND, *RAISE]
MOST_KEYS = 15
NAMED = re.compile(r"‹cup›")  # a word of the steered answer that is not in the answer of the SAE attached


@pytest.mark.alone
def test_it_takes_a_pilot_ten_keys(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    async def journey():
        app = Workbench(Workspace(demo))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "beaten by" in screen_text(pilot))
            await pilot.press(*FILTER)
            assert "cup" in screen_text(pilot).splitlines()[5], "the first latent found is the cup's"
            await pilot.press(*SEND, *RAISE)
            await until(pilot, lambda: NAMED.search(screen_text(pilot)), 120)
            said = screen_text(pilot)
            assert "an empty white background" in said, "the controls say what they said"

    assert len(KEYS) <= MOST_KEYS
    asyncio.run(journey())


@pytest.mark.alone
def test_it_takes_the_same_keys_in_a_terminal(demo, terminal):
    terminal.resize(80, 24)
    terminal.run(f"{SAETUI} {demo}")
    terminal.until("beaten by")
    names = {"slash": "/", "enter": "Enter"}
    terminal.press(*(names.get(key, key) for key in KEYS))
    terminal.until(NAMED.search, 120)
    assert "an empty white background" in terminal.screen
    terminal.press("q")
    terminal.until("$")


OLD = Path(__file__).parent.parent / "old_workspace"
MOST_TO_EXPORT = 25  # keys, from the start to the comparison of two SAEs in a file


@pytest.mark.alone
def test_a_second_sae_is_scored_like_the_first_compared_and_exported_with_nothing_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = Workspace(Path(shutil.copytree(OLD, tmp_path / "study")))
    (place.root / "workspace.toml").write_text("")  # nothing but the scores of the first says images and judge
    pressed: list[str] = []
    listed: list[int] = []

    async def journey():
        app = Workbench(place, mode="neurons")
        async with app.run_test(size=(80, 24)) as pilot:

            async def press(*keys):
                pressed.extend(keys)
                await pilot.press(*keys)

            await press("2")
            pane = app.screen
            await until(pilot, lambda: len(pane.trainings.rows) == 4)
            while pane.selected.name != "detached":
                await press("j")
            await press("s")
            await until(pilot, lambda: "on 24 images" in str(app.screen.note.content))
            assert app.screen.accepted()["embed_with"] == ["demo:encoder"]
            await press("ctrl+s")
            await until(pilot, lambda: place.neurons("detached", "images").is_file(), 300)
            await press("3", "c", "enter")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen))
            await until(pilot, lambda: "detached" in screen_text(pilot))
            compared = app.screen
            await until(pilot, lambda: compared.other is not None)
            listed.extend(compared.latents)
            await press("ctrl+e", "enter")
            await until(pilot, lambda: list(place.root.glob("*.csv")))

    asyncio.run(journey())
    assert len(pressed) <= MOST_TO_EXPORT, pressed
    (file,) = place.root.glob("*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert listed and [int(row["latent"]) for row in rows] == listed
    assert {row["counterpart_sae"] for row in rows} == {"detached"}
    shared = [float(row["jaccard"]) for row in rows if row["jaccard"]]
    assert shared and all(0 < one <= 1 for one in shared)
    assert all(bool(row["counterpart"]) == bool(row["jaccard"]) for row in rows)
