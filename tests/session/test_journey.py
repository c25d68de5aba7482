"""From the start to a steered answer by keyboard alone: in a pilot, and in a real tmux."""

import asyncio
import re

import pytest

from engine.workspace import Workspace
from saetui.app import Workbench
from tests.support.pilots import screen_text, until
from tests.support.tmux import SAETUI

FILTER, SEND, RAISE = ["slash", *"pencil", "enter"], ["s"], ["L"]
KEYS = [*FILTER, *SEND, *RAISE]
MOST_KEYS = 15
NAMED = re.compile(r"‹pencil›")  # a word of the steered answer that is not in the answer of the SAE attached


@pytest.mark.alone
def test_it_takes_a_pilot_ten_keys(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    async def journey():
        app = Workbench(Workspace(demo))
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "of latents beat theirs" in screen_text(pilot))
            await pilot.press(*FILTER)
            assert "pencil" in screen_text(pilot).splitlines()[5], "the first latent found is the pencil's"
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
    terminal.until("of latents beat theirs")
    names = {"slash": "/", "enter": "Enter"}
    terminal.press(*(names.get(key, key) for key in KEYS))
    terminal.until(NAMED.search, 120)
    assert "an empty white background" in terminal.screen
    terminal.press("q")
    terminal.until("$")
