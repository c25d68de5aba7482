"""Latents are found by a text and by an image: for both the app asks the model server, which the tests run."""

import numpy as np

from engine.neurons.results import ImageLatents
from engine.server.protocol import Loading
from saetui.modes.neurons.image_search import LookScreen, Patches
from saetui.widgets.dialogs import Ask
from tests.support.neurons_screen import W, scenario
from tests.support.pilots import screen_text, until


def test_search_by_text_ranks_all_latents(place):
    async def test(app, pilot):
        pane = app.screen
        await pilot.press("t", *"a red fish", "enter")
        await until(pilot, lambda: pane.listed.matches or app._notifications, 90)
        assert not app._notifications, [t.message for t in app._notifications]
        scores = [pane.listed.matches["cosine"][k] for k in pane.latents]
        assert scores == sorted(scores, reverse=True) and "a red fish" in screen_text(pilot)
        await pilot.press("escape")
        assert len(pane.latents) == W and not pane.listed.matches

    scenario(test, place)


def test_an_image_lists_the_latents_of_the_whole_and_of_its_patches(place, made):
    picture = next((made / "images" / "drawn").rglob("*.png"))

    async def test(app, pilot):
        pane = app.screen
        await pilot.press("i", *str(picture), "enter")
        assert isinstance(app.screen, LookScreen)
        screen = app.screen
        await until(pilot, lambda: screen.found, 90)
        whole = screen.shown
        await pilot.press("l", "j", "h", "k")
        assert "row" in screen_text(pilot) and screen.shown != whole
        latent = int(np.argmax(screen.scores.neurons.maximum))
        quarter = float(screen.scores.neurons.maximum[latent]) / 4
        oblong = ImageLatents((2, 3), tuple(whole), tuple(((latent, quarter * patch),) for patch in range(6)))
        screen.found, patches = oblong, screen.query_one(Patches)
        patches.size_of_grid, patches.patch = oblong.grid, (0, 0)
        await pilot.press("l", "j")
        await until(pilot, lambda: screen.shown == [(latent, quarter * 4)])
        assert screen._cells(0)[:3] == (str(latent), f"{quarter * 4:.2f}", "100%")
        await pilot.press("escape")
        assert screen.shown == list(whole)
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen is pane and pane.latents == [k for k, _ in whole]

    scenario(test, place)


def test_an_answer_that_comes_while_its_screen_closes_is_dropped(place, made):
    picture = sorted((made / "images" / "drawn").rglob("*.png"))[0]

    async def test(app, pilot):
        await pilot.press("i", *str(picture), "enter")
        screen = app.screen
        assert isinstance(screen, LookScreen)
        await screen.query("#said").remove()  # widgets go before the screen that they are in
        app.models._hear(screen._asked, Loading("the encoder", 0.5, 0))
        await pilot.pause()
        await pilot.press("escape")
        assert app.is_running and app.screen is not screen

    scenario(test, place)


def test_a_bad_image_is_a_sentence(place):
    async def test(app, pilot):
        await pilot.press("i", *"/no/such.png", "enter")
        await until(pilot, lambda: "There is no image /no/such.png" in screen_text(pilot))
        assert isinstance(app.screen, Ask), "what was typed is there to be mended"

    scenario(test, place)
