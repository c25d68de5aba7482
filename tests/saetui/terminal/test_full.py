"""A picture on the whole terminal: what is written for each protocol, and the view itself in a real tmux."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from saetui.terminal import probe
from saetui.terminal.full import rendered, show_full
from tests.support.tmux import Terminal

RED = Image.new("RGB", (40, 40), (250, 10, 10))
TRUECOLOR = probe.Terminal(colours="truecolor", rung="truecolor")


def test_kitty_gets_one_image() -> None:
    written = rendered(RED, probe.Terminal(name="kitty", colours="truecolor", rung="kitty", kitty=True), 20, 10)
    assert written.count("\x1b_Ga=T,f=24") == 1 and "▀" not in written


def test_iterm_gets_its_own() -> None:
    written = rendered(RED, probe.Terminal(name="iTerm2", colours="truecolor", rung="truecolor"), 20, 10)
    assert written.count("\x1b]1337;File=") == 1


@pytest.mark.parametrize("terminal", [TRUECOLOR, probe.Terminal(name="kitty", kitty=True, tmux=True, rung="truecolor")])
def test_others_get_cells(terminal: probe.Terminal) -> None:
    lines = rendered(RED, terminal, 20, 10).split("\n")
    assert len(lines) == 10
    assert all("48;2;250;10;10m" in line and re.sub(r"\x1b\[[\d;]*m", "", line) == " " * 20 for line in lines)


def test_few_colours_are_respected() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    assert ";2;" not in rendered(noise, probe.Terminal(colours="256", rung="256"), 20, 10)
    glyphs = rendered(noise, probe.Terminal(colours="16", rung="mono", kitty=True), 20, 10, ascii=True)
    assert glyphs.isascii() and "\x1b" not in glyphs


def test_what_is_no_picture_is_said_before_anything_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for name, words in (("a.png", "not an image"), ("b.png", "There is no image")):
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
    with Terminal(tmp_path) as terminal:
        run_script(terminal, tmp_path, script)
        terminal.until("any key returns")
        shown = terminal.tmux("capture-pane", "-ep")
        lines = shown.rstrip("\n").split("\n")
        assert "[red]9.81[/] \ufffd[2Jred.png  any key returns" in lines[-1]
        assert "48;5;196m" in lines[0] and "before" not in shown
        terminal.press("C-c")
        terminal.until("after True")
        assert "before" in terminal.screen and "any key" not in terminal.screen


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
    with Terminal(tmp_path) as terminal:
        run_script(terminal, tmp_path, script)
        terminal.until("the app")
        terminal.press("v")
        terminal.until("any key returns")
        assert "the app" not in terminal.screen
        terminal.press("Up")  # a key of three bytes: none is left over for the app
        terminal.until("the app heard")
        terminal.press("w")
        terminal.until("the app heard vw.")


def run_script(terminal: Terminal, folder: Path, script: str) -> None:
    (folder / "script.py").write_text(script)
    terminal.run(f"{sys.executable} {folder / 'script.py'}")
