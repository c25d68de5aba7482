"""Results of measurements beside scores: listed, described, compared, told of moves; damaged, unfinished, and old."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.artefacts import describe, find, inventory
from engine.artefacts.entries import Figure
from engine.artefacts.relink import relink
from engine.artefacts.verify import verify
from engine.config import RelinkSettings, StabilitySettings, VerifySettings
from engine.errors import UserError
from engine.files import read_json, write_json
from engine.kinds import ARTEFACTS, BY_FOLDER
from engine.neurons.concept_results import read_concepts
from engine.neurons.seal import neurons_sha256
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.sae.stability import stability
from engine.sae.stability_file import read_stability
from engine.steer.steerability.file import read_steerability
from engine.steer.steerability.log import Log, damaged_lines
from engine.workspace import Workspace
from tests.support.stores import write_store

MADE = Path(__file__).parents[2] / "old_workspace"
RESULTS = ["concepts/jump--old", "steerability/jump--old", "stability/old"]
FILES = ["concepts/jump--old.json", "steerability/jump--old/scores.json", "stability/old.json"]


@pytest.fixture
def old(tmp_path) -> Workspace:
    """With a result of each kind, of a version that did not say what a stability was made from."""
    return Workspace(Path(shutil.copytree(MADE, tmp_path / "study")))


def checked(name: str, place: Workspace):
    return verify(VerifySettings(store=str(find(name, place))), place)


def test_each_is_listed_with_its_figure_beside_its_control(old):
    concepts, steerability, stable = inventory(old).results
    assert [(one.kind.name, one.name, one.error) for one in (concepts, steerability, stable)] == [
        ("concepts", "jump--old", ""), ("steerability", "jump--old", ""), ("stability", "old", ""),
    ]  # fmt: skip
    tests = read_json(concepts.path)["tests"]
    mean = np.mean([one["auroc"]["value"] for one in tests])
    assert concepts.figure.score.mean == pytest.approx(mean) and concepts.figure.score.n == len(tests) == 2
    assert concepts.figure.beside.mean == pytest.approx(np.mean([one["matched"] for one in tests]))
    by = {one.condition: one.score for one in read_steerability(steerability.path / "scores.json").word.conditions}
    beside = by["attached"], by["untouched"]
    assert steerability.figure == Figure("one word", by["steered"], "SAE attached", *beside, "one_word")
    (pair,) = read_stability(stable.path).pairs
    assert (stable.figure.score.mean, stable.figure.score.low) == (pair.matched.mean, pair.matched.low)
    assert stable.figure.beside.high == pair.random_matched.high and stable.figure.score.n == pair.matched.n
    made = {one.kind.name: [(source.kind, source.name) for source in one.made_from] for one in inventory(old).results}
    assert made["stability"] == [("sae", "jump"), ("sae", "matryoshka")]
    assert ("neurons", "jump--images") in made["steerability"]
    [source] = [one for one in inventory(old).sources if "concepts/jump--old" in one.used_by]
    assert source.spec == str(old.root / "images") and "jump--images" in source.used_by


def test_of_several_pairs_the_figure_is_their_mean_between_the_ends_of_all(old):
    path = old.root / "stability/old.json"
    said = read_json(path)
    other = json.loads(json.dumps(said["pairs"][0]))
    other["matched"] |= {"mean": 0.9, "low": 0.8, "high": 0.95, "n": 3}
    before = said["pairs"][0]["matched"]
    write_json(path, said | {"pairs": [*said["pairs"], other]})
    score = inventory(old).results[2].figure.score
    assert score.mean == pytest.approx((before["mean"] + 0.9) / 2)
    assert (score.n, score.low, score.high) == (3, before["low"], 0.95)
    write_json(path, said | {"pairs": []})
    assert inventory(old).results[2].figure is None


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_described_with_its_chain(old, name):
    told = describe(name, old)
    states = {(one.kind, one.state) for one in told.chain}
    assert ("sae", "unchanged") in states and not {"changed", "missing"} & {state for _, state in states}
    said = told.to_json()
    assert (said["kind"], said["name"]) == tuple(name.split("/")) and len(said["sha256"]) == 64
    inner = next(one for one in told.chain if one.kind == "sae").chain
    assert [(one.kind, one.name) for one in inner] == [("activations", "patches")]


def test_scores_keep_a_name_that_concept_tests_have_too(old):
    shutil.copy(old.root / FILES[0], old.root / "concepts/jump--images.json")
    told = describe("jump--images", old)
    assert told.entry.kind.name == "neurons" and told.namesakes == ("concepts/jump--images",)
    assert describe("concepts/jump--images", old).entry.kind.name == "concepts"
    assert find("neurons/jump--images", old) == old.neurons("jump", "images")
    with pytest.raises(UserError, match=r"several things: .*concepts/jump--old.json, steerability/jump--old"):
        find("jump--old", old)


def test_a_folder_is_told_by_its_file_too(old):
    assert find(str(old.root / FILES[1]), old) == old.root / "steerability/jump--old" == find(RESULTS[1], old)
    assert describe(FILES[1], old).to_json()["sha256"] == describe(RESULTS[1], old).to_json()["sha256"]


def test_bytes_and_sources_are_compared(old):
    for name, files in zip(RESULTS, (1, 2, 1), strict=True):
        result = checked(name, old)
        assert (result.problems, result.changed, result.unrecorded, result.shards) == ((), (), (), files)
        assert {one.state for one in result.sources} <= {"unchanged", "not compared"}
        assert bool(result.unsourced) is (name == "stability/old")
    assert {one.kind for one in checked(RESULTS[0], old).sources if one.state == "unchanged"} == {"sae", "images"}
    next((old.root / "images").rglob("*.png")).unlink()
    shutil.rmtree(old.sae("matryoshka"))
    SAE.of(SAEConfig(arch="relu", d=4, w=2), weights(2)).save(old.sae("jump"))
    assert [one.split(",")[0] for one in checked(RESULTS[0], old).changed] == ["sae jump", f"images {old.root}/images"]
    assert "sae jump, which it was made from, is changed now" in checked(RESULTS[1], old).changed[0]
    states = [(one.name, one.state) for one in checked(RESULTS[2], old).sources]
    assert states == [("jump", "changed"), ("matryoshka", "missing")] and len(checked(RESULTS[2], old).changed) == 1


@pytest.mark.parametrize("harm", [lambda data: data[:90], lambda data: data.replace(b"jump", b"kump", 1)])
def test_damage_is_told_wherever_it_is_met(old, tmp_path, harm: Callable[[bytes], bytes]):
    for file in FILES:
        (old.root / file).write_bytes(harm((old.root / file).read_bytes()))
    for entry, file, name in zip(inventory(old).results, FILES, RESULTS, strict=True):
        assert str(old.root / file) in entry.error and entry.figure is None and entry.about == ""
        with pytest.raises(UserError, match="is damaged"):
            describe(name, old)
        assert "is damaged" in checked(name, old).problems[0]
    assert sum(bool(one.error) for one in inventory(old).entries) == len(FILES)
    before = [(old.root / file).read_bytes() for file in FILES]
    shutil.move(old.root / "images", tmp_path / "images")
    done = relink(RelinkSettings(old=str(old.root / "images"), new=str(tmp_path / "images")), old)
    assert list(done.damaged) == FILES and [(old.root / file).read_bytes() for file in FILES] == before


def test_what_has_no_seal_is_unrecorded_not_damaged(old):
    for file, name in zip(FILES, RESULTS, strict=True):
        write_json(old.root / file, read_json(old.root / file), seal=False)
        result = checked(name, old)
        assert result.problems == () and f"{file} has no hash" in result.unrecorded[0]
        assert not describe(name, old).entry.error


def test_a_line_that_a_kill_cut_off_is_ordinary_and_one_that_changed_is_not(old):
    folder = old.root / "steerability/jump--old"
    answers = folder / "answers.jsonl"
    whole = answers.read_bytes()
    for end in range(1, len(whole.splitlines()[-1]) + 1):
        answers.write_bytes(whole[:-end])
        assert damaged_lines(answers) == [], whole[:-end][-40:]
    assert checked(RESULTS[1], old).problems == ()
    log = Log(answers)  # goes on in a line of its own
    log.close()
    assert checked(RESULTS[1], old).problems == ()
    answers.write_bytes(whole)
    answers.write_bytes(whole.replace(b"answer", b"bnswer", 1))
    assert "bit has changed in 1 line, the first is line 1" in checked(RESULTS[1], old).problems[0]
    answers.write_bytes(whole)
    (folder / "scores.json").unlink()
    (entry,) = [one for one in inventory(old).results if one.path == folder]
    assert (entry.state, entry.error, entry.made_from) == ("unfinished", "", ()) and "goes on" in entry.about
    assert {one.listed()["state"] for one in inventory(old).results} == {"complete", "unfinished"}
    assert checked(RESULTS[1], old).shards == 1
    with pytest.raises(UserError, match="is not finished: run the same saetui steerability again"):
        describe(RESULTS[1], old).to_json()


def test_relink_moves_images_and_leaves_scores_what_they_were(old, tmp_path):
    data, scores = tmp_path / "data/images", old.neurons("jump", "images")
    before, sha256 = scores.read_bytes(), neurons_sha256(scores)
    shutil.move(old.root / "images", data)
    done = relink(RelinkSettings(old=str(old.root / "images"), new=str(data)), old)
    assert FILES[0] in {one.file for one in done.files} and FILES[1] not in {one.file for one in done.files}
    assert read_concepts(old.root / FILES[0]).settings.images == str(data)
    assert scores.read_bytes() != before and neurons_sha256(scores) == sha256
    for name in RESULTS:
        assert checked(name, old).changed == () and checked(name, old).problems == ()
    assert ("neurons", "unchanged") in {(one.kind, one.state) for one in describe(RESULTS[1], old).chain}
    relink(RelinkSettings(old=str(data), new=str(shutil.move(data, tmp_path / "again"))), old)
    assert neurons_sha256(scores) == sha256 and checked(RESULTS[0], old).changed == ()


def test_images_of_concept_tests_alone_are_compared_too(old, tmp_path):
    for folder in ("activations", "embeddings", "neurons"):
        shutil.rmtree(old.root / folder)
    moved = Path(shutil.move(old.root / "images", tmp_path / "images"))
    one = next(moved.rglob("*.png"))
    good = one.read_bytes()
    one.write_bytes(next(path for path in moved.rglob("*.png") if path != one).read_bytes())
    settings, file = RelinkSettings(old=str(old.root / "images"), new=str(moved)), old.root / FILES[0]
    before = file.read_bytes()
    with pytest.raises(UserError, match="does not hold the same images"):
        relink(settings, old)
    assert file.read_bytes() == before
    one.write_bytes(good)
    assert FILES[0] in {one.file for one in relink(settings, old).files}


def weights(w: int, seed: int = 0) -> dict[str, torch.Tensor]:
    W_dec = torch.nn.functional.normalize(torch.randn(w, 4, generator=torch.Generator().manual_seed(seed)), dim=1)
    return {"W_enc": W_dec.T, "b_enc": torch.zeros(w), "W_dec": W_dec, "b_dec": torch.zeros(4)}


@pytest.fixture
def stable(workspace) -> Workspace:
    """SAEs that were compared where they fire on a store."""
    write_store(workspace.activations("a"), np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    for seed, name in enumerate(("one", "two")):
        SAE.of(SAEConfig(arch="relu", d=4, w=6), weights(6, seed)).save(workspace.sae(name))
    stability(StabilitySettings(saes=("one", "two"), alive_on="a", name="r", device="cpu"), workspace)
    return workspace


def test_a_stability_says_what_it_was_made_from(stable, tmp_path):
    result = checked("stability/r", stable)
    assert [(one.kind, one.name, one.state) for one in result.sources] == [
        ("sae", "one", "unchanged"), ("sae", "two", "unchanged"), ("activations", "a", "unchanged"),
    ]  # fmt: skip
    assert (result.unsourced, result.unrecorded, result.changed) == ("", (), ())
    assert read_stability(stable.root / "stability/r.json").settings.alive_on == "a"
    paths = [one["path"] for one in read_json(stable.root / "stability/r.json")["provenance"]["made_from"]]
    assert paths == ["saes/one", "saes/two", "activations/a"]
    latents = read_json(stable.root / "stability/r.json")["latents"]
    away = shutil.move(stable.sae("two"), tmp_path / "two")
    assert [one.state for one in describe("r", stable).chain] == ["unchanged", "missing", "unchanged"]
    relink(RelinkSettings(old=str(stable.sae("two")), new=str(away)), stable)
    assert [one.state for one in describe("r", stable).chain] == ["unchanged"] * 3
    assert read_json(stable.root / "stability/r.json")["latents"] == latents
    SAE.of(SAEConfig(arch="relu", d=4, w=6), weights(6, 7)).save(stable.sae("three"))
    with pytest.raises(UserError, match="is another artefact than the one that was used"):
        relink(RelinkSettings(old=str(away), new=str(stable.sae("three"))), stable)


def test_kinds_have_names_and_folders_of_their_own():
    assert len({kind.name for kind in ARTEFACTS}) == len({kind.folder for kind in ARTEFACTS}) == len(ARTEFACTS)
    assert all(bool(kind.suffix) != bool(kind.marks) for kind in BY_FOLDER.values())
    root = Path("/w")
    for kind in ARTEFACTS:
        place = kind.place(root, "a.b--c")
        assert kind.place(root, place.name) == place and kind.name_of(place) == "a.b--c"
    assert replace(ARTEFACTS[0], name="x") not in ARTEFACTS
