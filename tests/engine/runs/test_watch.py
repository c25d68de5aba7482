"""Looking at runs: in the order of their starts, and for nothing where nothing goes on."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.files import write_json
from engine.locks import take
from engine.runs import run as module
from engine.runs.run import HELD, Run, find, runs
from engine.runs.trainings import Trainings
from engine.runs.watch import RunWatch
from engine.workspace import Workspace
from tests.support.ended_runs import write_runs
from tests.support.shell import saetui, saetui_json

OPENED: list[str] = []
_listening = False


def _hear(event: str, told: tuple[object, ...]) -> None:
    if _listening and event in ("open", "os.scandir", "os.listdir"):
        OPENED.append(str(told[0]))


sys.addaudithook(_hear)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Files and folders under ``runs/`` that are opened from when it is cleared."""
    global _listening
    OPENED.clear()
    _listening = True
    yield OPENED
    _listening = False


def test_the_last_run_is_the_one_that_was_started_last(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = "20300101-000000"
    monkeypatch.setattr(module.time, "strftime", lambda _: clock)
    made = [Run.create(workspace, "train", {}, []) for _ in range(12)]  # in one second
    clock = "20260101-000000"  # set back
    made.append(Run.create(workspace, "extract", {}, []))
    assert runs(workspace) == made and find(workspace, "last") == made[-1]
    assert [seen.id for seen in RunWatch(workspace).look()] == [one.id for one in reversed(made)]


def test_runs_of_older_versions_come_first_by_their_names(workspace: Workspace) -> None:
    for name in ("20250101-000000-train", "20990101-000000-train"):
        (workspace.runs / name).mkdir(parents=True)
        write_json(workspace.runs / name / "command.json", {"task": "train", "settings": {}, "workspace": "."})
    new = Run.create(workspace, "train", {}, [])
    assert [run.id for run in runs(workspace)] == ["20250101-000000-train", "20990101-000000-train", new.id]


def test_a_start_by_a_clock_that_was_set_back_does_not_last_for_ever(workspace: Workspace) -> None:
    run = Run.create(workspace, "train", {}, [])
    write_json(run.path / "status.json", {"state": "starting", "started": time.time() + 3600})
    assert run.status.state == "died"


def test_a_workspace_in_which_nothing_goes_on_costs_nothing(workspace: Workspace, opened: list[str]) -> None:
    write_runs(workspace, 20)
    watch, trainings = RunWatch(workspace), Trainings(workspace)
    first, rows = watch.look(), trainings.refresh()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # until it has settled
        opened.clear()
        if watch.look() is first and trainings.refresh() == rows and not opened:
            break
        first, rows = watch.look(), trainings.refresh()
        time.sleep(0.3)
    assert opened == [] and len(first) == 20


def test_what_is_started_again_is_seen_at_once(workspace: Workspace) -> None:
    write_runs(workspace, 3)
    watch, run = RunWatch(workspace), runs(workspace)[1]
    assert {one.state for one in watch.look()} == {"done"}
    watch._list._changed = watch._list._looked - 10  # it has settled
    assert watch.look() is watch.look()
    write_json(run.path / "status.json", {"state": "stopped"})
    lock = take(run.path / HELD)
    write_json(run.path / "status.json", {"state": "running", "pid": os.getpid()})
    run._announce()
    assert lock and [one.state for one in watch.look()] == ["done", "running", "done"]


def test_a_run_has_a_status_as_soon_as_it_is_listed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    real = module.write_json
    monkeypatch.setattr(module, "write_json", lambda path, *more: (written.append(path.name), real(path, *more)))
    Run.create(workspace, "train", {}, [])
    assert written == ["status.json", "command.json"]


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "no JSON": lambda path: path.write_text("{"),
    "a list": lambda path: path.write_text("[]"),
    "endless digits": lambda path: path.write_text(f'{{"state": {"9" * 5000}}}'),
}


REFUSED = ("a pipe", "a folder", "a link to itself")


@pytest.mark.parametrize("name", ["status.json", "command.json"])
@pytest.mark.parametrize("kind", ODD)
def test_a_run_that_cannot_be_read_is_listed_and_says_why(kind: str, name: str, workspace: Workspace) -> None:
    good, odd = (Run.create(workspace, "train", {"seed": seed}, []) for seed in range(2))
    write_json(odd.path / "status.json", {"state": "stopped"})
    watch, file = RunWatch(workspace), odd.path / name
    watch.look()
    before = file.read_bytes()
    file.unlink()
    ODD[kind](file)
    for look in (watch, RunWatch(workspace)) if name == "status.json" else (RunWatch(workspace),):
        seen = look.look()
        told = next(one for one in seen if one.id == odd.id)
        assert {one.id for one in seen} == {good.id, odd.id}
        state = "damaged" if name == "command.json" or kind in REFUSED else "died"
        assert (told.state, told.live) == (state, False) and name in told.error
    rows, _ = Trainings(workspace).refresh()
    assert all(row.state == "damaged" and name in str(row.error) for row in rows if row.run == odd.id)
    assert find(workspace, odd.id) == odd
    file.rmdir() if kind == "a folder" else file.unlink()
    file.write_bytes(before)
    assert next(one.state for one in watch.look() if one.id == odd.id) == "stopped"


def test_jobs_list_what_cannot_be_read(workspace: Workspace) -> None:
    made = [Run.create(workspace, "train", {}, []) for _ in range(3)]
    for run, name in zip(made, ("status.json", "command.json"), strict=False):
        (run.path / name).unlink()
        os.mkfifo(run.path / name)
    lines = saetui("jobs", cwd=workspace.root).stdout.splitlines()
    for run, name in zip(made, ("status.json", "command.json"), strict=False):
        (line,) = (line for line in lines if line.startswith(run.id + " "))
        assert "damaged" in line and name in line and "a pipe" in line
    told = {one["id"]: one for one in saetui_json("jobs", cwd=workspace.root)}
    assert [told[run.id]["state"] for run in made] == ["damaged", "damaged", "starting"]
    for asked in ("follow", "stop", "pause", "resume"):
        assert "status.json" in saetui("jobs", asked, made[0].id, cwd=workspace.root, code=2).stderr
