"""Nothing that files or models say acts on the terminal from within the workbench, nor is markup."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.content import Content

from engine.server.protocol import Answer
from saetui.modes.steer.dose_response import Dose
from saetui.modes.steer.setup import Slot
from saetui.terminal.literal import Literal
from tests.saetui.test_snapshots import LARGE, opened, screens
from tests.support.hostile import ACTING, EVIL, NAME, poison
from tests.support.pilots import screen_text
from tests.support.study import ANSWERS, RESULTS, remember_answers, write_study


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A study in a folder with a hostile name, all of whose texts are; and its model answers so."""
    folder = tmp_path / NAME
    folder.mkdir()
    with contextlib.chdir(folder):
        place = write_study(folder)
        remember_answers(place)
        poison(place.root)
        monkeypatch.setitem(RESULTS, Answer, replace(ANSWERS, steered=EVIL, untouched=EVIL, attached=EVIL))
        yield place


def check(text: str) -> None:
    assert not ACTING.search(text), ascii(text)
    assert "\x1b" not in text
    for found in re.finditer("EVIL", text):
        before = text[max(0, found.start() - 5) : found.start()]
        # The second line of a name begins so: on a line of its own, or behind the blank that stands for the end.
        wrapped = before.endswith(("│ ", "\ufffd ")) or len(before.rpartition("\n")[2]) < 5
        assert before == "[red]" or "…" in before or wrapped, ascii(before)


def test_every_screen(stranger):
    async def scenario() -> None:
        seen = 0
        async with opened(stranger, LARGE) as pilot:
            async for _, _ in screens(pilot, stranger):
                text = screen_text(pilot)
                seen += text.count("[red]EVIL")
                check(text)
            for sentence in (EVIL, f"{EVIL} [@click=app.quit]x[/]"):
                pilot.app.say(sentence)
                await pilot.pause()
                check(screen_text(pilot))
        assert seen > 20

    asyncio.run(scenario())


def test_the_last_filter_lets_nothing_through():
    """Whatever a widget draws, and as wide as it was laid out; graphics are left alone."""
    graphics = Segment("\x1bPq#0\x1b\\", control=[(1,)])
    link = Segment("a", Style(link="file:///"))
    broken = Segment("a\ud800")
    lines = Literal().apply([Segment(f"é{EVIL}\n漢 👩\u200d🚀 שלום"), graphics, link, broken], Color(0, 0, 0))
    check(lines[0].text)
    assert lines[0].text.startswith("é[red]EVIL") and lines[0].text.endswith("漢 👩\u200d🚀 שלום")
    assert "\n" not in lines[0].text
    assert lines[1] is graphics
    assert lines[2].style.link is None
    assert lines[3].text == "a\ufffd"


def test_the_title_of_a_sweep_is_no_markup(stranger):
    async def scenario() -> None:
        async with opened(stranger, LARGE) as pilot:
            await pilot.press("4")
            dose = pilot.app.screen.query_one(Dose)
            dose.begin(Slot(5, 20.0, True, 10.0, "[@click=app.quit]pencil[/]"))
            assert Content.from_markup(dose.border_title).plain == "dose of 5 [@click=app.quit]pencil[/]"

    asyncio.run(scenario())


def test_what_is_copied_can_be_pasted_into_a_shell(stranger):
    async def scenario() -> None:
        async with opened(stranger, LARGE) as pilot:
            pilot.app.copy(f"saetui show '{EVIL}'", EVIL)
            assert not ACTING.search(pilot.app.clipboard) and "\x1b" not in pilot.app.clipboard

    asyncio.run(scenario())
