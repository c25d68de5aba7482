"""Which SAEs are held against which, and what each is ahead of: by how they were made, never by names."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.artefacts.entries import SAEEntry, read_entry
from engine.artefacts.twins import Earned, Twins
from engine.config import BaselineSettings
from engine.files import read_json, write_json
from engine.metrics.means import difference_of
from engine.neurons.concept_results import read_concepts
from engine.neurons.results import best
from engine.sae.baseline import baseline
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support.trainings import chosen
from tests.support.twins import MS, TESTS, make, probed, scored


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make(place := Workspace(tmp_path_factory.mktemp("twins") / "w"))
    return place.root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made, tmp_path / "w")))


def sae(place: Workspace, name: str) -> SAEEntry:
    found = read_entry(SAEEntry, place.sae(name))
    assert found is not None and not found.error
    return found


def earned(place: Workspace, name: str = "m") -> Earned:
    return Twins.of(place).earned(sae(place, name))


def test_twins_differ_in_what_is_frozen_alone_and_directions_are_as_many_as_sparse(place: Workspace) -> None:
    twins = Twins.of(place)
    assert [(one.what, one.entry.name) for one in twins.controls(sae(place, "m"))] == [
        ("soft decoder", "c"), ("frozen decoder", "q"), ("PCA", "d1"), ("k-means", "d2"),
    ]  # fmt: skip
    assert [one.entry.name for one in twins.frozen(sae(place, "o"))] == ["z"]
    for control in ("q", "d1"):
        assert twins.controls(sae(place, control)) == [], "a control has none"


def test_all_principal_components_stand_beside_more_latents(place: Workspace) -> None:
    train(chosen(name="wide", expansion=3.0, steps=6, lr=0.1), place)
    assert [one.entry.name for one in Twins.of(place).directions(sae(place, "wide"))] == ["d1"]


def test_what_is_asked_for_beside_fewer_latents_is_what_was_missing(place: Workspace) -> None:
    train(chosen(name="narrow", expansion=0.5, arch="topk", steps=6, lr=0.1), place)
    _, directions = earned(place, "narrow").missing
    asked = directions.partition("saetui baseline ")[2].split()
    assert asked[:7] == ["a", "--of", "pca", "--expansion", "0.5", "--k", "3"]
    baseline(BaselineSettings(activations="a", of="pca", expansion=0.5, k=3, name="fewer", device="cpu"), place)
    assert len(earned(place, "narrow").missing) == 1


def test_names_and_older_files_tell_the_same(place: Workspace) -> None:
    for name, other in (("m", "first"), ("q", "m"), ("d1", "zz")):
        place.sae(name).rename(place.sae(other))
    training = place.sae("m") / "training.json"
    said = read_json(training)
    del said["identity"]["max_norm"]  # of a version without that setting
    write_json(training, said)
    controls = Twins.of(place).controls(sae(place, "first"))
    assert {one.entry.name for one in controls} == {"c", "m", "zz", "d2"}


def test_fve_stands_beside_that_of_the_same_rows(place: Workspace) -> None:
    found = earned(place).held_out
    assert [one.sae for one in found] == ["m", "c", "q", "d1"], "d2 holds other images out"
    for one in found:
        of = sae(place, one.sae).held_out
        assert of is not None and (one.fve, one.l0, one.rows) == (of.fve, of.l0, of.rows)
    kept = place.sae("d1") / "config.json"
    said = read_json(kept)
    assert said["measured"]["held_out"]["fve"] == found[-1].fve
    write_json(kept, {key: value for key, value in said.items() if key != "measured"})
    assert [one.sae for one in earned(place).held_out] == ["m", "c", "q"], "an older version did not keep it"


def test_ms_stands_beside_that_of_the_same_images_and_judge(place: Workspace) -> None:
    scored(place, "m", MS)
    scored(place, "q", MS - 0.1)
    scored(place, "c", MS - 0.2, images="o" * 64)
    scored(place, "d1", MS - 0.05, embeddings="o" * 64)
    scored(place, "d2", MS / 3, on="named-otherwise")
    scored(place, "d2", MS / 4, on="pooled", pooling="mean")
    (found,) = earned(place).ms
    assert [(one.control, one.sae) for one in found.rows] == [
        ("", "m"), ("frozen decoder", "q"), ("k-means", "d2"), ("matched raw neurons", ""),
    ]  # fmt: skip
    ours, twin, directions, matched = found.rows
    assert ours.score.n == 31 and ours.score.mean == pytest.approx(np.nanmean(MS)) and ours.ahead is None
    assert twin.score.mean == pytest.approx(np.nanmean(MS) - 0.1)
    assert (twin.ahead.mean, twin.ahead.low) == pytest.approx((0.1, difference_of(MS, MS - 0.1).low))
    assert directions.ahead.low > 0, "it is ahead of these beyond chance"
    apart = MS[~np.isnan(MS)] / 2
    half = 2.0423 * apart.std(ddof=1) / np.sqrt(31)  # t of 30 degrees of freedom, over pairs
    assert (matched.ahead.mean, matched.ahead.low) == pytest.approx((apart.mean(), apart.mean() - half), abs=1e-5)
    assert (found.on, found.judge, found.images) == ("test", "demo:encoder", 3)
    listed = Twins.of(place)
    (scores,) = listed.scores(sae(place, "m"))
    in_short = listed.beside(scores)
    assert in_short == tuple(replace(one, ahead=None) for one in (twin, directions)), "as summaries have it"
    assert best(in_short).sae == "q" and best([]) is None


def test_scores_of_what_an_sae_was_before_are_none_of_it(place: Workspace) -> None:
    scored(place, "m", MS)
    scored(place, "q", MS)
    train(chosen(name="q2", frozen="decoder", steps=7, lr=0.1), place)
    for name in ("sae.safetensors", "config.json", "training.json"):
        shutil.copy(place.sae("q2") / name, place.sae("q") / name)
    assert [one.sae for one in earned(place).ms[0].rows] == ["m", ""]


def test_scores_that_do_not_say_their_images_are_not_compared(place: Workspace) -> None:
    for name in ("m", "q"):
        scored(place, name, MS, images="")
    assert [one.control for one in earned(place).ms[0].rows] == ["", "matched raw neurons"]


def test_auroc_stands_beside_that_of_the_same_tests(place: Workspace) -> None:
    probed(place, "m", 0.0)
    probed(place, "q", -0.125)
    probed(place, "c", 0.25, seed=7)
    (found,) = earned(place).auroc
    names = ["", "frozen decoder", "matched raw neurons", "random directions", "shuffled labels"]
    assert [one.control for one in found.rows] == names
    told = read_concepts(TESTS)
    ours, twin, matched, *_ = found.rows
    assert (ours.score.n, ours.score.mean) == (2, pytest.approx(told.latents.auroc.mean))
    assert (twin.ahead.n, twin.ahead.mean, twin.ahead.low) == (2, pytest.approx(0.125), pytest.approx(0.125))
    apart = [one.auroc.mean - one.matched for one in told.tests]
    assert matched.ahead.mean == pytest.approx(np.mean(apart)) and matched.ahead.n == len(apart)


def test_controls_scored_elsewhere_are_said_with_where_and_the_way_to_it(place: Workspace) -> None:
    for name, on, changes in (
        ("m", "test", {}), ("m", "more", {"images": "j" * 64}), ("q", "test", {}), ("q", "few", {"images": "k" * 64}),
        ("d2", "more", {"images": "j" * 64}),
    ):  # fmt: skip
        scored(place, name, MS, on=on, **changes)
    on = {name: f"{name} (3 images, patches, max, by demo:encoder)" for name in ("test", "more", "few")}
    again = "--images /pictures/val --embed-with demo:encoder makes it."
    assert sorted(earned(place).missing) == [
        f"There is no MS like that on {on['more']} of soft decoder c; frozen decoder q, scored on {on['few']}, "
        f"{on['test']}; PCA d1: saetui score c q d1 {again}",
        f"There is no MS like that on {on['test']} of soft decoder c; PCA d1; k-means d2, scored on {on['more']}: "
        f"saetui score c d1 d2 {again}",
    ]
    for name in ("c", "d1", "d2"):
        scored(place, name, MS)
    assert [one for one in earned(place).missing if on["test"] in one.partition(" of ")[0]] == []


def test_what_is_not_there_is_said_with_the_way_to_it(place: Workspace) -> None:
    scored(place, "m", MS)
    assert not any("There are no" in one or "frozen twin" in one for one in earned(place).missing)
    for name in ("q", "c", "d1", "d2"):
        shutil.rmtree(place.sae(name))
    found = earned(place)
    twin, directions = found.missing
    assert "--frozen decoder" in twin and "saetui baseline a --of pca --k 3 " in directions
    assert [one.sae for one in found.held_out] == ["m"]
    assert earned(place, "z") == replace(earned(place, "z"), missing=()), "a control is told of no controls"


def test_what_is_damaged_is_left_out(place: Workspace) -> None:
    for name in ("m", "q"):
        scored(place, name, MS)
    (place.sae("c") / "training.json").write_text("{")
    neurons = place.neurons("q", "test")
    neurons.write_bytes(neurons.read_bytes()[:-9])
    found = earned(place)
    assert [one.sae for one in found.held_out] == ["m", "q", "d1"] and len(found.ms[0].rows) == 2
