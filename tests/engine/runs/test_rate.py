"""One rate and one time left, wherever they are shown."""

from pathlib import Path

import pytest

from engine.reporter import StageBegan
from engine.runs.events import StreamReporter
from engine.runs.rate import Rate, seconds_left
from engine.runs.trainings import trainings
from engine.runs.watch import RunWatch
from engine.settings import to_mapping
from engine.workspace import Workspace
from tests.support.trainings import begin, chosen


def test_a_rate_is_about_the_last_seconds_of_one_work() -> None:
    rate = Rate()
    assert rate.value is None
    for second in range(30):
        rate.see(second, min(second, 20) * 2 + max(second - 20, 0) * 7)
    assert rate.value == pytest.approx(6.5, abs=1)
    rate.see(30, 3)
    assert rate.value is None, "fewer than before: another work"
    rate.see(31, 5)
    assert rate.value == 2 and seconds_left(5, 15, rate.value) == 5
    assert seconds_left(5, 15, None) is None and seconds_left(20, 15, 1.0) == 0
    rate.restart()
    assert rate.value is None


def test_the_head_and_the_table_of_trainings_tell_the_same_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read what the worker measured; each had a rate of its own, over other seconds."""
    run = begin(workspace, **to_mapping(chosen(steps=1000, batch_size=64)))
    held, now = run.hold(), [100.0]
    monkeypatch.setattr("engine.runs.events.time.monotonic", lambda: now[0])
    reporter = StreamReporter(run.path)
    reporter.event(StageBegan("train"))
    watch = RunWatch(workspace)
    for step, pace in [(100, 1.0), (110, 5.0), (400, 2.0)]:
        now[0] += pace
        reporter.progress(step, 1000, "steps", loss=1.0)
        head, row = watch.look()[0], trainings(workspace)[0]
        assert head.seconds_left == row.eta == seconds_left(step, 1000, head.rate)
        assert head.rate == row.rate
    assert head.rate == pytest.approx(300 / 7)
    (Path(run.path) / "control").write_text("")
    held.close()
