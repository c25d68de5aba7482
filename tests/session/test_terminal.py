"""The workbench in a real terminal: what it switches on and off, what it paints, what it survives."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from saetui.gc_tuning import IDLE
from tests.support.synthetic import write_synthetic
from tests.support.tmux import AT_REST, SAETUI, Terminal, alive, interface, megabytes, non_ascii, processes

MOUSE = re.compile(rb"\x1b\[\?(?:1000|1002|1003|1006|1015)h")
COLOUR = re.compile(rb"\x1b\[(?:[\d;:]*[;:])?((?:3|4|9|10)[0-8](?:[;:][\d;:]*)?)m")
HEAD = "latents, "  # of mode Neurons, when the scores are open
MODES = {"1": "DATA", "2": "TRAIN", "3": "NEURONS", "4": "STEER", "5": "HIERARCHY"}


def opened(terminal, place, *flags):
    terminal.run(" ".join([SAETUI, str(place), *flags]))
    terminal.until(HEAD)
    return terminal.settle()


def leave(terminal):
    terminal.press("q")
    terminal.until(lambda screen: screen.rstrip().endswith("$"))


def test_what_looks_alike_is_read_alike(terminal):
    alike = [
        (r"\e[38;5;1;48;5;2m▀", r"\e[38;5;2;48;5;1m▄"),
        (r"\e[38;5;1;48;5;2m▛▌", r"\e[38;5;2;48;5;1m▗▐"),
        (r"\e[38;5;1ma b", r"\e[38;5;1ma\e[38;5;2m \e[38;5;1mb"),
        (r"\e[48;5;1ma   ", r"\e[48;5;1ma\e[3X"),
    ]

    def lines(name, texts):
        end = r"\e[m\n"
        terminal.run(f"clear; printf '{end.join([*texts, name, ''])}'; read")
        terminal.until(lambda screen: name in screen.splitlines())
        lines = terminal.settle().split("\n")[: len(texts)]
        terminal.press("Enter")
        return lines

    ones, others = map(list, zip(*alike, strict=True))
    shown = lines("one", ones)
    assert lines("other", others) == shown
    changed = lines("changed", [text.replace("5;1", "5;3") for text in ones])
    assert all(one != other for one, other in zip(shown, changed, strict=True))


def test_q_leaves_the_terminal_as_it_was(terminal, drawn):
    opened(terminal, drawn)
    assert terminal.modes["alternate_on"] == terminal.modes["mouse_any_flag"] == "1"
    assert terminal.modes["cursor_flag"] == "0"
    leave(terminal)
    assert terminal.modes == AT_REST
    terminal.run("stty -a | tr ' ' '\\n' | grep -xE '[-]?(echo|icanon|isig|ixon|icrnl)' | sort | tr '\\n' ' '")
    terminal.until("echo icanon icrnl isig ixon")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("view", ["mode", "picture"])
def test_a_signal_leaves_the_terminal_as_it_was(terminal, drawn, number, view):
    terminal.run(f"{SAETUI} {drawn}; echo code $?")
    terminal.until(HEAD)
    terminal.settle()
    if view == "picture":
        terminal.press("v")
        terminal.until("any key returns")
    os.kill(interface(drawn), number)
    terminal.until(f"code {128 + number}")
    assert terminal.modes == AT_REST and "Traceback" not in terminal.screen
    terminal.run("stty -a | tr ' ' '\\n' | grep -xE '[-]?(echo|icanon|isig|ixon|icrnl)' | sort | tr '\\n' ' '")
    terminal.until("echo icanon icrnl isig ixon")


def test_a_terminal_that_is_closed_ends_the_workbench(tmp_path, drawn):
    with Terminal(tmp_path) as terminal:
        terminal.run(f"{SAETUI} {drawn}")
        terminal.until(HEAD)
        workbench = interface(drawn)
        terminal.press("j", "j")
    begun = time.monotonic()
    while alive(workbench):
        assert time.monotonic() - begun < 2
        time.sleep(0.02)


def test_ctrl_z_suspends_and_fg_paints_everything_again(terminal, drawn):
    before = opened(terminal, drawn)
    terminal.press("C-z")
    terminal.until("Stopped")
    assert terminal.modes == AT_REST
    terminal.run("clear; seq 3")
    terminal.until("1\n2\n3")
    terminal.run("fg")
    terminal.until(HEAD)
    assert terminal.settle() == before
    terminal.press("j")
    terminal.until(lambda _: terminal.painted != before)
    assert terminal.modes["mouse_any_flag"] == "1"


def test_a_picture_in_full_size_and_back(terminal, drawn):
    before = opened(terminal, drawn)
    terminal.press("v")
    terminal.until("any key returns")
    terminal.press("x")
    terminal.until(HEAD)
    assert terminal.settle() == before


def test_keys_that_arrive_at_once_go_where_each_should(terminal, drawn):
    opened(terminal, drawn)
    terminal.type("/wa\r:goto 64\r")
    terminal.until("64  fly swatter")
    assert " wa" in terminal.screen.splitlines()[3]
    terminal.type("s:prompt what is this\rb")
    terminal.until("prompt what is this")
    terminal.until("blank black")


def test_sizes_that_change_while_pictures_are_drawn(terminal, drawn):
    opened(terminal, drawn)
    for columns, rows in ((160, 50), (80, 24), (20, 5), (200, 60), (9, 2), (120, 40)):
        terminal.press("j", "C-d", "j")
        terminal.resize(columns, rows)
        terminal.press("k", "j")
        time.sleep(0.1)
    terminal.press("g")
    painted = terminal.settle(0.6)
    leave(terminal)
    assert opened(terminal, drawn) == painted, "as one that was started at this size"


@pytest.mark.parametrize("size", [(80, 24), (20, 5), (4, 1)])
def test_small_windows(terminal, drawn, size):
    terminal.resize(*size)
    terminal.run(f"{SAETUI} {drawn}")
    terminal.until(lambda _: terminal.modes["alternate_on"] == "1")
    for keys in (["j", "Enter", "m"], ["Escape"], [*MODES], ["3", "?"], ["Escape"]):
        terminal.press(*keys)
        terminal.settle()
    terminal.press("q")
    terminal.until(lambda _: terminal.modes == AT_REST)
    assert "Traceback" not in terminal.screen


def test_detached_and_attached_by_another_client(terminal, drawn, tmp_path):
    """``terminal`` shows a tmux in it, which is left and entered again with another size."""
    with Terminal(tmp_path, 100, 30) as inner:
        inner.tmux("set", "-g", "window-size", "latest")
        attach = f"env -u TMUX tmux -L {inner.socket} attach"
        terminal.run(attach)
        opened(inner, drawn)
        before = terminal.settle()
        assert HEAD in terminal.screen
        inner.tmux("detach-client")
        terminal.until("[detached")
        assert terminal.modes == AT_REST
        inner.press("j")
        terminal.resize(90, 28)
        terminal.run(attach)
        terminal.until("/ filter")
        terminal.settle()
        terminal.resize(120, 40)
        terminal.settle()
        terminal.press("k")
        terminal.until(lambda _: terminal.painted == before)


def test_without_a_terminal_there_is_one_sentence(terminal, drawn, tmp_path):
    sentence = "saetui: The workbench needs a terminal"
    done = subprocess.run(
        [sys.executable, "-m", "saetui", str(drawn)], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1
    assert terminal.exit_code(f"{SAETUI} {drawn} < /dev/null") == 2
    assert sentence in terminal.screen
    assert terminal.exit_code(f"{SAETUI} {drawn} 2> {tmp_path}/err") == 2
    assert (tmp_path / "err").read_text().startswith(sentence)
    assert b"\x1b[?1049h" not in terminal.written


def test_no_mouse_is_listened_to_where_it_is_not_wanted(terminal, drawn):
    opened(terminal, drawn, "--no-mouse")
    terminal.press(*MODES)
    terminal.settle()
    assert terminal.modes["mouse_any_flag"] == "0"
    assert not MOUSE.search(terminal.written)


def test_ascii_paints_nothing_else(terminal, drawn):
    opened(terminal, drawn, "--ascii")
    for key in (*MODES, "3", "j", "m", "o", "Escape", "?", "Escape", "J", "Escape", ":", "Escape", "s"):
        terminal.press(key)
        terminal.settle()
    terminal.until("steered")
    found = non_ascii(terminal.written)
    assert not found, f"{len(found)} of {sorted(set(found))}"


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_nothing_is_coloured_where_there_are_no_colours(tmp_path, drawn, variables):
    with Terminal(tmp_path, **variables) as terminal:
        opened(terminal, drawn)
        terminal.press("j", "m", *MODES)
        terminal.settle()
        found = set(COLOUR.findall(terminal.written.partition(b"\x1b[?1049h")[2]))
        assert not found, found
        terminal.press("q")
        terminal.until(lambda _: terminal.modes == AT_REST)


def test_a_model_server_that_is_killed_in_an_answer_is_said_and_r_asks_again(terminal, drawn):
    opened(terminal, drawn)
    terminal.press("s")
    terminal.until(lambda _: processes("engine.server", drawn))
    terminal.until("generating", 60)
    os.kill(processes("engine.server", drawn)[0], signal.SIGKILL)
    terminal.until(lambda screen: "r asks again" in " ".join(screen.split()))  # a long path wraps it
    assert "was killed by signal 9" in terminal.screen
    terminal.press("r")
    terminal.until(lambda screen: "asks again" not in screen and "…" not in screen.splitlines()[-2], 60)


def test_the_interface_never_maps_torch(terminal, drawn):
    opened(terminal, drawn)
    terminal.press("s")
    terminal.until("generating", 60)
    terminal.until(lambda screen: "generating" not in screen, 60)
    for key, title in MODES.items():
        terminal.press(key)
        terminal.until(title)
        terminal.settle()
    maps = Path(f"/proc/{interface(drawn)}/maps").read_text()
    assert "numpy" in maps and "torch" not in maps


@pytest.mark.slow
def test_memory_with_65_536_latents(tmp_path):
    place = write_synthetic(tmp_path / "large")
    with Terminal(tmp_path, 160, 50) as terminal:
        opened(terminal, place)
        for key, title in MODES.items():
            terminal.press(key)
            terminal.until(title)
            terminal.settle()
        terminal.press("3")
        used = []
        for _ in range(5):
            for _ in range(100):
                terminal.press(*"jjjjjjjjjj")
                time.sleep(0.1)
            terminal.settle()
            time.sleep(IDLE + 1)  # garbage is collected when nobody types
            used.append(megabytes(interface(place)))
        print("MB after each thousand latents:", *(round(size) for size in used))
        # The caches of colours and pictures are full after two thousand latents; from then on, nothing stays.
        assert used[4] < 300 and used[4] - used[1] < 5, used
