"""Runs that were archived are listed by an option alone, for people and for machines."""

import json

from typer.testing import CliRunner

from engine.files import write_json
from engine.runs.removal import archive
from engine.runs.run import Run
from engine.workspace import Workspace
from saetui.cli import jobs


def test_archived_runs_are_listed_where_they_are_asked_for(workspace: Workspace) -> None:
    def said(*given: str) -> str:
        done = CliRunner().invoke(jobs.app, [*given, "--workspace", str(workspace.root)])
        assert done.exit_code == 0, done.output
        return done.output

    kept, away = (Run.create(workspace, "train", {"name": name}, []) for name in ("kept", "away"))
    for run in (kept, away):
        write_json(run.path / "status.json", {"state": "failed", "error": f"{run.id} had no rows."})
    assert "No runs are archived here" in said("--archived")
    archive(away)
    (line,) = said("--archived").splitlines()[1:]
    assert line.startswith(f"{away.id} ") and "failed" in line and f"{away.id} had no rows." in line
    assert [line.split()[0] for line in said().splitlines()[1:]] == [kept.id]
    (record,) = json.loads(said("--archived", "--json"))
    assert (record["id"], record["state"], record["settings"]) == (away.id, "failed", {"name": "away"})
    assert Run(workspace.runs / "archive" / away.id).path.samefile(record["path"])
    assert [one["id"] for one in json.loads(said("--json"))] == [kept.id]


def test_an_archived_run_is_found_by_its_id(workspace: Workspace) -> None:
    kept, away = (Run.create(workspace, "train", {"name": name}, []) for name in ("kept", "away"))
    for run in (kept, away):
        write_json(run.path / "status.json", {"state": "failed", "error": f"{run.id} had no rows.", "mistake": True})
    archive(away)

    def follow(id: str) -> str:
        done = CliRunner().invoke(jobs.app, ["follow", id, "--workspace", str(workspace.root)])
        assert done.exit_code == 2
        return done.output

    assert f"{away.id} had no rows." in follow(away.id)
    assert f"{kept.id} had no rows." in follow("last")
    assert f"{kept.id} had no rows." in follow(kept.id[:8]), "the archived one, which begins alike, is out of the way"
