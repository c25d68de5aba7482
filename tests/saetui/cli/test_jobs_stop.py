"""What saetui jobs stop says of a run that does not come to a safe point."""

import pytest
from typer.testing import CliRunner

from engine.files import write_json
from engine.locks import take
from engine.runs.run import HELD, Run
from engine.workspace import Workspace
from saetui.cli import jobs


def test_a_stop_has_a_patience_and_says_what_it_did(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    run = Run.create(workspace, "train", {}, [])
    lock = take(run.path / HELD)
    write_json(run.path / "status.json", {"state": "running", "pid": 4_000_000, "stage": "loading the model"})
    done = CliRunner().invoke(jobs.app, ["stop", run.id, "--workspace", str(workspace.root)])
    assert done.exit_code == 2 and (run.path / "control").read_text() == "stop"
    assert "asked to stop" in done.output and "(loading the model)" in done.output and "kill -9 4000000" in done.output
    assert lock
