"""The picture of a terminal with graphics: what is sent to it, once, and what stands in the cells."""

import dataclasses
import sys

import numpy as np
import pytest
from textual.app import App, ComposeResult

from saetui.terminal.probe import probe
from saetui.widgets.sharp_picture import SharpPicture, graphics

PHOTO = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
PLACEHOLDER = "\U0010eeee"  # of kitty's protocol: a cell that shows its part of an image


def terminal(rung):
    return dataclasses.replace(probe({"TERM": "dumb"}), rung=rung)


class Wall(App):
    CSS = "SharpPicture { width: 20; height: 8; }"

    def compose(self) -> ComposeResult:
        drawn_by = graphics(terminal("kitty"))
        assert drawn_by is not None
        yield SharpPicture(drawn_by)


def painted(app):
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def test_only_where_the_terminal_has_graphics():
    assert graphics(terminal("truecolor")) is None and graphics(terminal("mono")) is None
    assert graphics(terminal("sixel")) is not None


def test_without_the_extra_cells_are_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "textual_image.widget", None)
    assert graphics(terminal("kitty")) is None


@pytest.mark.parametrize("keyed", [True, False])
async def test_kitty_is_sent_the_image_and_the_cells_hold_its_places(capfd, keyed):
    app = Wall()
    async with app.run_test(size=(40, 12)) as pilot:
        picture = app.query_one(SharpPicture)
        picture.show(PHOTO, key="one" if keyed else None)
        await pilot.pause()
        assert PLACEHOLDER in painted(app)
        assert "\x1b_G" in capfd.readouterr().out, "kitty's graphics command"
        picture.show(PHOTO, key="one" if keyed else None)
        await pilot.pause()
        assert ("\x1b_G" in capfd.readouterr().out) is not keyed, "the same key is not sent again"


async def test_a_failure_is_its_sentence(capfd):
    app = Wall()
    async with app.run_test(size=(40, 12)) as pilot:
        picture = app.query_one(SharpPicture)
        picture.show(PHOTO, key="one")
        picture.failed("no [such] image")
        await pilot.pause()
        assert "no [such] image" in painted(app) and PLACEHOLDER not in painted(app)
        picture.show(PHOTO, key="one")
        await pilot.pause()
        assert PLACEHOLDER in painted(app)
    capfd.readouterr()
