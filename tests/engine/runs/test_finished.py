"""A run that ended early, and whose work another one did or is at, says so and is not to be resumed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from engine.artefacts.entries import RunEntry
from engine.errors import UserError
from engine.files import write_json
from engine.records import to_json
from engine.runs.events import State, Status
from engine.runs.run import AT_WORK, ENDED, Later, Run, later_of, later_runs, work_of
from engine.runs.watch import RunWatch
from engine.workspace import Workspace
from saetui.cli.app import app
from saetui.widgets.bars import summary

WORK = {"plan": "plan.toml", "input": ["data=images"], "device": "auto"}


def began(workspace: Workspace, state: State, task: str = "run", **asked: object) -> Run:
    """A run that is in ``state``; running, its worker is gone."""
    run = Run.create(workspace, task, WORK | asked, [task])
    write_json(run.path / "status.json", to_json(Status(state=state, started=1.0, ended=9.0, result=None)))
    return run


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([*AT_WORK, "damaged", *ENDED])), max_size=8))
def test_it_is_the_first_later_one_that_is_done_of_the_same_work_else_one_at_work(runs: list[tuple[str, str]]) -> None:
    naive = {}
    for n, (work, state) in enumerate(runs):
        if state in ENDED and state != "done":
            done = [later for later in range(n + 1, len(runs)) if runs[later] == (work, "done")]
            at_it = [other for other, (what, how) in enumerate(runs) if what == work and how in AT_WORK]
            if done or at_it:
                naive[str(n)] = Later(str(done[0] if done else at_it[-1]), bool(done))
    assert later_runs((str(n), *one) for n, one in enumerate(runs)) == naive


def test_work_is_the_same_on_another_device_and_no_other() -> None:
    assert work_of("run", WORK) == work_of("run", {**WORK, "device": "cuda", "input": ("data=images",)})
    inputs = [["data=images", "model=./m"], ("model=m", "data=./images")]
    assert len({work_of("run", WORK | {"input": some}) for some in inputs}) == 1, "in any order, with ./ or without"
    assert len({work_of("run", WORK), work_of("train", WORK), work_of("run", WORK | {"plan": "other.toml"})}) == 3


def test_whoever_looks_at_a_run_is_told_that_a_later_one_did_its_work(workspace: Workspace) -> None:
    early = [began(workspace, "running"), began(workspace, "stopped"), began(workspace, "failed", "train", name="s")]
    other = began(workspace, "running", plan="other.toml")
    assert summary(RunWatch(workspace).look()).startswith("✗ 3 runs failed")
    plan, train = began(workspace, "done", device="cpu"), began(workspace, "done", "train", name="s")
    later = [plan.id, plan.id, train.id]
    assert [later_of(run) for run in (*early, other, plan)] == [*(Later(id, True) for id in later), None, None]
    seen = {run.id: run for run in RunWatch(workspace).look()}
    assert [seen[run.id].error for run in early] == [f"Finished by run {id}." for id in later]
    assert [run.id for run in seen.values() if run.failed] == [other.id]
    assert summary(list(seen.values())) == "✗ run other.toml failed: J"
    assert RunEntry(path=early[0].path).to_json()["status"]["error"] == f"Finished by run {plan.id}."
    with pytest.raises(UserError, match=f"began was finished by run {plan.id}: there is nothing to resume"):
        early[0].resume()


def test_commands_say_it(workspace: Workspace) -> None:
    early, done = began(workspace, "running"), began(workspace, "done")

    def said(*words: str) -> str:
        return CliRunner().invoke(app, [*words, "--workspace", str(workspace.root)]).output

    line = next(one for one in said("jobs").splitlines() if one.startswith(early.id))
    assert line.endswith(f"Finished by run {done.id}.") and "resume" not in line
    records = {one["id"]: one for one in json.loads(said("jobs", "--json"))}
    assert records[early.id]["error"] == f"Finished by run {done.id}."
    assert records[early.id]["finished_by"] == done.id and "finished_by" not in records[done.id]
    followed = said("jobs", "follow", early.id)
    assert f"Finished by run {done.id}." in followed and "resume" not in followed


def test_what_another_run_is_at_is_said_to_go_on(workspace: Workspace) -> None:
    early = began(workspace, "running")
    now = began(workspace, "running")
    held = now.hold()
    says = f"Continued by run {now.id}, which is at work."
    (seen,) = [run for run in RunWatch(workspace).look() if run.id == early.id]
    assert (seen.error, seen.failed) == (says, False)
    output = CliRunner().invoke(app, ["jobs", "--json", "--workspace", str(workspace.root)]).output
    (record,) = [one for one in json.loads(output) if one["id"] == early.id]
    assert (record["continued_by"], record["error"], "finished_by" in record) == (now.id, says, False)
    with pytest.raises(UserError, match=f"Run {now.id} is at work on the same: follow it with saetui jobs follow"):
        early.resume()
    held.close()
    assert "resume" in str(early.status.error) and later_of(early) is None
