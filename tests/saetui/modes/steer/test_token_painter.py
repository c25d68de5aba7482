"""Patches painted on a picture by keys, and what is steered then."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App

from engine.steer.interventions import parse_tokens, tokens_text
from saetui.modes.steer.token_painter import TokenPainter
from saetui.widgets.words import Words
from tests.support.pilots import screen_text

GRID = (4, 6)
PIXELS = np.full((40, 60, 3), 200, np.uint8)


def painted(*keys: str, tokens: str = "0", look=None) -> str | None:
    """What a person takes who presses ``keys``."""
    taken: list[str | None] = []

    async def scenario() -> None:
        app = App()
        async with app.run_test(size=(80, 24)) as pilot:
            app.push_screen(TokenPainter(PIXELS, GRID, tokens), taken.append)
            await pilot.pause()
            await pilot.press(*keys)
            if look is not None:
                look(app.screen, screen_text(pilot))

    asyncio.run(scenario())
    return taken[0] if taken else "still open"


@given(st.sets(st.integers(0, 40)))
def test_tokens_are_written_as_they_are_read(chosen):
    if chosen:
        text = tokens_text(sorted(chosen), 41)
        assert (parse_tokens(text) or tuple(range(41))) == tuple(sorted(chosen))
        assert text == "all" if len(chosen) == 41 else text.count(",") < len(chosen)


@pytest.mark.parametrize(
    ("keys", "tokens", "taken"),
    [
        ([], "0", "0"),
        (["space", "right", "space", "down", "space"], "0", "1,7"),
        (["b", "end", "left", "left", "left", "pagedown", "b"], "0", "0-2,6-8,12-14,18-20"),
        (["pagedown", "end", "b", "up", "left", "b"], "0", "0,16-17,22-23"),
        (["shift+right", "shift+down"], "3", "0-1,3,7"),
        (["L", "J", "H", "K"], "0", "0-1,6-7"),
        (["a"], "0", "all"),
        (["space"], "all", "1-23"),
        (["left", "up", "space", "right", "left", "space"], "2", "2"),
        (["right"], "2,99", "2"),
    ],
)
def test_keys_paint(keys, tokens, taken):
    assert painted(*keys, "enter", tokens=tokens) == taken


def test_none_is_refused_where_one_stands_and_esc_changes_nothing():
    def look(screen, shown):
        assert "Nothing would be steered" in shown

    assert painted("space", "enter", look=look) == "still open"
    assert painted("space", "escape") is None


def test_it_says_how_many_and_where():
    def look(screen, shown):
        assert "2 of 24 patches   row 1 of 4, column 2 of 6" in str(screen.query_one(Words).content)
        assert "space paint" in shown

    painted("shift+right", look=look)
