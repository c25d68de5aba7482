"""The picture widget in a running app: what it shows, and when it draws again."""

import numpy as np
import pytest
from textual.app import App, ComposeResult

from saetui.terminal.cells import draw
from saetui.terminal.probe import Terminal
from saetui.widgets import picture as module
from saetui.widgets.picture import Picture

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)


class Wall(App):
    CSS = "Picture { width: 20; height: 8; }"

    def __init__(self, style: str = "quadrant", colours: str = "truecolor") -> None:
        super().__init__()
        self.picture_style = style
        self.colours = colours

    def compose(self) -> ComposeResult:
        yield Picture(id="one")


class Bare(App):
    def compose(self) -> ComposeResult:
        yield Picture()


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The size of every drawing that is made, the real one."""
    made: list[tuple] = []

    def counted(image, columns, rows, *rest):
        made.append((columns, rows))
        return draw(image, columns, rows, *rest)

    monkeypatch.setattr(module, "draw", counted)
    return made


def shown(picture: Picture) -> list[str]:
    return [picture.render_line(y).text for y in range(picture.size.height)]


async def test_it_shows_the_cells_of_its_size() -> None:
    app = Wall()
    async with app.run_test() as pilot:
        picture = app.query_one(Picture)
        picture.show(PHOTO, key="a")
        await pilot.pause()
        assert picture.look.style == "quadrant"
        expected = draw(PHOTO, 20, 8, picture.look)
        assert shown(picture) == [strip.text for strip in expected]
        blank = picture.visual_style.rich_style
        for y, strip in enumerate(expected):
            assert [s.style for s in picture.render_line(y)] == [s.style or blank for s in strip]


async def test_over_ssh_colours_are_fewer() -> None:
    app = Wall()
    async with app.run_test():
        near = app.query_one(Picture).look
        app.terminal = Terminal(ssh=True)
        far = app.query_one(Picture).look
        assert 0 < near.step < far.step


async def test_the_same_key_is_drawn_once_and_a_resize_draws_again(drawings: list[tuple]) -> None:
    app = Wall()
    async with app.run_test() as pilot:
        picture = app.query_one(Picture)
        for _ in range(3):
            picture.show(PHOTO, key="a")
            await pilot.pause()
            picture.refresh()
        await pilot.pause()
        assert drawings == [(20, 8)]
        picture.styles.width = 30
        await pilot.pause()
        assert drawings == [(20, 8), (30, 8)] and len(shown(picture)[0]) == 30
        picture.show(PHOTO, key="b")
        await pilot.pause()
        assert len(drawings) == 3
        picture.show(PHOTO)  # without a key it may be another
        await pilot.pause()
        assert len(drawings) == 4


async def test_empty_failed_and_shown_again() -> None:
    app = Wall()
    async with app.run_test() as pilot:
        picture = app.query_one(Picture)
        assert shown(picture) == [" " * 20] * 8
        picture.show(PHOTO, key="a")
        picture.failed("[b]a.png[/b] \x1b[31mis gone: put it back.")
        await pilot.pause()
        lines = shown(picture)
        assert all(len(line) == 20 for line in lines)
        words = " ".join("".join(lines).split())
        assert words == "[b]a.png[/b] \ufffd[31mis gone: put it back."
        picture.show(PHOTO, key="a")
        await pilot.pause()
        assert "gone" not in "".join(shown(picture))
        picture.show(None)
        await pilot.pause()
        assert picture.key is None and shown(picture) == [" " * 20] * 8


async def test_a_long_sentence_in_a_small_picture_is_cut() -> None:
    app = Wall()
    async with app.run_test() as pilot:
        picture = app.query_one(Picture)
        picture.styles.width, picture.styles.height = 7, 2
        picture.failed("extraordinarily/long/name.png cannot be read")
        await pilot.pause()
        assert [len(line) for line in shown(picture)] == [7, 7]


async def test_an_app_without_settings_gets_half_blocks() -> None:
    app = Bare()
    async with app.run_test() as pilot:
        picture = app.query_one(Picture)
        assert (picture.look.style, picture.look.colours) == ("half", "truecolor")
        picture.show(PHOTO, key=1)
        await pilot.pause()
        assert "▀" in "".join(shown(picture))


@pytest.mark.parametrize(("colours", "absent"), [("256", "48;2;"), ("mono", "\x1b[48")])
async def test_few_colours(colours: str, absent: str) -> None:
    app = Wall("quadrant", colours)
    async with app.run_test() as pilot:
        picture = app.query_one(Picture)
        picture.show(PHOTO, key="a")
        await pilot.pause()
        strips = draw(PHOTO, *picture.size, picture.look)
        assert all(absent not in (style.render(text) if style else text) for s in strips for text, style, _ in s)
