"""Help is searched, and explains every term that a heading or a score uses; the palette shows keys."""

import asyncio
import importlib
import pkgutil
from typing import Any

import pytest
from textual.command import CommandPalette

import saetui.modes
import saetui.widgets
from engine.neurons.quantities import QUANTITIES
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.glossary import TERMS
from saetui.widgets.dialogs import Help
from saetui.widgets.table import Column
from tests.support.pilots import until

PLAIN = {
    *("answer", "image", "images", "latents", "name", "prompt", "rows", "size", "stage", "step", "steered answer"),
    *("stores", "training", "when", "done", "makes", "image sources", "settings", "started", "took"),
}
"""Headings that are plain words."""


def headings() -> set[str]:
    """Of every column that stands in a module, and of the quantities of latents."""
    found = {shown.title for one in QUANTITIES for shown in (one.column, one.printed) if shown}

    def look(value: Any) -> None:
        match value:
            case Column(title):
                found.add(title)
            case list() | tuple():
                for one in value:
                    look(one)
            case dict():
                look(list(value.values()))
            case _ if isinstance(getattr(value, "column", None), Column):
                look(value.column)

    for package in (saetui.modes, saetui.widgets):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            look(list(vars(importlib.import_module(module.name)).values()))
    return found - {""}


def explained() -> str:
    return " ".join(TERMS).casefold().replace(",", " ")


def test_every_heading_is_a_plain_word_or_a_term():
    known, found = explained().split(), headings()
    assert {"MS", "FVE", "L0", "raw", "KL"} - found <= {"KL"} and len(found) > 30
    missing = [title for title in found - PLAIN if not any(word.casefold() in known for word in title.split())]
    singular = [title for title in missing if not any(word.casefold().rstrip("s") in known for word in title.split())]
    assert not singular


@pytest.mark.parametrize("term", ["MS", "FVE", "L0", "lift", "matched", "support", "depth", "dead", "judge", "KL"])
def test_the_terms_of_the_field_are_explained(term):
    assert any(term in name.replace(",", " ").split() for name in TERMS)


@pytest.fixture
def place(tmp_path):
    (tmp_path / MARKER).write_text("# empty\n")
    return Workspace(tmp_path)


def scenario(place, act, size=(80, 24)):
    async def run():
        app = Workbench(place, mode="neurons")
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(run())


def shown(screen: Any) -> str:
    return screen.query_one("Static").content.plain


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (160, 50)])
def test_help_is_searched_as_one_types_and_esc_clears_before_it_closes(place, size):
    async def act(app, pilot):
        await pilot.press("question_mark")
        assert "lift" in shown(app.screen) and "neurons.sort" in shown(app.screen)
        await pilot.press("slash", *"lift")
        await pilot.pause()
        assert "lift" in shown(app.screen) and "neurons.sort" not in shown(app.screen)
        assert "MS / baseline" in shown(app.screen), "what is searched is told in full: formula, n, interval, control"
        assert all(len(line) <= max(size[0], 80) - 5 for line in shown(app.screen).split("\n"))
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, Help) and "neurons.sort" in shown(app.screen)
        await pilot.press("slash", *"ctrl+r", "enter")
        await pilot.pause()
        assert "neurons.redo" in shown(app.screen)
        await pilot.press("escape")
        await pilot.press("slash", *"q?x")
        assert isinstance(app.screen, Help) and "esc clears it" in shown(app.screen)
        await pilot.press("escape", "escape")
        assert not isinstance(app.screen, Help)

    scenario(place, act, size)


def test_help_of_words_is_asked_for_on_the_command_line(place):
    async def act(app, pilot):
        await pilot.press("colon", *"help fve", "enter")
        await pilot.pause()
        assert isinstance(app.screen, Help)
        assert "fraction of variance explained" in shown(app.screen) and "neurons.sort" not in shown(app.screen)

    scenario(place, act)


def test_the_palette_shows_keys(place):
    async def act(app, pilot):
        await pilot.press("ctrl+p")
        assert isinstance(app.screen, CommandPalette)
        options = app.screen.query_one("OptionList")
        await until(pilot, lambda: options.option_count > 5)
        listed = [str(options.get_option_at_index(n).prompt) for n in range(options.option_count)]
        assert any(line.split()[0] == "/" and "neurons.filter" in line for line in listed)
        await pilot.press(*"neurons.redo")
        await until(pilot, lambda: options.option_count == 1)
        assert str(options.get_option_at_index(0).prompt).split()[0] == "^r"

    scenario(place, act)
