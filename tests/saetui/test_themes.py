"""The style sheet of the themes: every rule is read once a theme, and a new theme reads all of them again."""

import asyncio
from collections import Counter

import pytest
from textual.css import stylesheet

from engine.workspace import Workspace
from saetui.app import Workbench
from tests.support.synthetic import write_synthetic


@pytest.fixture
def parsed(monkeypatch):
    """How often each source of rules was parsed."""
    counts, parse = Counter(), stylesheet.parse

    def counting(scope, css, read_from, *args, tie_breaker, **named):
        counts[read_from, tie_breaker] += 1  # a class that others inherit from gets a new rank with them
        return parse(scope, css, read_from, *args, tie_breaker=tie_breaker, **named)

    monkeypatch.setattr(stylesheet, "parse", counting)
    return counts


def test_each_rule_is_parsed_once_a_theme(tmp_path, parsed):
    app = Workbench(Workspace(write_synthetic(tmp_path / "study", 64, 20)), mode="neurons")

    async def switch():
        async with app.run_test() as pilot:
            for key in "24153":
                await pilot.press(key)
                await pilot.pause()
            assert len(parsed) > 30 and set(parsed.values()) == {1}
            before = app.screen.styles.background
            await pilot.press("f9")
            await pilot.pause()
            assert app.screen.styles.background != before
            assert max(parsed.values()) == 2

    asyncio.run(switch())
