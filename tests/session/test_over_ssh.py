"""The workbench over SSH, 200 ms away each way: how long keys take, what they cost, what a lost connection leaves."""

import os
import signal
import statistics
import time
from itertools import pairwise

import pytest

from engine.reporter import Done, Progress
from engine.runs.run import runs
from engine.workspace import Workspace
from tests.session.conftest import which
from tests.support.link import Link, Server
from tests.support.shell import saetui
from tests.support.tmux import AT_REST, SAETUI, alive, processes

ONE_WAY = 0.2  # seconds
ROUND_TRIP = 2 * ONE_WAY
SOON = 1.9 * ROUND_TRIP  # a second round trip would take longer, whatever the machine
HEAD = "latents, "
TRUECOLOUR = b"48;2;"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("sshd"), which("sshd"))
    yield started
    started.close()


@pytest.fixture
def link(server):
    opened = Link(server.port, ONE_WAY)
    yield opened
    opened.close()


def connect(terminal, server, link, place, *flags, options=(), **environment):
    """Open the workbench over there; seconds until its first frame."""
    environment |= {"XDG_STATE_HOME": str(place.parent / "state"), "XDG_CONFIG_HOME": str(place.parent / "config")}
    command = " ".join([SAETUI, str(place), *flags])
    terminal.run("clear; " + server.command(link.port, command, *options, **environment))
    return terminal.until(lambda screen: screen.startswith(" saetui"), 30)


def action(terminal, link, keys, changed):
    """Press ``keys``; seconds until ``changed`` holds, and bytes until all is painted."""
    before = link.received
    begun = time.perf_counter()
    terminal.press(*keys)
    terminal.until(changed)
    seconds = time.perf_counter() - begun
    terminal.settle(ROUND_TRIP + 0.2)
    return seconds, link.received - before


def row(terminal):
    """The latent that the right side shows."""
    return terminal.screen.splitlines()[1].partition("│")[2].split()[0]


@pytest.mark.alone
@pytest.mark.parametrize(("options", "colours"), [((), "256"), (("-C",), "truecolor")], ids=["plain", "compressed"])
def test_keys_are_answered_after_one_round_trip(terminal, server, link, study, colours, options):
    flags = () if colours == "256" else ("--colours", colours)
    started = connect(terminal, server, link, study, *flags, options=options)
    terminal.until(HEAD)
    terminal.settle(0.6)
    assert "/ filter" in terminal.screen, "no reply to the probe was taken for keys"
    assert f"ssh {colours}" in terminal.screen.splitlines()[0]
    assert (TRUECOLOUR in terminal.written.partition(b"\x1b[?1049h")[2]) == (colours == "truecolor")

    def moved(before):
        return lambda _: row(terminal) != before

    costs = {"first frame": (started, link.received)}
    moves = [action(terminal, link, ["j"], moved(row(terminal))) for _ in range(5)]
    costs["down a row"] = tuple(map(statistics.median, zip(*moves, strict=True)))
    costs["half a page"] = action(terminal, link, ["C-d"], moved(row(terminal)))
    for key, title in (("2", "TRAIN"), ("4", "STEER"), ("3", "NEURONS")):
        costs[title] = action(terminal, link, [key], title)
    costs["filter"] = action(terminal, link, ["/", "w", "a"], lambda screen: " wa" in screen.splitlines()[3])
    costs["back"] = action(terminal, link, ["Escape"], "/ filter")
    for name, (seconds, size) in costs.items():
        print(f"{colours} {' '.join(options)} {name:<12} {1e3 * seconds:6.0f} ms {size:8,} bytes")
    late = {name: seconds for name, (seconds, _) in costs.items() if name != "first frame" and seconds > SOON}
    assert not late
    assert costs["down a row"][1] < 40_000


@pytest.mark.parametrize("size", [(80, 24), (20, 5)])
def test_small_windows_and_sizes_that_change(terminal, server, link, study, size):
    terminal.resize(*size)
    connect(terminal, server, link, study)
    terminal.settle(0.6)
    terminal.press("j", "j")
    small = terminal.settle(0.6)
    terminal.resize(120, 40)
    terminal.until(lambda screen: "? help" in screen.splitlines()[39])
    terminal.settle(0.6)
    terminal.resize(*size)
    terminal.settle(0.6)
    assert terminal.painted == small
    terminal.press("q")
    terminal.until(lambda _: terminal.modes == AT_REST)


STEPS = 10_000  # of a training that lasts longer than the connection


@pytest.mark.slow
def test_a_lost_connection_loses_nothing(terminal, server, link, study):
    """A latent is filtered and steered, a training started from its form; then the client is killed."""
    store = ("--model", "demo", "--at", "layer:4", "--tokens", "patches", "--name", "store")
    saetui("extract", "--images", "images/drawn", *store, cwd=study)
    connect(terminal, server, link, study)
    terminal.until(HEAD)
    terminal.type("/wa\rj")
    terminal.type("s:prompt what is this\r")
    terminal.until("prompt what is this")
    terminal.until("generating", 60)
    terminal.until(lambda screen: "generating" not in screen, 60)
    terminal.type("2n")
    terminal.until("New training")
    terminal.press(*["Tab"] * 3, "1", "Tab", "Tab", *str(STEPS), "Tab", *"256", "Enter")
    terminal.until(lambda screen: f"{STEPS / 1000:g}k" in screen and "●" in screen, 60)
    (run,) = [run for run in runs(Workspace(study)) if run.command.task == "train"]
    terminal.press("3")
    terminal.until(HEAD)
    before = terminal.settle(1.0, below_the_bar)
    trainer, step = run.status.pid, steps(run)[-1]
    ours = [*processes("-m saetui", study), *processes("engine.server", study)]
    assert len(ours) == 2, "the workbench and its model server"

    (client,) = processes("-tt", server.folder, "ssh")
    os.kill(client, signal.SIGKILL)
    killed = time.monotonic()
    while any(map(alive, ours)):
        assert time.monotonic() - killed < 5, [pid for pid in ours if alive(pid)]
        time.sleep(0.05)
    print(f"the old session was gone {time.monotonic() - killed:.1f} s after the kill, at step {step}")
    assert alive(trainer) and run.status.state == "running"

    terminal.run("reset")
    connect(terminal, server, link, study)
    terminal.until(HEAD)
    assert terminal.settle(1.0, below_the_bar) == before, "the mode, the filter, the latent and its pictures"
    terminal.press("4")
    terminal.until("prompt what is this")
    assert "1.0x" in terminal.screen, "the rack"
    terminal.press("2")
    terminal.until(lambda screen: f"{STEPS / 1000:g}k" in screen)
    ended = list(run.follow())[-1]
    assert isinstance(ended.event, Done) and run.status.pid == trainer
    seen = steps(run)
    assert seen == sorted(seen) and seen[0] < step < seen[-1] == STEPS
    times = [logged.time for logged in run.events()[0]]
    pauses = [after - before for before, after in pairwise(times)]
    assert max(pauses[10:-10]) < 3, "it never waited for anybody"


def below_the_bar(painted):
    """The screen but for its first line, which tells how far the training is."""
    return painted.partition("\n")[2]


def steps(run):
    events = [logged.event for logged in run.events()[0]]
    return [event.done for event in events if isinstance(event, Progress) and event.unit == "steps"]
