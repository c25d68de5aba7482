"""Runs are put away with what they left unfinished, and come back as they were."""

import json

import pytest

from engine.errors import UserError
from engine.files import write_text
from engine.runs.removal import archive, leftovers, remove, restored, sweep_removed
from engine.runs.run import Run, archived, runs
from engine.workspace import Workspace


def made(place: Workspace, name: str, state: str = "failed", task: str = "train") -> Run:
    run = Run.create(place, task, {"name": name}, [task])
    write_text(run.path / "status.json", json.dumps({"state": state}))
    return run


def half(place: Workspace, name: str) -> None:
    write_text(place.sae(name) / "checkpoints" / "newest.safetensors", "half")


def contents(place: Workspace) -> dict[str, bytes]:
    found = (path for path in place.root.rglob("*") if path.is_file())
    return {str(path.relative_to(place.root)): path.read_bytes() for path in found}


def test_a_removed_run_takes_its_leftovers_along_and_brings_them_back(workspace: Workspace) -> None:
    bad, good = made(workspace, "bad"), made(workspace, "good", "done")
    half(workspace, "bad")
    write_text(workspace.sae("good") / "config.json", "{}")
    before = contents(workspace)
    moved = remove(workspace, [bad])
    assert runs(workspace) == [good] and not workspace.sae("bad").exists()
    remove(workspace, [good])
    assert runs(workspace) == [] and workspace.sae("good").exists(), "what is finished stays"
    moved.undo()
    kept = {path for path in before if good.id not in path}
    assert {path: contents(workspace)[path] for path in kept} == {path: before[path] for path in kept}
    assert [run.id for run in runs(workspace)] == [bad.id]


def test_what_is_removed_is_gone_when_the_session_ends(workspace: Workspace) -> None:
    remove(workspace, [made(workspace, "bad")])
    gone = workspace.runs / ".removed-999999999" / "runs"
    gone.mkdir(parents=True)
    living = workspace.runs / ".removed-1"
    living.mkdir()
    sweep_removed(workspace)
    assert [path.name for path in workspace.runs.iterdir()] == [living.name], "another session may undo its own"


def test_an_archived_run_is_listed_apart(workspace: Workspace) -> None:
    run = made(workspace, "old", "done")
    moved = archive(run)
    (kept,) = archived(workspace)
    assert runs(workspace) == [] and kept.workspace == workspace.root and kept.status.state == "done"
    moved.undo()
    assert runs(workspace) == [run] and archived(workspace) == []
    archive(run)
    (kept,) = archived(workspace)
    assert restored(kept) == run == restored(run), "one that was not archived stays where it is"
    assert runs(workspace) == [run] and archived(workspace) == []


def test_what_goes_on_is_not_put_away(workspace: Workspace) -> None:
    run, other = made(workspace, "live", "running"), made(workspace, "live")
    half(workspace, "live")
    held = run.hold()
    for act in (archive, lambda one: remove(workspace, [one])):
        with pytest.raises(UserError, match="is running: stop it first"):
            act(run)
    assert leftovers(workspace, other) == [], "another run works on it"
    held.close()


def test_nothing_is_put_back_over_something_else(workspace: Workspace) -> None:
    half(workspace, "bad")
    moved = remove(workspace, [made(workspace, "bad")])
    half(workspace, "bad")
    with pytest.raises(UserError, match="is there again"):
        moved.undo()


def test_a_run_whose_name_is_a_path_takes_nothing_along(workspace: Workspace) -> None:
    write_text(workspace.root.parent / "precious" / "notes.txt", "kept")
    for name in ("../../precious", str(workspace.root.parent / "precious"), "", ".."):
        run = made(workspace, name)
        assert leftovers(workspace, run) == []
        remove(workspace, [run])
    assert (workspace.root.parent / "precious" / "notes.txt").read_text() == "kept"
