"""A pipe, a device or a folder where a file of ours should be: nobody waits for it, and a sentence says what it is."""

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.activations.extract import extract
from engine.artefacts import describe, inventory
from engine.config import SteerSettings
from engine.errors import UserError, refusal, system_mistake
from engine.files import lock, open_private, write_json
from engine.locks import held, take
from engine.models import load_encoder
from engine.models.shipped import assets
from engine.models.vlm import load_vlm
from engine.neurons.file import Neurons
from engine.neurons.labels import Labels
from engine.neurons.seal import unsealed, verify_neurons
from engine.runs.events import EventLog, StreamReporter
from engine.runs.run import Run
from engine.runs.watch import RunWatch
from engine.steer.recipes import load_recipe, save_recipe
from engine.workspace import Workspace
from saetui.modes.steer.versions import Versions
from tests.support.checkpoints import open_clip_model, save_open_clip
from tests.support.extractions import ask
from tests.support.shell import saetui
from tests.support.stores import write_store


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # as /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


KINDS = (pipe, device, Path.mkdir)
Kind = Callable[[Path], Any]


def put(kind: Kind, path: Path) -> Path:
    """It, in the place of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    kind(path)
    return path


def refused(call: Callable[[], Any], path: Path) -> None:
    """A sentence of the call names it."""
    with pytest.raises((UserError, OSError), match=re.escape(str(path))) as raised:
        call()
    assert isinstance(raised.value, UserError) or system_mistake(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_locks(kind: Kind, tmp_path: Path) -> None:
    path = put(kind, tmp_path / ".lock")
    refused(lambda: take(path), path)
    assert held(path) is False, "nobody can have it"
    with pytest.raises(OSError, match=r"\.lock"), lock(tmp_path):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_the_lock_of_a_store(kind: Kind, workspace: Workspace, tmp_path: Path) -> None:
    folder = write_store(workspace.activations("A"), torch.zeros(4, 8).numpy()).path
    path = put(kind, folder / ".lock")
    assert describe(str(folder), workspace)
    assert len(inventory(workspace).stores) == 1
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes((assets() / "clip" / "config.json").read_bytes())
    refused(lambda: extract(ask(assets() / "clip", images, shard_rows=300), workspace), path)


def died(workspace: Workspace) -> Run:
    run = Run.create(workspace, "doctor", {}, [])
    write_json(run.path / "status.json", {"state": "stopped", "started": 1.0, "ended": 2.0})
    EventLog(run.path / "events.jsonl").close()
    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["worker.lock", "events.jsonl", "log.txt", "control", "status.json"])
def test_a_run(name: str, kind: Kind, workspace: Workspace) -> None:
    run = died(workspace)
    path = put(kind, run.path / name)
    assert len(RunWatch(workspace).look()) == 1 and run.printed() == []
    if kind is Path.mkdir and name in ("events.jsonl", "control"):
        return
    refused(run.resume, path)
    if name != "status.json":
        assert run.status.state == "stopped"
    path.rmdir() if kind is Path.mkdir else path.unlink()
    held_by_worker = run.hold()
    StreamReporter(run.path).check()
    held_by_worker.close()


def test_a_run_that_cannot_begin_says_why(workspace: Workspace) -> None:
    run = died(workspace)
    (run.path / "events.jsonl").unlink()
    (run.path / "events.jsonl").mkdir()
    refused(run.resume, run.path / "events.jsonl")


@pytest.mark.parametrize("damage", ["null", "{}", '{"state": "x"}', "{", None])
def test_a_run_whose_status_cannot_be_read_says_so(damage: str | None, workspace: Workspace) -> None:
    run = died(workspace)
    status = run.path / "status.json"
    status.unlink() if damage is None else status.write_text(damage)
    assert run.status.state == "died" and "status.json is" in (run.status.error or "")
    (seen,) = RunWatch(workspace).look()
    assert seen.state == "died" and f"saetui jobs resume {run.id}" in seen.error
    worker = run.hold()
    assert run.status.state == "running"
    worker.close()


def test_a_run_whose_status_is_lost_is_listed_and_goes_on(workspace: Workspace) -> None:
    run = died(workspace)
    (run.path / "status.json").unlink()
    assert run.status.error and run.status.error in saetui("jobs", "--workspace", workspace.root).stdout
    run.resume()
    list(run.follow())
    assert run.status.state == "done"


@pytest.mark.parametrize("kind", [pipe, device])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json", "tokenizer.json"])
def test_a_model(name: str, kind: Kind, tmp_path: Path) -> None:
    shutil.copytree(assets() / "llava", tmp_path / "llava")
    path = put(kind, tmp_path / "llava" / name)
    with pytest.raises(UserError):
        load_vlm(str(path.parent), torch.device("cpu"), "auto")
    refused(lambda: load_encoder(str(path.parent)), path)


@pytest.mark.parametrize("kind", [pipe, device])
@pytest.mark.parametrize(
    "name", ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
)
def test_a_model_of_open_clip(name: str, kind: Kind, tmp_path: Path) -> None:
    folder = save_open_clip(open_clip_model(), tmp_path / "clip")
    path = put(kind, folder / name)
    refused(lambda: load_encoder(str(folder)), path)


def test_a_tokenizer_without_its_settings(tmp_path: Path) -> None:
    shutil.copytree(assets() / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="tokenizer of"):
        load_encoder(str(tmp_path / "clip")).embed_text(["a"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_people_write(kind: Kind, workspace: Workspace) -> None:
    path = put(kind, workspace.root / "workspace.toml")
    refused(workspace.defaults, path)
    path = put(kind, workspace.recipe("r"))
    refused(lambda: load_recipe(workspace, "r"), path)
    asked = SteerSettings(sae="s", vlm="demo", prompt="what?", save_recipe="r")
    refused(lambda: save_recipe(workspace, asked, []), path)
    path = put(kind, workspace.labels("s"))
    refused(lambda: Labels.open(path), path)
    path = put(kind, workspace.root / "labels" / ".lock")
    labels = Labels.open(workspace.labels("t"))
    with pytest.raises(UserError, match="Cannot save labels"):
        labels.set(1, text="x")


def test_a_folder_where_a_file_is_written(tmp_path: Path) -> None:
    """The file is named, not the temporary one beside it, which is gone by then."""
    path = put(Path.mkdir, tmp_path / "config.json")
    with pytest.raises(OSError, match=r"config\.json") as raised:
        write_json(path, {})
    for told in (system_mistake(raised.value), str(refusal(raised.value))):
        assert told and f"{path} be used" in told and "move it away" in told and ".tmp" not in told


@pytest.mark.parametrize("kind", KINDS)
def test_scores(kind: Kind, workspace: Workspace) -> None:
    path = put(kind, workspace.neurons("s", "images"))
    for read in (Neurons.open, verify_neurons, unsealed):
        refused(lambda read=read: read(path), path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_user_did(kind: Kind, tmp_path: Path) -> None:
    path = put(kind, tmp_path / "versions.jsonl")
    assert Versions(path).read() == []
    if kind is not device:
        with pytest.raises(OSError), open(path, "ab", opener=open_private):
            pass
