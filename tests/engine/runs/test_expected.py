"""What a training and a scoring will take is what they took here."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import ScoresSettings, TrainSettings
from engine.runs.expected import expected_scoring, expected_training
from engine.workspace import Workspace

OLD = Path(__file__).parents[2] / "old_workspace"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(Path(shutil.copytree(OLD, tmp_path_factory.mktemp("expected") / "study")))


def test_a_training_is_expected_as_the_earlier_ones(old: Workspace) -> None:
    asked = {"activations": "patches", "name": "new", "expansion": 0.25, "k": 4, "batch_size": 128}
    found = expected_training(TrainSettings(**asked, steps=600), old)
    assert (found.rows, found.d, found.w, found.steps, found.passes) == (384, 192, 48, 600, 200)
    assert found.bytes == 4 * 4 * (2 * 192 * 48 + 2 * 48 + 192)
    twice = expected_training(TrainSettings(**asked, steps=1200, keep_state=False), old)
    assert found.seconds is not None and twice.seconds == pytest.approx(2 * found.seconds)
    assert twice.bytes == found.bytes // 4
    assert expected_training(TrainSettings(**asked), old).steps == 1000, "as many as the rows are worth"


def test_a_scoring_is_expected_as_the_earlier_ones(old: Workspace) -> None:
    asked = ScoresSettings(sae=("jump",), images=str(old.root / "images"), embed_with=("demo:encoder",))
    found = expected_scoring(asked, old)
    assert (found.images, found.latents) == (24, 24) and found.seconds is not None and 0 < found.seconds < 60
    size = old.neurons("jump", "images").stat().st_size
    assert found.bytes == pytest.approx(size, rel=0.6)
    both = expected_scoring(replace(asked, embed_with=("demo:encoder", "demo")), old)
    assert (both.images, both.latents) == (24, 24) and abs(both.bytes - 2 * found.bytes) < 2, "a file for each judge"
    assert both.seconds is not None and both.seconds > found.seconds, "who has not seen the images yet does"


def test_where_nothing_was_done_yet_the_time_is_not_known(old: Workspace, tmp_path: Path) -> None:
    place = Workspace(tmp_path / "study")
    shutil.copytree(old.root / "activations", place.root / "activations")
    assert expected_training(TrainSettings(activations="patches", name="x"), place).seconds is None
