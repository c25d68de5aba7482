"""What terminals answer, and what is made of it: as bytes, on a real pty and in a real tmux."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from saetui.terminal.probe import QUERIES, Replies, Rung, Terminal, ask, choose, environment, parse, parse_tmux
from tests.support import fake_terminal as fake
from tests.support import tmux

# As the terminals write them, in the order of the questions.
XTERM = b"\x1bP>|XTerm(379)\x1b\\\x1bP1$r48:5:16m\x1b\\\x1b[6;13;6t\x1b[?64;1;2;6;9;15;16;17;18;21;22;28c"
XTERM_DIRECT = XTERM.replace(b"48:5:16m", b"0;48:2::1:2:3m")
KITTY_26 = b"\x1bP>|kitty(0.26.5)\x1b\\\x1b_Gi=31;OK\x1b\\\x1bP1$r48:2:1:2:3m\x1b\\\x1b[6;18;9t\x1b[?62;c"
KITTY_35 = KITTY_26.replace(b"0.26.5", b"0.35.2")
FOOT = b"\x1bP>|foot(1.16.2)\x1b\\\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[6;20;10t\x1b[?62;4;22;28c"
GHOSTTY = b"\x1bP>|ghostty 1.0.1\x1b\\\x1b_Gi=31;OK\x1b\\\x1bP1$r0;48:2::1:2:3m\x1b\\\x1b[6;34;16t\x1b[?62;22c"
TMUX = b"\x1bP>|tmux 3.3a\x1b\\\x1b[?1;2c"
OLD = b"\x1b[?6c"
ANSWERS = {
    "xterm": (XTERM, Replies("XTerm", "379", cell=(6, 13), complete=True)),
    "xterm-direct": (XTERM_DIRECT, Replies("XTerm", "379", truecolor=True, cell=(6, 13), complete=True)),
    "kitty": (KITTY_26, Replies("kitty", "0.26.5", True, kitty=True, cell=(9, 18), complete=True)),
    "foot": (FOOT, Replies("foot", "1.16.2", True, sixel=True, cell=(10, 20), complete=True)),
    "ghostty": (GHOSTTY, Replies("ghostty", "1.0.1", True, kitty=True, cell=(16, 34), complete=True)),
    "tmux": (TMUX, Replies("tmux", "3.3a", complete=True)),
    "old": (OLD, Replies(complete=True)),
    "silent": (b"", Replies()),
    "typed ahead": (b"jjq\x1b[A\x1b[1;5C", Replies()),
    "refusing": (b"\x1bP0$r\x1b\\\x1b_Gi=31;ENOTSUP:no\x1b\\\x1b[6;0;0t\x1b[?4c", Replies(complete=True)),
}
ASK = """
import json, sys, termios, select
from dataclasses import asdict
from saetui.terminal.probe import probe
before = termios.tcgetattr(0)
terminal = probe(limit={limit})
left = bool(select.select([0], [], [], 0)[0])
print(json.dumps(asdict(terminal) | dict(restored=termios.tcgetattr(0) == before, left=left)), file=sys.stderr)
"""


@pytest.mark.parametrize("name", ANSWERS)
def test_replies(name: str) -> None:
    data, meaning = ANSWERS[name]
    assert parse(data) == meaning


@given(st.binary(max_size=80), st.sampled_from([XTERM, KITTY_35, FOOT, GHOSTTY]))
def test_replies_are_found_among_keys_and_garbage(noise: bytes, data: bytes) -> None:
    parse(noise)  # whatever it is, it is no mistake
    keys = noise.translate(None, b"\x1b")
    assert parse(keys + data + keys) == parse(data)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        (
            "3.4\txterm-kitty\tkitty(0.35.2)\t256,RGB,title\ton\t9\t18",
            Replies("tmux", "3.4", truecolor=True, kitty=True, cell=(9, 18), complete=True),
        ),
        (
            "3.4\txterm-kitty\tkitty(0.26.5)\t256,RGB\ton\t9\t18",
            Replies("tmux", "3.4", truecolor=True, cell=(9, 18), complete=True),
        ),
        ("3.4\txterm-kitty\tkitty(0.35.2)\tRGB\toff\t\t", Replies("tmux", "3.4", truecolor=True, complete=True)),
        (
            "3.4\tfoot\tfoot(1.16.2)\t256,sixel\toff\t0\t0",
            Replies("tmux", "3.4", sixel=True, complete=True),
        ),
        ("3.3a\t\t\t\toff\t\t", Replies("tmux", "3.3a")),
        ("", Replies("tmux")),
    ],
)
def test_what_tmux_says(line: str, meaning: Replies) -> None:
    assert parse_tmux(line) == meaning


@pytest.mark.parametrize(
    ("pieces", "term", "rung", "name"),
    [
        ([KITTY_35], "xterm-kitty", "kitty", "kitty"),
        ([KITTY_35[:7], KITTY_35[7:31], KITTY_35[31:-1], KITTY_35[-1:]], "xterm-kitty", "kitty", "kitty"),
        ([KITTY_26], "xterm-kitty", "truecolor", "kitty"),
        ([b"jj", FOOT, b"\x1b[B"], "foot", "sixel", "foot"),
        ([XTERM], "xterm-256color", "256", "XTerm"),
        ([OLD], "xterm", "mono", ""),
    ],
)
def test_on_a_terminal(pieces: list[bytes], term: str, rung: str, name: str) -> None:
    told = fake.on_a_terminal(ASK.format(limit=10), pieces, TERM=term)
    assert (told["rung"], told["name"], told["tty"]) == (rung, name, True)
    assert (told["columns"], told["rows"]) == (100, 30)
    assert told["restored"] and told["seconds"] < 5


def test_a_silent_terminal_costs_the_limit_and_is_known_by_its_name() -> None:
    told = fake.on_a_terminal(ASK.format(limit=0.3), [b"jjj"], TERM="xterm-256color", COLORTERM="truecolor")
    assert told["rung"] == "truecolor" and told["name"] == ""
    assert 0.3 <= told["seconds"] < 2
    assert told["restored"] and not told["left"]  # keys typed meanwhile are thrown away


def test_a_dumb_terminal_is_not_asked() -> None:
    told = fake.on_a_terminal(ASK.format(limit=10), [KITTY_35], TERM="dumb")
    assert told["rung"] == "mono" and told["seconds"] < 1
    assert "TERM" in told["advice"][0]


def test_a_process_in_the_background_leaves_the_terminal_alone() -> None:
    script = """
import json, os, sys
from saetui.terminal.probe import ask
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    print(json.dumps(ask(limit=5).decode()), file=sys.stderr, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    assert fake.on_a_terminal(script, [KITTY_35]) == ""


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    assert ask(str(tmp_path / "no terminal")) == b""
    assert ask(os.devnull) == b""


@pytest.mark.parametrize(("features", "colours"), [(",*:RGB", "truecolor"), ("", "256")], ids=["RGB", "256"])
def test_in_tmux(tmp_path: Path, features: str, colours: str) -> None:
    (tmp_path / "script.py").write_text(f"""
import json, pathlib
from dataclasses import asdict
from saetui.terminal.probe import probe
pathlib.Path({str(tmp_path / "told")!r}).write_text(json.dumps(asdict(probe())))
print("done")
""")
    with tmux.Terminal(tmp_path) as terminal:
        terminal.tmux("set", "-as", "terminal-features", features)
        client = fake.attach(terminal.socket, "xterm-256color")
        while not terminal.tmux("list-clients"):
            time.sleep(tmux.POLL)
        server = terminal.tmux("display-message", "-p", "#{socket_path},#{pid},0").strip()
        terminal.run(f"TMUX={server} {sys.executable} {tmp_path / 'script.py'}")
        terminal.until("done")
    client.wait(10)
    told = json.loads((tmp_path / "told").read_text())
    assert (told["name"], told["tmux"], told["colours"]) == ("tmux", True, colours)
    assert told["seconds"] < 2 and not told["kitty"]
    assert ("RGB" in " ".join(told["advice"])) == (colours == "256")


FULL = Terminal(term="xterm-kitty", name="kitty", version="0.35.2", colours="truecolor", kitty=True, tty=True)


@pytest.mark.parametrize(
    ("terminal", "env", "rung", "colours"),
    [
        (FULL, {}, "kitty", "truecolor"),
        (replace(FULL, version="0.26.5"), {}, "truecolor", "truecolor"),
        (replace(FULL, name="ghostty", version="1.0.1"), {}, "kitty", "truecolor"),
        (replace(FULL, name="konsole", sixel=True), {}, "sixel", "truecolor"),
        (replace(FULL, colours="256"), {}, "256", "256"),
        (replace(FULL, colours="16"), {}, "mono", "mono"),
        (replace(FULL, tmux=True, name="tmux"), {}, "truecolor", "truecolor"),
        (FULL, {"NO_COLOR": "1"}, "mono", "mono"),
        (FULL, {"NO_COLOR": ""}, "kitty", "truecolor"),
    ],
)
def test_the_ladder(terminal: Terminal, env: dict[str, str], rung: str, colours: str) -> None:
    chosen = choose(terminal, environ=env)
    assert (chosen.rung, chosen.picture_colours) == (rung, colours)


@pytest.mark.parametrize("rung", get_args(Rung))
def test_a_flag_outranks_the_probe(rung: str) -> None:
    assert choose(Terminal(), rung, {"NO_COLOR": "1"}).rung == rung


def test_a_flag_says_what_the_terminal_has() -> None:
    assert choose(Terminal(), "kitty").kitty and choose(Terminal(), "sixel").sixel
    assert [choose(FULL, colours).colours for colours in ("truecolor", "256", "16")] == ["truecolor", "256", "16"]
    assert choose(FULL, "16").picture_colours == choose(FULL, "mono").picture_colours == "mono"


def test_a_flag_that_is_no_rung_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"'braille' is not a way to draw pictures: choose auto, kitty, .* 16, mono"):
        choose(FULL, "braille")


@pytest.mark.parametrize(
    ("terminal", "env", "words"),
    [
        (replace(FULL, columns=120, rows=40), {}, []),
        (replace(FULL, columns=60, rows=20), {}, ["60x20 cells"]),
        (replace(FULL, ssh=True), {}, ["ssh -C"]),
        (replace(FULL, colours="256"), {}, ["COLORTERM"]),
        (replace(FULL, colours="256", tmux=True, columns=70), {}, ["terminal-features", "70x24"]),
        (FULL, {"NO_COLOR": "1"}, ["NO_COLOR"]),
        (replace(FULL, term="dumb", colours="mono"), {}, ["TERM"]),
        (replace(FULL, tty=False, colours="256"), {}, []),
    ],
)
def test_advice(terminal: Terminal, env: dict[str, str], words: list[str]) -> None:
    advice = choose(terminal, environ=env).advice
    assert len(advice) == len(words)
    assert all(word in sentence for word, sentence in zip(words, advice, strict=True))


@pytest.mark.parametrize(
    ("terminal", "system", "no_color"),
    [
        (FULL, "truecolor", False),
        (replace(FULL, colours="256", rung="256"), "256", False),
        (replace(FULL, colours="16"), "standard", False),
        (replace(FULL, rung="mono"), "truecolor", True),
        (choose(FULL, "256"), "256", False),
    ],
)
def test_textual_is_told_what_the_terminal_has(terminal: Terminal, system: str, no_color: bool) -> None:
    if terminal is FULL:
        terminal = choose(FULL, environ={})
    script = "from textual.app import App; app = App(); print(app.console.color_system, app.no_color)"
    env = fake.environment(TERM="xterm", **environment(terminal))
    said = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout
    assert said.split() == [system, str(no_color)]


def test_asking_is_light() -> None:
    script = "import sys, saetui.terminal.probe; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], env=fake.environment(), capture_output=True, text=True)
    heavy = {"textual", "rich", "numpy", "PIL", "torch", "subprocess", "asyncio"}
    assert "saetui.terminal.probe" in run.stdout.split()
    assert not heavy & set(run.stdout.split())


def test_the_sentinel_is_asked_last_and_once() -> None:
    assert QUERIES.endswith(b"\x1b[c") and QUERIES.count(b"\x1b[c") == 1


@pytest.mark.parametrize(("term", "erases"), [("xterm-256color", True), ("vt100", False), ("no-such-terminal", False)])
def test_terminfo_says_whether_cells_are_erased_in_colour(term: str, erases: bool) -> None:
    asked = "from saetui.terminal.probe import probe; print(probe().erases)"
    env = {**os.environ, "TERM": term}
    env.pop("TMUX", None)
    done = subprocess.run(
        [sys.executable, "-c", asked], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.stdout == f"{erases}\n", done.stderr
