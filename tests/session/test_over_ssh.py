"""The workbench over SSH, 100 ms away each way: how long keys take, what they cost, what a lost connection leaves."""

import statistics
import time

import pytest

from tests.session.conftest import which
from tests.session.link import Link, Server
from tests.session.tmux import AT_REST, SAETUI

ONE_WAY = 0.1  # seconds
ROUND_TRIP = 2 * ONE_WAY
SOON = ROUND_TRIP + 0.2  # what a key may take here until its change is seen
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
    return terminal.until("saetui", 30)


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


@pytest.mark.parametrize("colours", ["256", "truecolor"])
@pytest.mark.parametrize("options", [(), ("-C",)], ids=["plain", "compressed"])
def test_keys_are_answered_after_one_round_trip(terminal, server, link, study, colours, options, record_property):
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
    moves = [action(terminal, link, ["j"], moved(row(terminal))) for _ in range(8)]
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
