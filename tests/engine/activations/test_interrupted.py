"""Killed, stopped, full: the same command goes on and ends with the same bytes."""

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.errors import Stopped, UserError
from engine.files import lock
from engine.workspace import Workspace
from tests.support.extractions import Recorder, ask, contents, saved_model, write_pictures

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("images"), 40, broken=(5, 30))


@pytest.mark.parametrize("how", ["replace", "moment"])
def test_killed_at_any_moment(how: str, model: Path, images: Path, tmp_path: Path) -> None:
    once = Workspace(tmp_path / "once")
    extract(ask(model, images, at=("layer:1", "last")), once)
    kills = 0
    for turn in range(10):  # on a busy machine an attempt may get far before it is killed
        often = Workspace(tmp_path / f"often{turn}")
        killer = [sys.executable, str(ROOT / "tests/support/killer.py"), str(model), str(images), str(often.root), how]
        done = subprocess.run(killer, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert contents(often.root) == contents(once.root)
        kills += int(done.stdout)
        if kills >= 5:
            break
    assert kills >= 5, "too few kills to mean anything"
    assert len(contents(once.root)) == 2 * (5 + 2)  # shards, manifest, lock


@pytest.mark.parametrize("stop_after", [0, 1, 4, 7])
def test_stopped_and_continued(stop_after: int, model: Path, images: Path, tmp_path: Path) -> None:
    once, twice = Workspace(tmp_path / "once"), Workspace(tmp_path / "twice")
    extract(ask(model, images), once)
    with pytest.raises(Stopped) as stopped:
        extract(ask(model, images), twice, Recorder(stop_after))
    kept = contents(twice.root)
    shards = (stop_after + 1) // 2
    assert stopped.value.kept == (f"what was made of {8 * shards} images is kept" if shards else "")
    assert sum(name.endswith(".h5") for name in kept) == shards and not any(".tmp" in name for name in kept)
    said = Recorder()
    result = extract(ask(model, images), twice, said)
    assert contents(twice.root) == contents(once.root)
    assert result.extracted_now == 40 - 8 * shards and said.steps[0][0] == 8 * shards + 4


def test_an_unfinished_store_says_how_to_go_on(model: Path, images: Path, workspace: Workspace) -> None:
    with pytest.raises(Stopped):
        extract(ask(model, images), workspace, Recorder(4))
    with pytest.raises(UserError, match="not finished: continue it with saetui extract --model"):
        Store.open(workspace.activations("A"))


def test_nothing_to_do(model: Path, images: Path, workspace: Workspace) -> None:
    first = extract(ask(model, images), workspace)
    before = contents(workspace.root)
    said = Recorder()
    second = extract(ask(model, images, workers=2), workspace, said)
    assert ("stage", "nothing to do: the store is complete") in said.events
    assert second == replace(first, extracted_now=0) and contents(workspace.root) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": ("layer:2",)}, "hook layer:1, not layer:2"),
        ({"tokens": "cls"}, "tokens all, not cls"),
        ({"dtype": "float32"}, "dtype float16, not float32"),
        ({"precision": "bfloat16"}, "precision float32, not bfloat16"),
        ({"batch_size": 8}, "batch size 4, not 8"),
        ({"shard_rows": 400}, "shards of 8 images, not 20"),
        ({"limit": 20}, "40 images of .*, not the 20"),
    ],
)
def test_other_settings_under_the_same_name(
    change: dict[str, Any], words: str, model: Path, images: Path, workspace: Workspace
) -> None:
    with pytest.raises(Stopped):
        extract(ask(model, images), workspace, Recorder(4))
    before = contents(workspace.root)
    with pytest.raises(UserError, match=f"{words}.* another --name"):
        extract(ask(model, images, **change), workspace)
    assert contents(workspace.root) == before


def test_a_seed_matters_only_to_a_draw(model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images), workspace)
    assert extract(ask(model, images, seed=3), workspace).extracted_now == 0
    extract(ask(model, images, name="B", tokens="random:2"), workspace)
    with pytest.raises(UserError, match="seed 0, not 3"):
        extract(ask(model, images, name="B", tokens="random:2", seed=3), workspace)


def test_other_weights_or_images_under_the_same_name(
    model: Path, images: Path, workspace: Workspace, tmp_path: Path
) -> None:
    mine, theirs = tmp_path / "i", tmp_path / "m"
    write_pictures(mine, 20)
    theirs.mkdir()
    for file in model.iterdir():
        (theirs / file.name).write_bytes(file.read_bytes())
    with pytest.raises(Stopped):
        extract(ask(theirs, mine), workspace, Recorder(2))
    state = load_file(theirs / "model.safetensors")
    save_file({name: value * 1.01 for name, value in state.items()}, theirs / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="their weights or configurations differ"):
        extract(ask(theirs, mine), workspace)
    save_file(state, theirs / "model.safetensors", {"format": "pt"})
    (mine / "ape" / "0002.png").write_bytes(b"changed")
    with pytest.raises(UserError, match=r"20 images .*, not the 20 that are now in"):
        extract(ask(theirs, mine), workspace)


@pytest.mark.parametrize("finished", [False, True])
def test_a_truncated_shard_is_named_and_a_deleted_one_made_anew(
    finished: bool, model: Path, images: Path, workspace: Workspace
) -> None:
    extract(ask(model, images), workspace)
    whole = contents(workspace.root)
    if not finished:
        (workspace.activations("A") / "manifest.json").unlink()
        for shard in workspace.activations("A").glob("*.h5"):
            shard.unlink()
        with pytest.raises(Stopped):
            extract(ask(model, images), workspace, Recorder(8))
    shard = workspace.activations("A") / "shard-00002.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"shard-00002.h5 is damaged .*: delete it and run"):
        extract(ask(model, images), workspace)
    shard.unlink()
    extract(ask(model, images), workspace)
    assert contents(workspace.root) == whole


def test_something_else_under_the_name(model: Path, images: Path, workspace: Workspace) -> None:
    folder = workspace.activations("A")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="something else"):
        extract(ask(model, images), workspace)
    assert (folder / "manifest.json").read_text() == '{"format": "other"}'


def test_two_at_once(model: Path, images: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.activations import extract as module

    monkeypatch.setattr(module, "lock", lambda folder: lock(folder, patience=0.1))
    with lock(workspace.activations("A")), pytest.raises(UserError, match="being written by another process"):
        extract(ask(model, images), workspace)
    assert (workspace.activations("A") / ".lock").exists()


# A full disk


def test_a_full_disk_harms_nothing_and_can_be_continued(model: Path, images: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the operating system refuses writes the same way."""
    once, twice = Workspace(tmp_path / "once"), Workspace(tmp_path / "twice")
    extract(ask(model, images), once)
    with pytest.raises(Stopped):
        extract(ask(model, images), twice, Recorder(5))
    before = contents(twice.root)
    shard = (twice.activations("A") / "shard-00000.h5").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, shard // 2, shard - 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(
                UserError, match=r"The disk is full while writing .*A: free some space and run the same command again"
            ):
                extract(ask(model, images), twice)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert contents(twice.root) == before
    extract(ask(model, images), twice)
    assert contents(twice.root) == contents(once.root)
