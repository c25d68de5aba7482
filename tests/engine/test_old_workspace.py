"""A workspace that saetui 0.1.0 made, opened by the commands alone: whatever is rebuilt, what people have must open.

``tests/old_workspace/README.md`` says how it was made. The numbers here are what was read from it on that day.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from engine.neurons.file import Neurons
from tests.support.shell import saetui, saetui_json

MADE = Path(__file__).parent.parent / "old_workspace"
STORE = {"rows": 384, "d": 192, "images": 24, "hook": "layer:4", "tokens": "patches", "dtype": "float16"}
MATRYOSHKA = {"arch": "matryoshka-batchtopk", "d": 192, "w": 48, "k": 4, "groups": [3, 9, 21, 48], "hook": "layer:4"}
JUMP = {"arch": "jumprelu", "d": 192, "w": 24, "k": 0, "groups": [], "model": "demo"}
DETACHED = {"arch": "topk", "d": 192, "w": 12, "k": 2}
SCORES = {"matryoshka": (47, 0.12372378, 0.03444542), "jump": (24, 0.03294148, 0.03717644)}  # alive, MS, matched
TRAINED = ("--lr", 0.003, "--batch-size", 128)


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copytree(MADE, tmp_path / "study"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def subset(whole, part):
    return {key: whole[key] for key in part}


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("activations/patches", STORE),
        ("saes/matryoshka", MATRYOSHKA),
        ("saes/jump", JUMP),
        ("saes/detached", DETACHED),
    ],
)
def test_stores_and_saes_are_shown(old, name, facts):
    shown = saetui_json("show", name, cwd=old)
    assert subset(shown, facts) == facts
    assert shown["name"] in saetui("show", name, cwd=old).stdout


def test_embeddings_are_shown(old):
    [store] = (old / "embeddings").iterdir()
    shown = saetui_json("show", store, cwd=old)
    assert (shown["rows"], shown["d"], shown["dtype"], shown["hook"]) == (24, 192, "float32", "last")


@pytest.mark.parametrize(("sae", "fve"), [("matryoshka", -0.668253), ("jump", -0.336513), ("detached", -0.680285)])
def test_what_a_training_reached_is_kept(old, sae, fve):
    assert saetui_json("show", f"saes/{sae}", cwd=old)["result"]["fve"] == pytest.approx(fve, abs=1e-6)


@pytest.mark.parametrize("sae", SCORES)
def test_scores_name_sources_that_are_unchanged(old, sae):
    shown = saetui_json("show", f"neurons/{sae}--images.h5", cwd=old)
    alive, ms, matched = SCORES[sae]
    assert shown["summary"]["alive"] == alive and shown["summary"]["images"] == 24
    assert shown["summary"]["ms"]["sae"]["mean"] == pytest.approx(ms, abs=1e-6)
    assert shown["summary"]["ms"]["matched"]["mean"] == pytest.approx(matched, abs=1e-6)
    sources = {source["kind"]: source for source in shown["chain"]}
    assert sources["sae"]["state"] == sources["embeddings"]["state"] == "unchanged", "found by name, in another place"
    assert next(s for s in sources["sae"]["chain"] if s["kind"] == "activations")["state"] == "unchanged"


def test_recipes_and_runs_are_shown(old):
    recipe = saetui_json("show", "recipes/hat.toml", cwd=old)
    assert recipe["recipe"]["settings"]["latent"] == ["27=2x"]
    assert [(source["name"], source["state"]) for source in recipe["chain"]] == [("matryoshka", "unchanged")]
    assert "27=2x" in saetui("show", "recipes/hat.toml", cwd=old).stdout
    assert "a dotted yellow hat on a white background" in saetui("show", "runs/20261126-022549-steer", cwd=old).stdout
    stopped = saetui_json("show", "runs/20261126-022513-train", cwd=old)["status"]
    assert stopped["state"] == "stopped" and stopped["progress"]["done"] == 270


@pytest.mark.parametrize("name", ["patches", "saes/matryoshka", "neurons/matryoshka--images.h5", "recipes/hat.toml"])
def test_what_is_nested_is_shown_in_words(old, name):
    said = saetui("show", name, cwd=old).stdout
    assert "{" not in said and "None" not in said and "made from" in said
    if name.startswith("neurons"):
        head = next(line for line in said.splitlines() if line.strip().startswith("groups"))
        assert head.split()[1:4] == ["latents", "left_out", "ms"]


def test_runs_are_listed_and_followed(old):
    runs = saetui_json("jobs", cwd=old)
    tasks = " ".join(run["task"] for run in runs)
    assert tasks == "extract train train train score score train steer steer"
    assert [run["id"] for run in runs if run["state"] != "done"] == ["20261126-022513-train"]
    assert "train 45%" in saetui("jobs", cwd=old).stdout  # 270 of 600 steps
    assert "done" in saetui("jobs", "follow", "20261126-022439", cwd=old).stdout


def test_every_byte_is_as_it_was_written(old):
    assert "every byte of 1 shard" in saetui("verify", "patches", cwd=old).stdout
    [embeddings] = (old / "embeddings").iterdir()
    assert saetui_json("verify", embeddings, cwd=old)["problems"] == []


def test_latents_are_listed_with_their_scores(old):
    first, second = saetui_json("neurons", "matryoshka", "--sort", "ms", "--top", 2, cwd=old)["latents"]
    assert (first["latent"], first["support"], first["group"]) == (1, 3, 0)
    assert first["ms"] == pytest.approx(0.872205, abs=1e-6) and first["maximum"] == pytest.approx(211.9485, abs=1e-3)
    assert first["names"] == ["grey", "black", "empty", "black and white", "sign"]
    assert second["latent"] == 14 and second["ms"] == pytest.approx(0.549249, abs=1e-6)
    best = saetui_json("neurons", "jump", "--sort", "ms", "--top", 1, cwd=old)["latents"][0]
    assert (best["latent"], best["names"][:2]) == (6, ["sun", "orange"])
    assert [one["path"] for one in best["top_images"][:2]] == [
        "031_sky_star_striped/000012.png",
        "025_sky_sun_striped/000009.png",
    ]
    assert all((old / "images" / one["path"]).is_file() for one in best["top_images"])


def test_copies_are_found_in_what_the_judge_left_behind(old):
    with Neurons.open(old / "neurons/matryoshka--images.h5") as neurons:
        assert neurons.complete and (neurons.distinct <= (neurons.top_images >= 0).sum(axis=1)).all()
        assert set(np.flatnonzero(neurons.copies).tolist()) < set(range(neurons.w))
    shutil.rmtree(old / "embeddings")
    with Neurons.open(old / "neurons/matryoshka--images.h5") as neurons:
        assert np.isnan(neurons.distinct).all() and not neurons.copies.any() and not neurons.complete


def test_top_images_are_drawn(old):
    drawn = saetui("neurons", "jump", "--sort", "ms", "--top", 1, "--images", cwd=old).stdout.splitlines()
    assert drawn[-1].split()[:2] == ["168.07", "155.82"] and len(drawn) > 7


def test_labels_name_latents_and_mark_them(old):
    table = saetui("neurons", "matryoshka", "--search", "clouds", cwd=old).stdout
    assert "clouds on black" in table and "1 latent found" in table
    marked = saetui_json("neurons", "matryoshka", "--search", "marked", cwd=old)["latents"]
    assert {row["latent"]: row["label"] for row in marked} == {1: "dark backgrounds", 14: "clouds on black"}
    [house] = saetui_json("neurons", "matryoshka", "--search", '"flat"', cwd=old)["latents"]
    assert (house["latent"], house["label"]) == (27, 'houses, "flat" ones')


def test_recipes_are_answered(old):
    """Not as they were: the demo's models are others today. The SAE is the one that the recipe was made with."""
    said = saetui("steer", "--recipe", "hat", cwd=old)
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["untouched", "attached", "steered"]
    assert said.stdout.splitlines()[0].endswith("an empty white background") and "changed" not in said.stderr


@pytest.mark.parametrize(("sae", "shape", "nonzero"), [("matryoshka", (384, 48), 1487), ("jump", (384, 24), 2553)])
def test_saes_encode_as_they_did(old, sae, shape, nonzero):
    out = saetui_json("encode", sae, "patches", "--out", "latents.npz", cwd=old)
    latents = sparse.load_npz(old / "latents.npz")
    assert latents.shape == shape and latents.nnz == out["nonzero"] == nonzero


def test_what_is_trained_is_not_trained_again(old):
    before = {kind: contents(old / kind) for kind in ("activations", "embeddings", "saes", "neurons")}
    matryoshka = ("--name", "matryoshka", "--expansion", 0.25, "--k", 4, "--steps", 300, *TRAINED)
    jump = ("--name", "jump", "--arch", "jumprelu", "--l0", 0.03, "--expansion", 0.125, "--steps", 300, *TRAINED)
    assert "it was trained already" in saetui("train", "patches", *matryoshka, cwd=old).stdout
    assert "it was trained already" in saetui("train", "patches", *jump, cwd=old).stdout
    assert {kind: contents(old / kind) for kind in before} == before


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("extract", "--at", "layer:4", "--tokens", "patches", "--name", "patches"), "give another --name"),
        (("score", "jump"), "holds scores of the encoder demo as it was then: give another --name"),
    ],
)
def test_models_that_changed_are_not_mixed_with_those_of_then(old, command, says):
    before = {kind: contents(old / kind) for kind in ("activations", "embeddings", "saes", "neurons")}
    assert says in saetui(*command, cwd=old, code=2).stderr
    assert {kind: contents(old / kind) for kind in before} == before


def test_a_training_that_was_interrupted_goes_on(old):
    flags = ("--arch", "batchtopk", "--expansion", 0.0625, "--k", 2, "--steps", 600, *TRAINED)
    kept = ("--eval-every", 200, "--checkpoint-every", 100)
    result = saetui_json("train", "patches", "--name", "interrupted", *flags, *kept, cwd=old)
    assert result["steps"] == 600 and result["fve"] == pytest.approx(-0.680519, abs=1e-3)
    newest = Path(saetui_json("jobs", cwd=old)[-1]["path"])
    events = map(json.loads, (newest / "events.jsonl").read_text().splitlines())
    first = next(event for event in events if event["kind"] == "progress")
    assert first["done"] > 270, "it goes on from its checkpoint"


EXTRACT = ("extract", "--at", "layer:4", "--tokens", "patches", "--name", "today")


def test_a_shard_that_is_made_anew_leaves_the_manifest_as_it_was(old):
    """So the store keeps its hash, and nothing that was made from it counts as made from another."""
    saetui(*EXTRACT, cwd=old)
    folder = old / "activations" / "today"
    before = json.loads((folder / "manifest.json").read_text())
    (folder / "shard-00000.h5").unlink()
    assert saetui_json(*EXTRACT, cwd=old)["extracted_now"] == 24
    after = json.loads((folder / "manifest.json").read_text())
    assert list(after) == list(before) and after == before
    assert "it was complete already" in saetui(*EXTRACT, cwd=old).stdout


def test_what_is_scored_is_not_scored_again(old):
    saetui(*EXTRACT, cwd=old)
    saetui("train", "today", "--name", "new", "--expansion", 0.125, "--k", 2, "--steps", 20, *TRAINED, cwd=old)
    first = saetui_json("score", "new", cwd=old)
    before = {kind: contents(old / kind) for kind in ("activations", "embeddings", "saes", "neurons")}
    again = saetui_json("score", "new", cwd=old)
    assert first["made"] and not again["made"] and again["ms"] == first["ms"] and again["alive"] == first["alive"]
    assert {kind: contents(old / kind) for kind in before} == before
