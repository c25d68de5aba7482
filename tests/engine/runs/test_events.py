import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from engine.errors import Stopped
from engine.reporter import Done, Progress, StageBegan, kind_of
from engine.runs import memory
from engine.runs.events import EventLog, StreamReporter, read_events


def test_sequence_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(Progress(1, 3, "steps"))
    log.append(Progress(2, 3, "steps"))
    log.close()
    path.write_bytes(path.read_bytes()[:-9])  # as a kill in the middle of a write leaves it
    assert [e.seq for e in read_events(path)[0]] == [1]
    again = EventLog(path)
    again.append(Progress(3, 3, "steps"))
    events, offset = read_events(path)
    assert [(e.seq, e.event.done) for e in events] == [(1, 1), (2, 3)]
    assert offset == path.stat().st_size


def test_reading_goes_on_from_an_offset(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    assert read_events(path) == ([], 0)
    log.append(StageBegan("é"))
    first, offset = read_events(path)
    log.append(StageBegan("b"))
    with open(path, "ab") as file:
        file.write(b'{"seq": 3, "torn')
    second, end = read_events(path, offset)
    assert [e.event.name for e in first + second] == ["é", "b"]
    assert read_events(path, end) == ([], end)


def test_control_stops_and_pauses(tmp_path):
    reporter = StreamReporter(tmp_path)
    reporter.check()
    (tmp_path / "control").write_text("stop")
    with pytest.raises(Stopped):
        reporter.check()


def test_status_follows_progress(tmp_path):
    reporter = StreamReporter(tmp_path)
    reporter.event(StageBegan("training"))
    reporter.progress(5, 5, "steps", fve=0.5)
    reporter.finish(Done({"x": 1}))
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "done" and status["stage"] == "training" and status["result"] == {"x": 1}
    assert status["progress"] == {"done": 5, "total": 5, "unit": "steps", "fve": 0.5}
    assert [kind_of(e.event) for e in read_events(tmp_path / "events.jsonl")[0]] == ["stage", "progress", "done"]


def test_status_tells_the_memory_now_and_then(tmp_path):
    reporter = StreamReporter(tmp_path)
    reporter.every = 0.0
    reporter.progress(1, 9, "steps")
    first = json.loads((tmp_path / "status.json").read_text())["memory"]
    assert first["rss"] > 10e6
    ballast = bytearray(os.urandom(1 << 20)) * 64
    reporter.progress(2, 9, "steps")
    assert json.loads((tmp_path / "status.json").read_text())["memory"] == first  # two seconds have not passed
    reporter.memory_every = 0.0
    reporter.progress(3, 9, "steps")
    grown = json.loads((tmp_path / "status.json").read_text())["memory"]["rss"] - first["rss"]
    assert 0.9 * len(ballast) < grown < 2 * len(ballast)


def test_memory_without_proc_and_without_torch(tmp_path):
    script = (
        "import sys; from pathlib import Path; from engine.runs import memory; now = memory.memory(); "
        "memory._STATM = Path(sys.argv[1]); most = memory.memory(); "
        "print(0.9 * now.rss <= most.rss < 500 * now.rss, now.gpu, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "none")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [
        "True", "None", "False",
    ]  # fmt: skip


def test_the_accelerator_counts_once_it_is_in_use(monkeypatch):
    """No such device here: what torch would answer."""
    cuda = SimpleNamespace(
        is_initialized=lambda: False,
        mem_get_info=lambda: (101 << 30, 139 << 30),
        get_device_name=lambda: "a card",
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert memory.memory().gpu is None
    cuda.is_initialized = lambda: True
    assert memory.memory().gpu == memory.GpuMemory("a card", 38 << 30, 139 << 30)

    def broken():
        raise RuntimeError("device lost")

    cuda.mem_get_info = broken
    assert memory.memory().gpu is None


def test_a_run_takes_as_long_as_it_takes_whatever_the_clock_is_set_to(tmp_path, monkeypatch):
    reporter = StreamReporter(tmp_path)
    monkeypatch.setattr("engine.runs.events.time.time", lambda: 5.0)  # set back, by decades
    reporter.finish(Done(None))
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["ended"] == 5.0 and 0 <= status["took"] < 60
