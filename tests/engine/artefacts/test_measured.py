"""What was measured of an SAE beside its scores: of the weights that it has now, whatever they are called."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.artefacts.entries import SAEEntry, read_entry
from engine.artefacts.measured import measured_of
from engine.sae.config import weights_sha256
from engine.sae.stability_file import read_stability
from engine.steer.fidelity.file import write_fidelity
from engine.workspace import Workspace
from tests.support.reports import fidelity_of, recovery

OLD = Path(__file__).parents[2] / "old_workspace"


@pytest.fixture
def old(tmp_path) -> Workspace:
    work = Workspace(Path(shutil.copytree(OLD, tmp_path / "study")))
    write_fidelity(fidelity_of(work, "jump"), work)
    return work


def of(name: str, work: Workspace):
    return {one.kind: one for one in measured_of(read_entry(SAEEntry, work.sae(name)), work)}


def test_each_result_is_told_with_its_controls(old):
    found = of("jump", old)
    assert [one.shown_by for one in found.values()] == [
        "fidelity/jump--old", "steerability/jump--old", "stability/old",
    ]  # fmt: skip
    accuracy, cosine, *_, answers = found["fidelity"].figures
    assert accuracy.untouched == accuracy.score == recovery().untouched and accuracy.beside == recovery().ablated
    assert cosine.untouched is None and answers.quantity == "spliced_kl", "the untouched model is all of itself"
    assert found["fidelity"].on == ("pictures",) and found["steerability"].on == ("jump--images",)
    (pair,) = read_stability(old.root / "stability/old.json").pairs
    (figure,) = found["stability"].figures
    assert figure.score == pair.matched and figure.name == "matched with matryoshka"
    (back,) = of("matryoshka", old)["stability"].figures
    assert back.name == "matched with jump" and list(of("matryoshka", old)) == ["stability"]


def test_only_results_of_these_weights_are(old):
    shutil.rmtree(old.sae("jump"))
    shutil.copytree(old.sae("matryoshka"), old.sae("jump"))
    assert list(of("jump", old)) == ["stability"], "that of the weights which have the name now"
    assert of("jump", old)["stability"].figures[0].name == "matched with jump"
    copied = weights_sha256(old.sae("jump"))
    said = fidelity_of(old, "jump")
    write_fidelity(replace(said, path=said.path.replace("jump--old", "other--old"), sae="other"), old)
    assert copied in str(said.provenance) and "fidelity" in of("jump", old), (
        "the name that a result says does not matter"
    )


def test_what_is_damaged_or_not_finished_is_left_out(old):
    (old.root / "fidelity/jump--old.json").write_text("{")
    (old.root / "steerability/jump--old/scores.json").unlink()
    assert list(of("jump", old)) == ["stability"]
    assert measured_of(SAEEntry(path=old.sae("none")), old) == ()
