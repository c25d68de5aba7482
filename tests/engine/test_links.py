"""What a workspace of somebody else holds leads nowhere else: names that its files tell, and symbolic links."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.activations.extract import extract
from engine.activations.shards import ShardWriter
from engine.activations.store import Store
from engine.artefacts import describe, inventory
from engine.artefacts.relink import relink
from engine.config import RelinkSettings, SteerSettings
from engine.errors import UserError
from engine.files import read_json, write_json
from engine.kinds import BY_FOLDER
from engine.links import check_own, file_name
from engine.neurons.file import Neurons
from engine.neurons.labels import Labels
from engine.runs.run import Run
from engine.sae.train import train
from engine.steer.recipes import save_recipe
from engine.workspace import Workspace
from tests.support import trainings
from tests.support.extractions import ask, contents, saved_model, write_pictures
from tests.support.scores import SUMMARY, write_scores
from tests.support.stores import write_store


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What no workspace may touch."""
    folder = tmp_path / "outside"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("precious.h5", ".precious.tmp", "log.txt", "checkpoints/.precious.tmp"):
        (folder / name).write_text("precious")
    return folder


@pytest.fixture
def untouched(outside: Path):
    before = contents(outside)
    yield
    assert contents(outside) == before


@pytest.fixture
def study(workspace: Workspace) -> Workspace:
    write_store(workspace.activations("a"), trainings.activations()[0], tokens=4)
    return workspace


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", "a\0b"])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(UserError):
        file_name(name)
    assert file_name("..x") == "..x"


@pytest.mark.parametrize("file", ["../../../outside/precious.h5", "{outside}/precious.h5", "..", ""])
@pytest.mark.usefixtures("untouched")
def test_a_shard_lies_in_its_store(file, outside, workspace, tmp_path):
    model, images = saved_model(tmp_path / "clip"), write_pictures(tmp_path / "images", 4)
    settings = ask(model, images)
    extract(settings, workspace)
    folder = workspace.activations(settings.name)
    manifest = read_json(folder / "manifest.json")
    victim = {"file": file.format(outside=outside), "rows": 0, "bytes": 8}
    write_json(folder / "manifest.json", manifest | {"shards": [manifest["shards"][0] | victim]})
    for use in (
        lambda: extract(settings, workspace),
        lambda: Store.open(folder),
        lambda: describe(str(folder), workspace),
    ):
        with pytest.raises(UserError, match=r"manifest.json is damaged .*is no name of a file beside it"):
            use()
    with pytest.raises(UserError, match=r"in what can be read \(not activations/A"):
        relink(RelinkSettings(old=str(images), new=str(tmp_path)), workspace)
    assert [entry.error for entry in inventory(workspace).stores] != [""]


@pytest.mark.parametrize("link", ["saes/s", "saes/s/checkpoints", "saes/s/.lock", "saes"])
@pytest.mark.usefixtures("untouched")
def test_a_training_writes_through_no_link(link, outside, study):
    path = study.root / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside / "log.txt" if link.endswith(".lock") else outside)
    with pytest.raises(UserError, match="is a symbolic link"):
        train(trainings.chosen(), study)


@pytest.mark.usefixtures("untouched")
def test_nor_does_anything_else(outside, study, tmp_path):
    """Extractions, labels, recipes, runs, and what is rewritten after something was moved."""
    for link in ("activations/x", "labels", "recipes"):
        (study.root / link).symlink_to(outside)
    settings = replace(ask(saved_model(tmp_path / "clip"), write_pictures(tmp_path / "images", 4)), name="x")
    run = Run.create(study, "doctor", {}, [])
    write_json(run.path / "status.json", {"state": "stopped"})
    shutil.move(run.path, tmp_path / "run")
    run.path.symlink_to(tmp_path / "run")
    kept = contents(tmp_path / "run")
    for write in (
        lambda: extract(settings, study),
        lambda: Labels.open(study.labels("s")).set(1, "text"),
        lambda: save_recipe(study, SteerSettings(sae="s", save_recipe="r")),
        run.resume,
        lambda: run.control("stop"),
        run.hold,
    ):
        with pytest.raises(UserError, match="is a symbolic link"):
            write()
    assert contents(tmp_path / "run") == kept


@pytest.mark.parametrize("name", ["log.txt", "events.jsonl", "worker.lock", "control"])
def test_a_run_has_no_links(name, outside, study):
    run = Run.create(study, "doctor", {}, [])
    write_json(run.path / "status.json", {"state": "stopped"})
    (run.path / name).symlink_to(outside / "log.txt")
    with pytest.raises(UserError, match=f"{name} is a symbolic link"):
        run.resume()
    assert (outside / "log.txt").read_text() == "precious"


def test_temporary_files_are_not_written_through_links(outside, study):
    for name in (f".x.json.{os.getpid()}.tmp", ".x.h5.tmp"):
        (study.root / name).symlink_to(outside / "log.txt")
    write_json(study.root / "x.json", {})
    ShardWriter(study.root / "x.h5", 4, "float32").commit([])
    assert (outside / "log.txt").read_text() == "precious"


def test_a_folder_on_another_disk_is_a_persons_own(study, tmp_path):
    """It is empty, or holds artefacts of its kind; what else is in it may be hidden."""
    disk = tmp_path / "disk"
    for kind in ("activations", "saes", "runs", "labels", "recipes"):
        (disk / kind).mkdir(parents=True)
        (disk / kind / ".hidden").touch()
        if kind == "activations":
            shutil.move(study.activations("a"), disk / kind / "a")
            (study.root / kind).rmdir()
        (study.root / kind).symlink_to(disk / kind)
    shutil.rmtree(disk / "runs")  # beside it, the others would be another workspace's
    (study.root / "runs").unlink()
    train(trainings.chosen(), study)
    train(trainings.chosen(name="again"), study)
    Labels.open(study.labels("s")).set(1, "text")
    save_recipe(study, SteerSettings(sae="s", save_recipe="r"))
    assert {path.name for path in (disk / "saes").iterdir()} == {".hidden", "s", "again"}
    [origin] = describe(str(study.root / "saes/s"), study).chain
    assert origin.state == "unchanged"


@pytest.mark.parametrize("kind", BY_FOLDER.values(), ids=BY_FOLDER)
def test_a_linked_folder_of_any_kind_holds_that_kind_alone(kind, workspace, tmp_path):
    disk = tmp_path / "disk"
    workspace.root.mkdir(exist_ok=True)
    (disk / (f"a{kind.suffix}" if kind.suffix else f"a/{kind.marks[-1]}")).mkdir(parents=True)
    (workspace.root / kind.folder).symlink_to(disk)
    own = kind.place(workspace.root, "new")
    check_own(own)
    (disk / "letters.txt").touch()
    with pytest.raises(UserError, match=f"which is no folder of {kind.folder} alone, and nothing is written through"):
        check_own(own)


@pytest.mark.parametrize("mark", ["workspace.toml", "runs"])
def test_that_of_another_workspace_is_not(mark, study, tmp_path):
    other = tmp_path / "other"
    train(trainings.chosen(), Workspace(shutil.copytree(study.root, other)))
    (other / mark).touch()
    (study.root / "saes").symlink_to(other / "saes")
    before = contents(other)
    with pytest.raises(UserError, match="of another workspace"):
        train(trainings.chosen(steps=40), study)
    assert contents(other) == before


def test_links_within_the_workspace_and_files_that_are_links(study, tmp_path):
    shutil.move(study.root / "activations", study.root / "data")
    (study.root / "activations").symlink_to("data")
    shard = study.activations("a") / "shard-00000.h5"
    shutil.move(shard, tmp_path / "stored.h5")
    shard.symlink_to(tmp_path / "stored.h5")
    check_own(study.activations("a"))
    neurons = write_scores(tmp_path / "kept.h5", 2, SUMMARY)
    study.neurons("s", "i").parent.mkdir()
    study.neurons("s", "i").symlink_to(neurons)
    check_own(study.neurons("s", "i"))
    trained = train(trainings.chosen(name="of-linked"), study)
    assert trained.made and Neurons.open(study.neurons("s", "i")).w == 2, "what they lead to is read"
