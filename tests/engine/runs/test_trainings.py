"""The table of trainings: real runs joined with what is on disk, and everything that can be wrong with either."""

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Stopped, UserError
from engine.files import write_json
from engine.records import to_json
from engine.reporter import event_from_json
from engine.runs import trainings as runs
from engine.runs.events import EventLog
from engine.runs.memory import Memory
from engine.runs.run import Run
from engine.runs.trainings import (
    FrozenTwin,
    LoggedTraining,
    ThinnedSeries,
    Training,
    TrainingLog,
    Trainings,
    clone,
    trainings,
)
from engine.sae.results import MeasuredStep
from engine.sae.state import checkpoint_path
from engine.sae.train import train
from engine.settings import to_mapping
from engine.workspace import Workspace
from tests.support.foreign import READS, bring, write_saelens
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, begin, chosen, perform


@pytest.fixture
def store(workspace: Workspace):
    return write_store(workspace.activations("a"), activations()[0], tokens=4)


def only(workspace: Workspace) -> Training:
    (row,) = trainings(workspace)
    return row


def test_a_finished_training(workspace, store):
    run = begin(workspace)
    assert only(workspace).state == "starting"
    assert perform(run) == 0
    row = only(workspace)
    written = json.loads((workspace.sae("s") / "training.json").read_text())
    assert (row.name, row.state, row.step, row.steps, row.run) == ("s", "done", 30, 30, run.id)
    assert to_json(row.history) == written["history"] and [m.step for m in row.history] == [10, 20, 30]
    assert [step for step, _ in row.loss] == list(range(1, 31))
    assert dict(row.loss)[20] == row.history[1].loss
    assert row.settings == chosen() and written["settings"] == to_mapping(chosen())
    assert row.rate is row.eta is row.memory is row.waiting is row.error is None


def test_an_interrupted_training_goes_on_in_the_same_row(workspace, store):
    train(chosen(name="whole"), workspace)
    run = begin(workspace)
    assert perform(run, stop_after=12) == 3
    row = next(row for row in trainings(workspace) if row.name == "s")
    assert (row.state, row.step, row.error) == ("stopped", 12, None)
    assert [m.step for m in row.history] == [10] and len(row.loss) == 12
    assert perform(run) == 0
    row, whole = (next(row for row in trainings(workspace) if row.name == name) for name in ("s", "whole"))
    assert row.state == whole.state == "done" and row.history == whole.history
    assert [step for step, _ in row.loss] == list(range(1, 31))
    assert whole.run is None and [step for step, _ in whole.loss] == [10, 20, 30]  # no log: its measurements


def test_another_run_that_goes_on_continues_the_curves(workspace, store):
    perform(begin(workspace), stop_after=12)
    second = begin(workspace)
    assert perform(second, stop_after=11) == 3  # from step 12 on
    row = only(workspace)
    assert (row.state, row.step, row.run) == ("stopped", 23, second.id)
    assert [step for step, _ in row.loss] == list(range(1, 24)) and [m.step for m in row.history] == [10, 20]


def test_a_mistake_is_told_in_its_sentence(workspace, store):
    assert perform(begin(workspace, **to_mapping(chosen(k=99)))) == 2
    row = only(workspace)
    assert (row.state, row.steps) == ("failed", 30) and row.error.startswith("--k 99 is more than the 32 latents")


def live(run: Run, state: str, **status) -> None:
    write_json(run.path / "status.json", {"state": state, "started": time.time(), "pid": 1, **status})


def log_of(run: Run, events: list[dict]) -> None:
    with open(run.path / "events.jsonl", "a") as file:
        for seq, event in enumerate(events, 1):
            file.write(json.dumps({"seq": seq, "time": 1000.0, **event}) + "\n")


def steps(first: int, last: int, per_second: float = 10, total: int = 1000, **more) -> list[dict]:
    return [
        {"kind": "progress", "done": s, "total": total, "unit": "steps", "loss": 1 / s, "time": s / per_second, **more}
        for s in range(first, last + 1)
    ]


def test_a_running_training_tells_its_pace(workspace):
    run = begin(workspace, **to_mapping(chosen(steps=1000, batch_size=64)))
    log_of(run, [{"kind": "stage", "name": "train"}, *steps(1, 100, per_second=5), *steps(101, 400, waiting=0.25)])
    held = run.hold()
    live(run, "running", memory={"rss": 5})
    row = only(workspace)
    assert (row.state, row.step, row.steps, row.waiting, row.memory) == ("running", 400, 1000, 0.25, Memory(5))
    assert row.rate == pytest.approx(10, rel=0.02)  # of the last ten seconds
    assert row.tokens_per_s == pytest.approx(640, rel=0.02) and row.eta == pytest.approx(60, rel=0.02)
    live(run, "paused")
    row = only(workspace)
    assert (row.state, row.rate, row.eta, row.waiting) == ("paused", None, None, None)
    live(run, "running")
    held.close()
    row = only(workspace)
    assert row.state == "died" and f"jobs resume {run.id}" in row.error and row.step == 400


def test_the_pace_after_an_interruption_is_a_new_one(workspace):
    progress = LoggedTraining()
    for event in steps(1, 50):
        progress.advance(event_from_json(event), event["time"])
    progress.begin()
    assert progress.rate is None
    for event in steps(41, 60, per_second=0.5):
        progress.advance(event_from_json(event), event["time"])
    assert progress.rate == pytest.approx(0.5)
    assert [step for step, _ in progress.loss.points()] == list(range(1, 61))


def test_the_trainings_of_a_plan(workspace, store, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        "[[train]]\nactivations = 'a'\nname = 'x{expansion}'\nexpansion = [1, 2]\nk = 3\nsteps = 20\n"
        "batch_size = 64\ndevice = 'cpu'\neval_every = 10\ncheckpoint_every = 7\n"
    )
    run = begin(workspace, "run", plan=str(plan))
    assert perform(run, stop_after=27) == 3  # in the second one: a check a step, and one after each stage
    first, second = trainings(workspace)
    assert (first.name, first.state, first.step) == ("x1", "done", 20)
    assert (second.name, second.state, second.step, second.steps) == ("x2", "stopped", 6, 20)
    assert len(first.loss) == 20 and len(second.loss) == 6 and first.run == second.run == run.id
    assert second.settings.expansion == 2.0 and second.settings.activations == "a"
    plan.unlink()
    second = trainings(workspace)[1]
    assert (second.settings.name, second.settings.k) == ("x2", 3)  # what its checkpoint knows
    with pytest.raises(UserError, match="x2 cannot be started again"):
        clone(second, workspace)


def test_the_training_of_the_demo(workspace):
    run = begin(workspace, "demo", steps=50)
    stages = ["drawing", "extracting", "train"]
    log_of(run, [{"kind": "stage", "name": name} for name in stages[:2]])
    log_of(run, [{"kind": "progress", "done": 3, "total": 9, "unit": "images"}])
    held = run.hold()
    live(run, "running")
    table = Trainings(workspace)
    assert table.refresh() == ([], False)
    log_of(run, [{"kind": "stage", "name": "train"}, *steps(1, 20, total=50)])
    ((row,), _) = table.refresh()
    assert (row.name, row.state, row.step, row.steps) == ("demo", "running", 20, 50)
    log_of(run, [{"kind": "stage", "name": "embedding"}, {"kind": "progress", "done": 9, "total": 9, "unit": "steps"}])
    assert table.refresh() == ([], False)  # over, and no SAE is there
    held.close()


def test_a_checkpoint_without_a_run_is_unfinished(workspace, store):
    with pytest.raises(Stopped):
        train(chosen(), workspace, Recorder(stop_at=12))
    row = only(workspace)
    assert (row.state, row.step, row.steps, row.run) == ("unfinished", 12, 30, None)
    assert row.settings.k == 3 and not row.settings.activations
    assert [m.step for m in row.history] == [10] and row.loss == [(10, row.history[0].loss)]


def test_what_is_not_finished_or_is_gone_is_no_row(workspace, store):
    perform(begin(workspace))
    (workspace.sae("half")).mkdir()
    (workspace.sae("half") / "sae.safetensors").write_bytes(b"")
    assert [row.name for row in trainings(workspace)] == ["s"]
    shutil.rmtree(workspace.sae("s"))
    assert trainings(workspace) == []
    begin(workspace, "score", sae="s")
    assert trainings(workspace) == []


@pytest.fixture
def foreign(workspace, store, tmp_path):
    """An SAE of another tool, of the width of the store."""
    return write_saelens(tmp_path / "foreign")


def test_an_imported_sae_is_a_row_with_its_origin_and_what_was_measured(workspace, foreign):
    assert perform(begin(workspace, "import", source=str(foreign), name="theirs", check="a", **READS)) == 0
    row = next(row for row in trainings(workspace) if row.name == "theirs")
    assert (row.state, row.step, row.settings, row.error) == ("done", 0, None, None)
    assert row.config.origin.format == "saelens" and row.config.provenance.made_from[0].path.startswith(str(foreign))
    assert row.checked.fve is not None and row.asked.source == str(foreign)
    shutil.rmtree(workspace.runs)
    assert only(workspace).config == row.config and only(workspace).checked is None


def test_an_sae_that_was_copied_here_is_a_row(workspace, foreign):
    bring(workspace, foreign, "theirs")
    shutil.copytree(workspace.sae("theirs"), workspace.sae("copied"))
    assert {row.name: row.state for row in trainings(workspace)} == {"theirs": "done", "copied": "done"}
    (workspace.sae("copied") / "sae.safetensors").unlink()
    (workspace.sae("theirs") / "config.json").write_text("{")
    assert {row.name: row.state for row in trainings(workspace)} == {"theirs": "damaged", "copied": "damaged"}


def test_what_an_import_asks_is_told_in_its_row(workspace, foreign):
    assert perform(begin(workspace, "import", source=str(foreign), name="theirs")) == 2
    row = only(workspace)
    assert row.state == "failed" and "does not say what it reads: give --model" in row.error
    assert row.config is None and row.asked.name == "theirs"
    assert perform(begin(workspace, "import", source="nowhere", name="lost")) == 2
    assert only(workspace) == row, "what is recognised as none is no SAE"


def test_an_import_or_a_training_over_what_is_there_leaves_its_row(workspace, foreign):
    perform(begin(workspace))
    assert perform(begin(workspace, "import", source=str(foreign), name="s", **READS)) == 2
    assert only(workspace).state == "done" and only(workspace).config is None
    bring(workspace, foreign, "theirs")
    assert perform(begin(workspace, **to_mapping(chosen(name="theirs")))) == 2
    theirs = next(row for row in trainings(workspace) if row.name == "theirs")
    assert theirs.state == "done" and theirs.config.origin.format == "saelens"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("saes/s/training.json", "training.json is damaged"),
        ("runs/001/command.json", "command.json is damaged"),
    ],
)
def test_a_damaged_file_is_a_row_with_a_sentence(workspace, store, file, says):
    perform(begin(workspace))
    path = workspace.root / file
    path.write_bytes(path.read_bytes()[:20])
    damaged = [row for row in trainings(workspace) if row.state == "damaged"]
    assert len(damaged) == 1 and says in damaged[0].error


def test_a_damaged_checkpoint_is_a_row_with_a_sentence(workspace, store):
    with pytest.raises(Stopped):
        train(chosen(), workspace, Recorder(stop_at=12))
    path = checkpoint_path(workspace.sae("s"))
    path.write_bytes(path.read_bytes()[:100])
    row = only(workspace)
    assert row.state == "damaged" and "remove it to train from the start" in row.error


JUNK = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"[]", b"{}", b"null", b'{"version": 1}', b'{"version": 99}', b'{"state": 3}']),
)
FILES = ("saes/s/training.json", "saes/s/checkpoints/newest.safetensors", "runs/001/command.json",
         "runs/001/status.json", "runs/001/events.jsonl", "saes/s/config.json", "saes/s/sae.safetensors")  # fmt: skip


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FILES), JUNK, min_size=1))
def test_no_content_of_any_file_raises(tmp_path_factory, junk):
    workspace = Workspace(tmp_path_factory.mktemp("junk"))
    begin(workspace)
    table = Trainings(workspace)
    table.refresh()
    for name, content in junk.items():
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    rows, _ = table.refresh()
    assert all(row.error for row in rows if row.state == "damaged")
    shutil.rmtree(workspace.root)
    assert table.refresh() == ([], False)


def told(log: TrainingLog) -> list:
    return [(name, one.step, one.loss.points(), one.history.points()) for name, one in log.trainings.items()]


LOG = [
    {"kind": "stage", "name": "1/3 train one"}, {"kind": "stage", "name": "train"}, *steps(1, 9),
    {"kind": "metrics", "step": 9, "loss": 0.25, "fve": 0.5}, {"kind": "stage", "name": "2/3 score one"},
    {"kind": "progress", "done": 1, "total": 2, "unit": "images"}, {"kind": "stage", "name": "3/3 train two ü"},
    {"kind": "stage", "name": "train"}, *steps(1, 5), {"kind": "stage", "name": "train"}, *steps(4, 8),
]  # fmt: skip


def written(path: Path, events: list[dict]) -> bytes:
    log = EventLog(path)
    for event in events:
        log.append(event_from_json(event))
    log.close()
    return path.read_bytes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 2000), max_size=6), st.integers(300, 3000))
def test_a_log_read_as_it_grows_says_the_same(tmp_path_factory, cuts, most):
    folder = tmp_path_factory.mktemp("log")
    data = written(folder / "whole.jsonl", LOG)
    whole = TrainingLog(folder / "whole.jsonl")
    assert whole.read() is False
    growing = TrainingLog(folder / "growing.jsonl")
    growing.read()
    for cut in [*sorted(cuts), len(data)]:
        (folder / "growing.jsonl").open("r+b" if (folder / "growing.jsonl").exists() else "wb").write(data[:cut])
        while growing.read(most):
            pass
    assert told(growing) == told(whole) and growing.current == whole.current == "two ü"
    assert [(name, step, len(loss)) for name, step, loss, _ in told(whole)] == [("one", 9, 9), ("two ü", 8, 8)]
    assert whole.trainings["one"].history.points() == [(9, MeasuredStep(step=9, loss=0.25, fve=0.5))]


def test_a_log_that_shrinks_or_is_replaced_is_read_anew(tmp_path):
    path = tmp_path / "events.jsonl"
    data = written(path, LOG)
    log = TrainingLog(path)
    log.read()
    path.write_bytes(data[: data.index(b'"done": 6')])  # cut in a line
    log.read()
    assert list(log.trainings) == ["one"] and log.trainings["one"].step == 6 - 1
    path.unlink()
    assert log.read() is False and list(log.trainings) == ["one"]  # gone: what is known stays
    written(tmp_path / "other.jsonl", [{"kind": "stage", "name": "1/1 train b"}, *steps(1, 99)])
    (tmp_path / "other.jsonl").rename(path)
    log.read()
    assert list(log.trainings) == ["b"] and log.trainings["b"].step == 99


def test_lines_that_are_no_events_are_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xff\n[]\n{}\n" + b'{"seq": 1, "kind": "progress", "done": "x", "unit": "steps"}\n')
    with open(path, "ab") as file:
        file.write(b"x" * 5000)  # a line without end
    log = TrainingLog(path, "s", whole=True)
    while log.read(1000):
        pass
    with open(path, "ab") as file:
        file.write(b"\n")
    written(path, steps(1, 3))
    while log.read(1000):
        pass
    assert log.trainings["s"].step == 3


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=120), st.integers(4, 20))
def test_a_series_keeps_some_of_the_points_that_still_hold(moves, most):
    """The reference keeps every point, and forgets those at and after one that comes again."""
    series: ThinnedSeries[float] = ThinnedSeries(most)
    truth: dict[int, float] = {}
    step = 0
    for number, (move, back) in enumerate(moves):
        step = max(1, step - move) if back else step + move
        truth = {s: v for s, v in truth.items() if s < step} | {step: float(number)}
        series.add(step, float(number))
    points = series.points()
    assert len(points) <= most and points == sorted(points)
    assert all(truth[s] == v for s, v in points)
    if truth:
        assert points[-1] == (step, truth[step])
    if len(moves) < most:
        assert points == sorted(truth.items())


def test_a_long_series_stays_even():
    series: ThinnedSeries[int] = ThinnedSeries()
    for step in range(1, 1_000_001):
        series.add(step, step)
    kept = [step for step, _ in series.points()]
    assert 2000 <= len(kept) <= runs.POINTS and kept[0] == 1 and kept[-1] == 1_000_000
    assert len({b - a for a, b in itertools.pairwise(kept[:-1])}) == 1


@pytest.mark.parametrize(
    ("name", "there", "free"),
    [
        ("x8", [], "x8-2"),
        ("x8", ["x8", "x8-2", "x8-4"], "x8-3"),
        ("x8-2", ["x8", "x8-2"], "x8-3"),
        ("k-20", ["k-20"], "k-20-2"),
    ],
)
def test_a_clone_has_a_free_name(workspace, name, there, free):
    for folder in there:
        workspace.sae(folder).mkdir(parents=True)
    made = clone(Training(name=name, state="done", settings=chosen(name=name)), workspace)
    assert made == chosen(name=free)
    Run.create(workspace, "train", to_mapping(made), [])
    assert clone(Training(name=name, state="done", settings=made), workspace).name not in (free, *there)


def test_what_has_not_changed_is_not_read_again(workspace, store, monkeypatch):
    perform(begin(workspace))
    table = Trainings(workspace)
    before = table.refresh()
    monkeypatch.setattr(runs, "read_training", None)
    monkeypatch.setattr(runs, "read_state", None)
    again = table.refresh()
    assert again == before and again[0][0] is before[0][0]


def test_the_table_costs_no_torch():
    script = "import sys, engine.runs.trainings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_training_is_told_of_its_best_frozen_twin(workspace, store):
    few = {"steps": 6, "eval_every": 50, "lr": 0.1}
    train(chosen(name="s", **few), workspace)
    train(chosen(name="other", seed=1, **few), workspace)
    assert [one.twin for one in trainings(workspace)] == [None, None]
    for name, frozen in (("a", "decoder"), ("b", "encoder")):
        train(chosen(name=name, frozen=frozen, **few), workspace)
    table = Trainings(workspace)
    rows = {one.name: one for one in table.refresh()[0]}
    assert all(one is rows[one.name] for one in table.refresh()[0]), "what is told anew is another row"
    best = max((rows["a"], rows["b"]), key=lambda one: one.history[-1].fve)
    assert rows["s"].twin == FrozenTwin(best.name, best.settings.frozen, best.history[-1])
    assert rows["other"].twin is rows["a"].twin is rows["b"].twin is None
    shutil.rmtree(workspace.sae(best.name))
    left = {one.name: one for one in trainings(workspace)}
    assert left["s"].twin.name == ({"a", "b"} - {best.name}).pop()
