"""What doctor says of the terminal, beside the machine and the workspace."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from saetui.cli.doctor import COLOURS, RUNGS, _terminal
from saetui.terminal.probe import Terminal
from tests.support.shell import saetui

KITTY = Terminal(
    term="xterm-kitty",
    name="kitty",
    version="0.35.2",
    colours="truecolor",
    kitty=True,
    cell=(9, 18),
    columns=160,
    rows=50,
    ssh=True,
    tty=True,
    rung="kitty",
    seconds=0.0042,
)


def test_a_terminal_in_words() -> None:
    assert _terminal(KITTY) == [
        "terminal   kitty 0.35.2, xterm-kitty, ssh, 160x50, cells of 9x18 pixels",
        "           24-bit colour, kitty graphics; asked in 4 ms",
        "pictures   cells in 24-bit colour; by kitty's protocol in full size",
    ]


def test_tmux_is_named_once_and_no_terminal_is_said() -> None:
    tmux = replace(KITTY, name="tmux", version="3.4", tmux=True, ssh=False, cell=None, kitty=False, sixel=True)
    assert _terminal(tmux)[0] == "terminal   tmux 3.4, xterm-kitty, 160x50"
    assert "sixel graphics" in _terminal(tmux)[1]
    nothing = _terminal(Terminal())
    assert nothing[0] == "terminal   unknown, 80x24"
    assert "not asked" in nothing[1]


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("colours", COLOURS)
def test_every_rung_has_words(rung: str, colours: str) -> None:
    lines = _terminal(replace(KITTY, rung=rung, colours=colours))
    assert COLOURS[colours] in lines[1] and lines[2].endswith(RUNGS[rung])
    assert all(len(line) <= 80 for line in lines)


def test_doctor_in_a_pipe(tmp_path: Path) -> None:
    report = json.loads(saetui("doctor", "--json", cwd=tmp_path).stdout)
    assert report["terminal"]["tty"] is False and report["terminal"]["rung"] in RUNGS
    assert not any("TERM" in sentence for sentence in report["advice"])


def test_results_are_counted_with_what_a_workspace_holds(tmp_path: Path) -> None:
    for name in ("concepts/a--b.json", "stability/a.json", "recipes/c.toml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    place = json.loads(saetui("doctor", "--json", cwd=tmp_path).stdout)["workspace"]
    assert {kind: place[kind] for kind in ("concepts", "fidelity", "stability", "recipes", "saes")} == {
        "concepts": 1, "fidelity": 0, "stability": 1, "recipes": 1, "saes": 0,
    }  # fmt: skip
    assert "2 other results" in saetui("doctor", cwd=tmp_path).stdout
