"""Bytes that a key costs where they are dear, over SSH, with sixteen pictures on screen."""

import asyncio

import pytest
from rich.console import Console
from textual.app import App

from engine.workspace import Workspace
from saetui.app import Workbench
from saetui.preferences import Preferences
from saetui.terminal.probe import Terminal
from saetui.widgets.gallery import Gallery
from tests.saetui.test_snapshots import still
from tests.support.pilots import until
from tests.support.synthetic import write_synthetic

LIMIT, PICTURES = 12_500, 33_000  # bytes; sixteen pictures of drawings, of which nothing is on screen any more
SIZE = (160, 50)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each paint, as a terminal of 24-bit colours would get them."""
    sizes: list[int] = []
    console = Console(color_system="truecolor")

    def display(app, screen, renderable) -> None:
        if renderable is not None:
            sizes.append(len(renderable.render_segments(console).encode()))
        app.post_display_hook()

    monkeypatch.setattr(App, "_display", display)
    return sizes


def test_dialogs_and_modes_do_not_send_the_pictures_again(tmp_path, sent):
    place = Workspace(write_synthetic(tmp_path / "study", 64, 400))

    async def scenario() -> None:
        terminal = Terminal(colours="truecolor", columns=SIZE[0], rows=SIZE[1], ssh=True, erases=True)
        app = Workbench(place, Preferences(), terminal)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press("3")
            gallery = app.screen.query_one(Gallery)
            await until(pilot, lambda: app.screen.scores)
            neurons = app.screen.scores.neurons
            app.screen.obey("goto", str(next(latent for latent in range(64) if len(neurons.top(latent)) == 16)))
            await until(pilot, lambda: len(gallery.tiles) == 16 and gallery._drawn(gallery.tiles))
            await still(pilot)
            assert len(gallery.tiles) == gallery.grid.columns * gallery.grid.rows == 16
            costs = {}

            async def cost(key: str) -> int:
                sent.clear()
                await pilot.press(key)
                await still(pilot)
                costs[f"{len(costs)} {key}"] = sum(sent)
                return sum(sent)

            for key in ("question_mark", "escape", "ctrl+p", "escape", "J"):
                await cost(key)
            assert await cost("escape") <= 20_000, "its list covered half of the pictures"
            costs.popitem()
            for mode in "4512":
                await cost(mode)
                assert await cost("3") <= PICTURES, "its pictures are not there any more"
                costs.popitem()
            assert max(costs.values()) <= LIMIT, costs

    asyncio.run(scenario())
