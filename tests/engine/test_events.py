import json

import pytest

from engine.errors import Stopped
from engine.events import EventLog, StreamReporter, read_events


def test_sequence_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append("progress", done=1)
    log.append("progress", done=2)
    log.close()
    path.write_bytes(path.read_bytes()[:-9])  # as a kill in the middle of a write leaves it
    assert [e["seq"] for e in read_events(path)[0]] == [1]
    again = EventLog(path)
    again.append("progress", done=3)
    events, offset = read_events(path)
    assert [(e["seq"], e["done"]) for e in events] == [(1, 1), (2, 3)]
    assert offset == path.stat().st_size


def test_reading_goes_on_from_an_offset(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    assert read_events(path) == ([], 0)
    log.append("stage", name="é")
    first, offset = read_events(path)
    log.append("stage", name="b")
    with open(path, "ab") as file:
        file.write(b'{"seq": 3, "torn')
    second, end = read_events(path, offset)
    assert [e["name"] for e in first + second] == ["é", "b"]
    assert read_events(path, end) == ([], end)


def test_control_stops_and_pauses(tmp_path):
    reporter = StreamReporter(tmp_path)
    reporter.check()
    (tmp_path / "control").write_text("stop")
    with pytest.raises(Stopped):
        reporter.check()


def test_status_follows_progress(tmp_path):
    reporter = StreamReporter(tmp_path)
    reporter.event("stage", name="training")
    reporter.progress(5, 5, "steps", fve=0.5)
    reporter.finish("done", result={"x": 1})
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "done" and status["stage"] == "training" and status["result"] == {"x": 1}
    assert status["progress"] == {"done": 5, "total": 5, "unit": "steps", "fve": 0.5}
    assert [e["kind"] for e in read_events(tmp_path / "events.jsonl")[0]] == ["stage", "progress", "done"]
