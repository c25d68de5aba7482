"""The listing of a workspace against the artefacts read whole, and against everything that can be wrong with them."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.activations import manifest as module
from engine.activations.extract import extract
from engine.activations.store import Store
from engine.artefacts import Inventory, describe, inventory
from engine.artefacts.entries import Entry
from engine.artefacts.listing import SourceEntry
from engine.config import SteerSettings
from engine.errors import Stopped, UserError
from engine.files import lock, write_json, write_text
from engine.records import from_json
from engine.sae.results import FinalMeasurement
from engine.sae.train import train
from engine.steer.recipes import save_recipe
from engine.workspace import Workspace, neurons_files, sae_of
from tests.support import trainings
from tests.support.extractions import Recorder, ask, saved_model, write_pictures
from tests.support.foreign import bring, write_saelens
from tests.support.scores import SUMMARY, write_scores
from tests.support.stores import write_store


def neurons_file(workspace: Workspace, sae: str, images: str, **summary) -> Path:
    return write_scores(workspace.neurons(sae, images), 2, replace(SUMMARY, sae=sae, embed_with="demo", **summary))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything, but for what extraction makes."""
    workspace = Workspace(tmp_path_factory.mktemp("full") / "w")
    store = write_store(workspace.activations("a"), trainings.activations()[0], tokens=4, source={"spec": "/pictures"})
    write_store(workspace.embeddings("e"), np.ones((5, 3), np.float32), shard_images=2)
    train(trainings.chosen(), workspace)
    with pytest.raises(Stopped):
        train(trainings.chosen(name="half"), workspace, trainings.Recorder(stop_at=12))
    neurons_file(workspace, "s", "test", settings=replace(SUMMARY.settings, images="/tests"))
    save_recipe(workspace, SteerSettings(sae="s", vlm="demo", save_recipe="red"), [])
    assert store.rows == 1200
    return workspace.root


@pytest.fixture
def full(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made, tmp_path / "full")))


def test_stores_as_extraction_makes_them(workspace, tmp_path):
    model, images = saved_model(tmp_path / "m"), write_pictures(tmp_path / "images", 30)
    extract(ask(model, images), workspace)
    with pytest.raises(Stopped):
        extract(ask(model, images, name="B", tokens="cls"), workspace, Recorder(0))  # a batch: no shard is full
    with pytest.raises(Stopped):
        extract(ask(model, images, name="C"), workspace, Recorder(3))
    extract(ask(model, images, at=("last",), embeddings=True, name="E"), workspace)
    found = inventory(workspace)
    whole, part = found.stores
    store = Store.open(workspace.activations("A"))
    assert (whole.name, whole.state, whole.error) == ("A", "complete", "") and whole.manifest == store.manifest
    assert (whole.images, whole.of_images) == (30, 30) == (len(store.images),) * 2 and store.manifest.broken == 1
    assert (whole.rows, whole.tokens, whole.hook) == (store.rows, "all", "layer:1")
    assert (whole.model, whole.source) == (str(model), str(images))
    assert whole.bytes == sum(p.stat().st_size for p in store.path.glob("*.h5")) and len(store.shards) == 4
    assert (part.name, part.state, part.images, part.of_images) == ("C", "unfinished", 16, 30)
    assert part.manifest is not None and part.manifest.broken is None and len(part.manifest.shards) == 2
    assert not part.error
    assert [(entry.name, entry.folder) for entry in found.embeddings] == [("E", "embeddings")]
    assert found.sources == (SourceEntry(str(images), 30, True, ("A", "C", "E")),)
    with lock(workspace.activations("C")), lock(workspace.activations("D")):
        assert [(e.name, e.state) for e in inventory(workspace).stores] == [
            ("A", "complete"), ("C", "writing"), ("D", "writing"),
        ]  # fmt: skip


def entries(found: Inventory) -> list[Entry]:
    return list(found.entries)


def test_one_of_everything(full):
    found = inventory(full)
    half, sae = found.saes
    training = json.loads((full.sae("s") / "training.json").read_text())
    assert (sae.state, sae.arch, sae.config.d, sae.config.w, sae.k) == ("complete", "matryoshka-batchtopk", 16, 32, 3)
    assert (sae.config.hook, sae.step, sae.result, sae.settings) == (
        "layer:3", 30, from_json(FinalMeasurement, training["result"], "it"), trainings.chosen(),
    )  # fmt: skip
    assert [(origin.kind, origin.name) for origin in sae.made_from] == [("activations", "a")]
    assert (half.name, half.state, half.step, half.k, half.config) == ("half", "unfinished", 12, 3, None)
    (scores,) = found.neurons
    assert (scores.name, scores.sae, scores.images) == ("s--test", "s", "test")
    assert (scores.summary.images, scores.summary.alive, scores.source) == (3, 2, "/tests")
    (recipe,) = found.recipes
    assert recipe.name == "red" and recipe.settings.vlm == "demo"
    assert [(len(e.manifest.shards), e.images, e.rows) for e in found.embeddings] == [(3, 5, 5)]
    assert all(entry.path.exists() and entry.when > 1e9 for entry in entries(found))


def test_the_chain_of_an_sae_follows_what_it_was_made_from(full):
    (store,) = describe("s", full).chain
    assert (store.kind, store.name, store.state) == ("activations", "a", "unchanged")
    manifest = full.activations("a") / "manifest.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"seed": 1})
    assert describe("s", full).chain[0].state == "changed"
    (full.activations("a") / "shard-00000.h5").unlink()
    assert "shard-00000.h5 is missing" in describe("s", full).chain[0].state
    shutil.rmtree(full.activations("a"))
    assert describe("s", full).chain[0].state == "missing"


def test_an_imported_sae_says_where_it_came_from(workspace, tmp_path):
    source = write_saelens(tmp_path / "theirs")
    bring(workspace, source, "theirs")
    said = describe("theirs", workspace).to_json()
    assert said["origin"]["format"] == "saelens" and said["origin"]["said"]["d_in"] == 16
    assert said["training"] is None and [(one["kind"], one["state"]) for one in said["chain"]] == [
        ("file", "not compared")
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("saes/half", "is no artefact of saetui"),
        ("none", "no artefact 'none'"),
        ("x.txt", "is no artefact of saetui"),
    ],
)
def test_what_cannot_be_described_is_said(full, name, says):
    write_text(full.root / "x.txt", "")
    with pytest.raises(UserError, match=says):
        describe(name if name == "none" else str(full.root / name), full)


@pytest.mark.parametrize("said", ["activations/a", "{original}/activations/a"])
def test_a_copy_is_described_by_itself(said, full, tmp_path, monkeypatch):
    """Wherever one stands, and whatever older artefacts say of the original, which is still there."""
    copy = Workspace(shutil.copytree(full.root, tmp_path / "copy"))
    config = json.loads((copy.sae("s") / "config.json").read_text())
    config["provenance"]["made_from"][0]["path"] = said.format(original=full.root)
    write_json(copy.sae("s") / "config.json", config)
    write_json(copy.activations("a") / "manifest.json", {})
    monkeypatch.chdir(full.root)
    for name, place in ((str(copy.sae("s")), full), ("s", copy)):
        [origin] = describe(name, place).chain
        assert "unreadable" in origin.state and str(copy.root) in origin.state
    if said.startswith("activations"):
        shutil.rmtree(copy.activations("a"))
        assert describe(str(copy.sae("s")), full).chain[0].state == "missing"


def test_neurons_files_of_an_sae_are_its_own(workspace):
    for sae, images in (("s", "test"), ("s--x", "test"), ("s", "train")):
        os.utime(neurons_file(workspace, sae, images), (1, len(images)))
    assert [path.stem for path in neurons_files(workspace, "s")] == ["s--train", "s--test"]
    assert {sae_of(path) for path in neurons_files(workspace)} == {"s", "s--x"}
    assert neurons_files(Workspace(workspace.root / "none")) == []


def test_sources_of_images_are_gathered(full):
    write_text(full.root / "workspace.toml", 'images = "/asked/*.tar"')
    (full.root / "images" / "train").mkdir(parents=True)
    (full.root / "images" / ".hidden").mkdir()
    assert [(s.spec, s.exists, s.used_by) for s in inventory(full).sources] == sorted([
        ("/asked/*.tar", False, ()), ("/pictures", False, ("a",)), ("/tests", False, ("s--test",)),
        (str(full.root / "images" / "train"), True, ()),
    ])  # fmt: skip
    write_text(full.root / "workspace.toml", "images = [")
    assert len(inventory(full).sources) == 3


def test_a_workspace_without_anything(tmp_path):
    assert inventory(Workspace(tmp_path / "none")) == Inventory()


@pytest.mark.parametrize(
    ("file", "kind", "says"),
    [
        ("activations/a/manifest.json", "stores", "manifest.json is damaged"),
        ("activations/a/shard-00000.h5", "stores", "has 10 bytes instead of"),
        ("saes/s/config.json", "saes", "config.json is damaged"),
        ("saes/s/training.json", "saes", "training.json is damaged"),
        ("saes/half/checkpoints/newest.safetensors", "saes", "newest.safetensors is damaged"),
        ("neurons/s--test.h5", "neurons", "s--test.h5 is damaged"),
        ("recipes/red.toml", "recipes", "red.toml is"),
    ],
)
def test_damage_is_an_entry_with_a_sentence(full, file, kind, says):
    path = full.root / file
    path.write_bytes(path.read_bytes()[:10])
    found = inventory(full)
    (damaged,) = [entry for entry in getattr(found, kind) if entry.error]
    assert says in damaged.error and file in (str(damaged.path.relative_to(full.root)), *_inside(damaged, full))
    assert sum(bool(entry.error) for entry in entries(found)) == 1


def _inside(entry: Entry, workspace: Workspace) -> list[str]:
    return [str(path.relative_to(workspace.root)) for path in entry.path.rglob("*")]


def test_missing_parts_are_named(full):
    (full.activations("a") / "shard-00000.h5").unlink()
    (full.sae("s") / "config.json").unlink()
    (full.embeddings("e") / "manifest.json").unlink()
    found = inventory(full)
    assert "shard-00000.h5 is missing" in found.stores[0].error
    assert "has weights and no config.json" in found.saes[1].error
    assert "no manifest.json" in found.embeddings[0].error


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("settings = 3", r"has no table \[settings\]: it is damaged, save the recipe again"),
        ("", r"has no table \[settings\]"),
        ("[settings]\nvlm = 3", "Recipe r: vlm is 3: it must be text"),
    ],
)
def test_a_damaged_recipe_is_told_in_words(workspace, written, says):
    workspace.recipe("r").parent.mkdir(parents=True)
    workspace.recipe("r").write_text(written)
    (recipe,) = inventory(workspace).recipes
    assert recipe.settings is None and re.search(says, recipe.error) and "Error" not in recipe.error


FILES = ("activations/a/manifest.json", "saes/s/config.json", "saes/s/training.json", "neurons/s--n.h5",
         "recipes/r.toml", "workspace.toml", "concepts/a.json", "stability/a.json",
         "steerability/a/scores.json", "saes/h/checkpoints/newest.safetensors")  # fmt: skip
JUNK = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"[]", b"{}", b"1", b'{"format": "saetui-activations"}', b"settings = 3", b"images = 3"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FILES), JUNK, min_size=1))
def test_no_content_of_any_file_raises(tmp_path_factory, junk):
    workspace = Workspace(tmp_path_factory.mktemp("junk"))
    for name, content in junk.items():
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert all(entry.error for entry in inventory(workspace).stores)
    shutil.rmtree(workspace.root)


def test_the_list_of_images_is_not_read(workspace, monkeypatch):
    """The head alone says the same as the whole; and what has not changed is not read again."""
    store = write_store(workspace.activations("a"), np.ones((70_000, 1)), version=1, broken=2)
    path = store.path / "manifest.json"
    assert path.stat().st_size > 8e6
    path.write_bytes(path.read_bytes()[:5000])
    read = []
    real = module.open_regular
    monkeypatch.setattr(module, "open_regular", lambda *a: read.append(real(*a)) or read[-1])
    monkeypatch.setattr(module, "_PIECE", 100)
    monkeypatch.setattr(module, "read_json", None)
    (first,) = inventory(workspace).stores
    assert (first.images, first.rows, first.manifest.broken) == (70_000, 70_000, 2)
    manifests = [file.name for file in read if str(file.name) == str(path)]
    assert inventory(workspace).stores == (first,)
    assert [file.name for file in read if str(file.name) == str(path)] == manifests == [str(path)]


def test_a_manifest_laid_out_by_another_program_is_read_whole(full):
    shutil.rmtree(full.activations("a"))
    write_store(full.activations("a"), trainings.activations()[0], tokens=4, version=1)
    path = full.activations("a") / "manifest.json"
    (before,) = inventory(full).stores
    manifest = json.loads(path.read_text())
    manifest["images"][3]["broken"] = "no image"
    del manifest["content_sha256"]  # as older versions wrote it
    path.write_text(json.dumps({"images": manifest.pop("images"), **manifest}))
    (after,) = inventory(full).stores
    assert after == replace(before, manifest=replace(before.manifest, broken=1), when=after.when)
    write_json(path, {"images": [], **manifest})  # our layout, in another order
    assert inventory(full).stores[0].rows == 1200


def test_the_listing_costs_no_torch():
    script = "import sys, engine.artefacts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
