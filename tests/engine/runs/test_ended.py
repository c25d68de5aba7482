"""How a worker's end is told: stopped, ended by a signal, killed, for memory or not."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from engine.files import write_json
from engine.reporter import Event, Failed, Progress, StoppedEarly
from engine.runs.attached import Attached
from engine.runs.memory import killed, lost, memory_kills
from engine.runs.run import Run
from engine.workspace import Workspace
from tests.support.stores import write_store

SETTINGS = {"activations": "a", "name": "s", "expansion": 2.0, "k": 2, "steps": 10**6, "batch_size": 16}


@pytest.fixture
def training(tmp_path: Path) -> Attached:
    place = Workspace(tmp_path / "w")
    write_store(place.activations("a"), np.random.default_rng(0).normal(size=(64, 8)))
    return Attached(place, "train", SETTINGS)


def ended_by(training: Attached, *signals: int) -> object:
    sent = False

    def hit(event: Event) -> None:
        nonlocal sent
        if isinstance(event, Progress) and not sent:
            sent = True
            assert training._process
            for number in signals:
                os.kill(training._process.pid, number)
                time.sleep(0.05)

    return training.end(hit)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_that_is_asked_to_end_stops_where_it_can_go_on(number: int, training: Attached) -> None:
    end = ended_by(training, number)
    assert isinstance(end, StoppedEarly) and re.fullmatch(r"step [\d,]+ is kept", end.kept)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGBUS])
def test_a_signal_that_ends_it_at_once_is_named(number: signal.Signals, training: Attached) -> None:
    end = ended_by(training, number)
    assert isinstance(end, Failed) and end.mistake
    assert number.name in end.error and end.error.endswith("the same command again, it continues.")


def test_a_detached_run_tells_why_its_worker_crashed(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    write_store(place.activations("a"), np.random.default_rng(0).normal(size=(64, 8)))
    run = Run.create(place, "train", SETTINGS, [])
    run.detach()
    deadline = time.monotonic() + 120
    while run.status.state == "starting" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.status.pid
    os.kill(run.status.pid, signal.SIGBUS)
    while run.status.state != "died" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "SIGBUS" in (run.status.error or "") and f"saetui jobs resume {run.id}." in (run.status.error or "")


def test_a_crash_is_a_bug_with_its_signal(training: Attached) -> None:
    end = ended_by(training, signal.SIGSEGV)
    assert isinstance(end, Failed) and not end.mistake and "was ended by SIGSEGV" in end.error


def test_memory_is_named_where_the_system_counted_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, groups, system = tmp_path / "cgroup", tmp_path / "fs", tmp_path / "vmstat"
    assert memory_kills(group, groups, system) is None
    system.write_text("nr_free_pages 5\noom_kill 7\n")
    assert memory_kills(group, groups, system) == 7
    group.write_text("4:memory:/one\n1:cpu:/\n0::/two\n")
    (groups / "two").mkdir(parents=True)
    (groups / "two" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert memory_kills(group, groups, system) == 2
    (groups / "memory" / "one").mkdir(parents=True)
    (groups / "memory" / "one" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    assert memory_kills(group, groups, system) == 1
    monkeypatch.setattr("engine.runs.memory.memory_kills", lambda: 4)
    assert killed(3) == "killed by the system, as memory was full"
    assert killed(4) == "killed by SIGKILL, though not for memory"
    assert killed(None) == "killed by SIGKILL, perhaps for memory: the system does not say"
    assert lost(4) == "ended from outside, though not for want of memory"
    assert lost(3).startswith("ended from outside, perhaps for want of memory")
    assert lost(None) == lost(5) == "ended from outside, by hand or for want of memory"


def test_a_detached_run_that_was_killed_is_told_with_a_look(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    run = Run.create(place, "verify", {"store": "a"}, [])
    before = memory_kills()
    told = {"state": "running", "pid": 1, "started": time.time(), "kills": before}
    write_json(run.path / "status.json", {name: value for name, value in told.items() if value is not None})
    assert run.status.state == "died"
    assert run.status.error == f"Its worker was {lost(before)}. Go on with saetui jobs resume {run.id}."
