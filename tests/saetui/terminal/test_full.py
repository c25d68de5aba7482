"""A picture on the whole terminal: what is written for each protocol, and the view itself in a real tmux."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from saetui.terminal.full import rendered, show_full
from saetui.terminal.probe import Terminal
from tests.support import fake_terminal as fake

RED = Image.new("RGB", (40, 40), (250, 10, 10))
TRUECOLOR = Terminal(colours="truecolor", rung="truecolor")


def test_kitty_gets_one_image() -> None:
    written = rendered(RED, Terminal(name="kitty", colours="truecolor", rung="kitty", kitty=True), 20, 10)
    assert written.count("\x1b_Ga=T,f=24") == 1 and "▀" not in written


def test_iterm_gets_its_own() -> None:
    written = rendered(RED, Terminal(name="iTerm2", colours="truecolor", rung="truecolor"), 20, 10)
    assert written.count("\x1b]1337;File=") == 1


@pytest.mark.parametrize("terminal", [TRUECOLOR, Terminal(name="kitty", kitty=True, tmux=True, rung="truecolor")])
def test_others_get_cells(terminal: Terminal) -> None:
    lines = rendered(RED, terminal, 20, 10).split("\n")
    assert len(lines) == 10
    assert all("48;2;250;10;10m" in line and re.sub(r"\x1b\[[\d;]*m", "", line) == " " * 20 for line in lines)


def test_few_colours_are_respected() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    assert ";2;" not in rendered(noise, Terminal(colours="256", rung="256"), 20, 10)
    glyphs = rendered(noise, Terminal(colours="16", rung="mono", kitty=True), 20, 10, ascii=True)
    assert glyphs.isascii() and "\x1b" not in glyphs


def test_what_is_no_picture_is_said_before_anything_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for name, words in (("a.png", "not an image"), ("b.png", "Cannot read")):
        with pytest.raises(UserError, match=words):
            show_full(tmp_path / name, TRUECOLOR)
    assert capsys.readouterr().out == ""


def test_in_tmux_it_shows_waits_and_leaves_the_screen_as_it_was(tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    script = f"""
import termios
from pathlib import Path
from saetui.terminal.full import show_full
from saetui.terminal.probe import Terminal
print("before")
settings = termios.tcgetattr(0)
terminal = Terminal(colours="256", rung="256", tmux=True)
show_full(Path({str(tmp_path / "red.png")!r}), terminal, caption="[red]9.81[/] \\x1b[2Jred.png")
print("after", termios.tcgetattr(0) == settings)
"""
    with fake.Tmux(tmp_path, script, TERM="xterm-256color") as tmux:
        shown = tmux.screen(lambda text: "any key returns" in text)
        lines = shown.rstrip("\n").split("\n")
        assert "[red]9.81[/] \ufffd[2Jred.png  any key returns" in lines[-1]
        assert "48;5;196m" in lines[0] and "before" not in shown
        tmux("send-keys", "C-c")
        shown = tmux.screen(lambda text: "after" in text)
        assert "before" in shown and "after True" in shown and "any key" not in shown


def test_from_an_app_and_back(tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    script = f"""
from pathlib import Path
from textual.app import App
from textual.widgets import Label
from saetui.terminal.full import show_full
from saetui.terminal.probe import Terminal

class Wall(App):
    keys = ""
    BINDINGS = [("v", "view", "")]
    def compose(self):
        yield Label("the app")
    def action_view(self):
        with self.suspend():
            show_full(Path({str(tmp_path / "red.png")!r}), Terminal(colours="256", rung="256", tmux=True), "red.png")
    def on_key(self, event):
        self.keys += event.key
        self.query_one(Label).update(f"the app heard {{self.keys}}.")

Wall().run()
"""
    with fake.Tmux(tmp_path, script, TERM="xterm-256color") as tmux:
        tmux.screen(lambda text: "the app" in text)
        tmux("send-keys", "v")
        assert "the app" not in tmux.screen(lambda text: "any key returns" in text)
        tmux("send-keys", "Up")  # a key of three bytes: none is left over for the app
        tmux.screen(lambda text: "the app heard" in text)
        tmux("send-keys", "w")
        tmux.screen(lambda text: "the app heard vw." in text)
