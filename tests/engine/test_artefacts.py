"""The listing of a workspace against the artefacts read whole, and against everything that can be wrong with them."""

import json
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
from engine.config import SteerSettings
from engine.errors import Stopped
from engine.files import lock, write_json, write_text
from engine.inventory import inventory
from engine.sae.train import train
from engine.steer.recipes import save_recipe
from engine.workspace import Workspace
from tests.engine.sae import test_train
from tests.support.extractions import Recorder, ask, saved_model, write_pictures
from tests.support.scores import SUMMARY, write_scores
from tests.support.stores import write_store


def neurons_file(workspace: Workspace, sae: str, images: str, **summary) -> Path:
    return write_scores(workspace.neurons(sae, images), 2, replace(SUMMARY, sae=sae, embed_with="demo", **summary))


@pytest.fixture
def full(workspace: Workspace) -> Workspace:
    """One of everything, but for what extraction makes."""
    store = write_store(workspace.activations("a"), test_train.activations()[0], tokens=4, source={"spec": "/pictures"})
    write_store(workspace.embeddings("e"), np.ones((5, 3), np.float32), shard_images=2)
    train(test_train.chosen(), workspace)
    with pytest.raises(Stopped):
        train(test_train.chosen(name="half"), workspace, test_train.Recorder(stop_at=12))
    neurons_file(workspace, "s", "test", settings=replace(SUMMARY.settings, images="/tests"))
    save_recipe(workspace, SteerSettings(sae="s", vlm="demo", save_recipe="red"), [])
    assert store.rows == 1200
    return workspace


def test_stores_as_extraction_makes_them(workspace, tmp_path):
    model, images = saved_model(tmp_path / "m"), write_pictures(tmp_path / "images", 30)
    extract(ask(model, images), workspace)
    with pytest.raises(Stopped):
        extract(ask(model, images, name="B", tokens="cls"), workspace, Recorder(0))  # a batch: no shard is full
    with pytest.raises(Stopped):
        extract(ask(model, images, name="C"), workspace, Recorder(3))
    extract(ask(model, images, at=("last",), embeddings=True, name="E"), workspace)
    found = inventory(workspace)
    whole, part = found["stores"]
    store = Store.open(workspace.activations("A"))
    assert (whole["name"], whole["state"], whole["broken"]) == ("A", "complete", 1)
    assert (whole["images"], whole["of_images"]) == (30, 30) == (len(store.images),) * 2
    assert (whole["rows"], whole["d"], whole["tokens"], whole["hook"]) == (store.rows, store.d, "all", "layer:1")
    assert (whole["dtype"], whole["model"], whole["source"]) == ("float16", str(model), str(images))
    assert whole["bytes"] == sum(p.stat().st_size for p in store.path.glob("*.h5")) and whole["shards"] == 4
    assert (part["name"], part["state"], part["images"], part["of_images"]) == ("C", "unfinished", 16, 30)
    assert part["broken"] is None and part["shards"] == 2 and "error" not in part
    assert [entry["name"] for entry in found["embeddings"]] == ["E"]
    (source,) = found["sources"]
    assert source == {"spec": str(images), "images": 30, "exists": True, "used_by": ["A", "C", "E"]}
    with lock(workspace.activations("C")), lock(workspace.activations("D")):
        assert [(e["name"], e["state"]) for e in inventory(workspace)["stores"]] == [
            ("A", "complete"), ("C", "writing"), ("D", "writing"),
        ]  # fmt: skip


def test_one_of_everything(full):
    found = inventory(full)
    half, sae = found["saes"]
    result = json.loads((full.sae("s") / "training.json").read_text())["result"]
    assert (sae["state"], sae["arch"], sae["d"], sae["w"], sae["k"]) == ("complete", "matryoshka-batchtopk", 16, 32, 3)
    assert (sae["activations"], sae["hook"], sae["step"], sae["result"]) == ("a", "layer:3", 30, result)
    assert sae["bytes"] == (full.sae("s") / "sae.safetensors").stat().st_size
    assert (half["name"], half["state"], half["step"], half["k"]) == ("half", "unfinished", 12, 3)
    (scores,) = found["neurons"]
    assert (scores["name"], scores["sae"], scores["images"]) == ("s--test", "s", "test")
    assert (scores["of_images"], scores["ms"], scores["alive"]) == (3, 0.4, 2)
    (recipe,) = found["recipes"]
    assert recipe["name"] == "red" and recipe["settings"]["vlm"] == "demo"
    assert [(e["shards"], e["images"], e["rows"]) for e in found["embeddings"]] == [(3, 5, 5)]
    assert all(Path(e["path"]).exists() and e["when"] > 1e9 for kind in found if kind != "sources" for e in found[kind])


def test_sources_of_images_are_gathered(full):
    write_text(full.root / "workspace.toml", 'images = "/asked/*.tar"')
    (full.root / "images" / "train").mkdir(parents=True)
    (full.root / "images" / ".hidden").mkdir()
    assert [(s["spec"], s["exists"], s["used_by"]) for s in inventory(full)["sources"]] == sorted([
        ("/asked/*.tar", False, []), ("/pictures", False, ["a"]), ("/tests", False, ["s--test"]),
        (str(full.root / "images" / "train"), True, []),
    ])  # fmt: skip
    write_text(full.root / "workspace.toml", "images = [")
    assert len(inventory(full)["sources"]) == 3


def test_a_workspace_without_anything(tmp_path):
    found = inventory(Workspace(tmp_path / "none"))
    assert found == {kind: [] for kind in ("stores", "embeddings", "saes", "neurons", "recipes", "sources")}


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
    (damaged,) = [entry for entry in found[kind] if "error" in entry]
    assert says in damaged["error"] and damaged["path"]
    assert sum("error" in entry for entries in found.values() for entry in entries) == 1


def test_missing_parts_are_named(full):
    (full.activations("a") / "shard-00000.h5").unlink()
    (full.sae("s") / "config.json").unlink()
    (full.embeddings("e") / "manifest.json").unlink()
    found = inventory(full)
    assert "shard-00000.h5 is missing" in found["stores"][0]["error"]
    assert "has weights and no config.json" in found["saes"][1]["error"]
    assert "no manifest.json" in found["embeddings"][0]["error"]


FILES = ("activations/a/manifest.json", "saes/s/config.json", "saes/s/training.json", "neurons/s--n.h5",
         "recipes/r.toml", "workspace.toml", "saes/h/checkpoints/newest.safetensors")  # fmt: skip
JUNK = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"[]", b"{}", b"1", b'{"format": "saetui-activations"}', b"settings = 3", b"images = 3"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FILES), JUNK, min_size=1))
def test_no_content_of_any_file_raises(tmp_path_factory, junk):
    workspace = Workspace(tmp_path_factory.mktemp("junk"))
    for name, content in junk.items():
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert all(entry["error"] for entry in inventory(workspace)["stores"])
    shutil.rmtree(workspace.root)


def test_the_list_of_images_is_not_read(workspace, monkeypatch):
    """The head alone says the same as the whole; and what has not changed is not read again."""
    store = write_store(workspace.activations("a"), np.ones((70_000, 1), np.float16), dtype="float16", broken=2)
    path = store.path / "manifest.json"
    assert path.stat().st_size > 8e6
    path.write_bytes(path.read_bytes()[:5000])
    read = []
    real = open
    monkeypatch.setattr(module, "open", lambda *a: read.append(real(*a)) or read[-1], raising=False)
    monkeypatch.setattr(module, "_PIECE", 100)
    monkeypatch.setattr(module, "read_json", None)
    (first,) = inventory(workspace)["stores"]
    assert (first["images"], first["rows"], first["broken"]) == (70_000, 70_000, 2)
    manifests = [file.name for file in read if str(file.name) == str(path)]
    assert inventory(workspace)["stores"] == [first]
    assert [file.name for file in read if str(file.name) == str(path)] == manifests == [str(path)]


def test_a_manifest_laid_out_by_another_program_is_read_whole(full):
    path = full.activations("a") / "manifest.json"
    (before,) = inventory(full)["stores"]
    manifest = json.loads(path.read_text())
    manifest["images"][3]["broken"] = "no image"
    path.write_text(json.dumps({"images": manifest.pop("images"), **manifest}))
    (after,) = inventory(full)["stores"]
    assert after == before | {"broken": 1, "when": after["when"]}
    write_json(path, {"images": [], **manifest})  # our layout, in another order
    assert inventory(full)["stores"][0]["rows"] == 1200


def test_the_listing_costs_no_torch():
    script = "import sys, engine.inventory; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
