"""Runs of a workspace that was moved, and runs whose files were damaged."""

import json
import os
import shutil

import pytest

from engine.errors import UserError
from engine.files import read_json, write_json
from engine.runs.run import Run
from engine.workspace import Workspace
from tests.support.shell import saetui_json


def stopped(workspace: Workspace, argv: list[str]) -> Run:
    run = Run.create(workspace, "doctor", {}, argv)
    write_json(run.path / "status.json", {"state": "stopped", "started": 1.0, "ended": 2.0})
    return run


def test_a_run_goes_on_where_its_workspace_is_now(workspace, tmp_path, monkeypatch):
    workspace.root.mkdir()
    monkeypatch.chdir(workspace.root)
    run = stopped(workspace, ["doctor"])
    monkeypatch.chdir(tmp_path)
    moved = Workspace(shutil.move(workspace.root, tmp_path / "moved"))
    again = Run(moved.runs / run.id)
    again.resume()
    list(again.follow())
    assert again.status.state == "done" and again.status.result["workspace"]["root"] == str(moved.root)
    assert not workspace.root.exists()


def test_a_run_whose_directory_is_gone_says_so_and_stays_as_it_was(workspace, tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    run = stopped(workspace, ["doctor", "--detach"])
    command = read_json(run.path / "command.json")
    write_json(run.path / "command.json", command | {"version": 1})  # whose paths were from there
    monkeypatch.chdir(tmp_path)
    place.rmdir()
    with pytest.raises(UserError, match=r"place, which is gone: give its command again: saetui doctor --detach"):
        run.resume()
    assert run.status.state == "stopped"


def test_a_pause_is_taken_back_before_it_is_obeyed(workspace):
    """A worker that still loads its libraries is not paused yet, but will be."""
    run = Run.create(workspace, "doctor", {}, [])
    with pytest.raises(UserError, match="is starting: follow it"):
        run.resume()
    run.control("pause")
    run.resume()
    run.detach()
    list(run.follow())
    assert run.status.state == "done"


def test_what_was_asked_does_not_depend_on_where_one_stands(workspace, tmp_path, monkeypatch):
    """Paths of the command line are from there; those of a run are from its workspace, wherever that is now."""
    for folder in ("workspace/images", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    asked = {"sae": "S", "images": "workspace/images", "embed_with": "hf:a/b", "vocabulary": "elsewhere/words.txt"}
    run = Run.create(workspace, "score", asked, [])
    monkeypatch.chdir("elsewhere")
    assert read_json(run.path / "command.json")["settings"] == {
        **asked, "images": "images", "vocabulary": str(tmp_path / "elsewhere/words.txt")
    }  # fmt: skip
    assert run.command.asked(workspace.root)["images"] == str(workspace.root / "images")
    assert run.command.asked(tmp_path / "moved")["images"] == str(tmp_path / "moved/images")
    assert run.command.asked(tmp_path / "moved")["sae"] == "S"


def test_machines_read_the_others_where_one_run_is_damaged(workspace):
    good, bad = stopped(workspace, []), stopped(workspace, [])
    (bad.path / "command.json").write_text("null")
    told = {run["id"]: run for run in saetui_json("jobs", "--workspace", workspace.root)}
    assert told[good.id]["state"] == "stopped" and "command.json is damaged" in told[bad.id]["error"]
    assert json.dumps(told)


def copied(workspace: Workspace, tmp_path, command: dict) -> Run:
    """The run of a copy of a workspace, of which the original is still there."""
    run = stopped(workspace, [])
    write_json(run.path / "command.json", command)
    copy = Workspace(shutil.copytree(workspace.root, tmp_path / "copy"))
    return Run(copy.runs / run.id)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("cwd", ["", "pictures"])
def test_a_run_of_a_copy_goes_on_in_the_copy(version, cwd, workspace, tmp_path):
    """What its command says of the workspace is where it was: nothing is read or written there."""
    (workspace.root / "pictures").mkdir(parents=True)
    relative, absolute = "more" if version == 1 else "pictures/more", str(workspace.root / "pictures/more")
    for path in (relative, absolute):
        settings = {"task": "score", "settings": {"sae": "s", "images": path}}
        given = {"version": version, "workspace": str(workspace.root), "cwd": str(workspace.root / cwd)}
        run = copied(workspace, tmp_path, given | settings)
        command = run.command
        assert command.workspace == run.workspace == tmp_path / "copy" and command.cwd == tmp_path / "copy" / cwd
        below = "more" if path == "more" and not cwd else "pictures/more"
        assert command.asked(run.workspace)["images"] == str(tmp_path / "copy" / below)
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize("cwd", ["", "..", "pictures"])
def test_a_run_of_a_copy_reads_nothing_of_the_original(cwd, workspace, tmp_path):
    """However its command, which an older version wrote, spells what lies in it."""
    (workspace.root / "pictures").mkdir(parents=True)
    there = workspace.root / cwd
    (tmp_path / "link").symlink_to(workspace.root)
    settings = {"sae": os.path.relpath(workspace.root / "saes/s", there)}
    for path in (os.path.relpath(workspace.root / "pictures", there), str(tmp_path / "link" / "pictures")):
        asked = {"task": "score", "settings": settings | {"images": path}}
        given = {"version": 1, "workspace": str(workspace.root), "cwd": os.path.normpath(there)}
        run = copied(workspace, tmp_path, given | asked)
        found = run.command.asked(run.workspace)
        assert found["images"] == str(tmp_path / "copy" / "pictures") and found["sae"] == str(tmp_path / "copy/saes/s")
        shutil.rmtree(tmp_path / "copy")


def test_no_run_writes_where_its_command_says(workspace, tmp_path):
    """Runs come with workspaces, from other people."""
    out = {"sae": "s", "activations": "a", "out": str(tmp_path / "victim.npz")}
    given = {"version": 2, "task": "encode", "settings": out, "workspace": "/", "cwd": "/"}
    with pytest.raises(UserError, match="would write outside of its workspace"):
        copied(workspace, tmp_path, given).resume()
