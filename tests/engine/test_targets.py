"""What cannot be written is found before the work, not at its end: a folder in a file's place, a full disk, a name
that no file can have."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.activations.extract import extract
from engine.config import (
    EncodeSettings,
    ExportSettings,
    FigureSettings,
    PlanSettings,
    ReportSettings,
    ScoreSettings,
    SteerSettings,
)
from engine.errors import UserError, refusal
from engine.files import check_target
from engine.neurons.score import score
from engine.runs.plan import run_plan
from engine.runs.tasks import TASKS
from engine.sae.encode import encode_store
from engine.sae.train import train
from engine.steer.compare import steer
from engine.workspace import LONGEST, Workspace, check_name, neurons_path, short_slug
from tests.support import trainings
from tests.support.extractions import ask, saved_model, write_pictures
from tests.support.failing_disk import Disk, failing
from tests.support.pipeline import TRAINING

Work = Callable[[Workspace, trainings.Recorder], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images, and a workspace with a store ``A`` and an SAE ``s``."""
    root = tmp_path_factory.mktemp("made")
    extract(ask(saved_model(root / "model"), write_pictures(root / "images", 4)), Workspace(root / "workspace"))
    train(TRAINING, Workspace(root / "workspace"))
    return root


@pytest.fixture
def place(made: Path) -> Workspace:
    return Workspace(made / "workspace")


def _train(place: Workspace, reporter: trainings.Recorder) -> object:
    return train(replace(TRAINING, name="new"), place, reporter)


def _score(place: Workspace, reporter: trainings.Recorder) -> object:
    root = place.root.parent
    asked = ScoreSettings(sae="s", images=str(root / "images"), embed_with=str(root / "model"), name="new")
    return score(replace(asked, device="cpu"), place, reporter)


def _extract(place: Workspace, reporter: trainings.Recorder) -> object:
    root = place.root.parent
    return extract(replace(ask(root / "model", root / "images"), name="new"), place, reporter)


def _encode(place: Workspace, reporter: trainings.Recorder) -> object:
    return encode_store(
        EncodeSettings(sae="s", activations="A", out=str(place.root / "out.npz"), device="cpu"), place, reporter
    )


def _steer(place: Workspace, reporter: trainings.Recorder) -> object:
    asked = SteerSettings(sae="s", vlm="demo", latent=("1=2",), image="red", save_recipe="new", device="cpu")
    return steer(asked, place, reporter)


def _plan(place: Workspace, reporter: trainings.Recorder) -> object:
    plan = place.root / "plan.toml"
    plan.write_text("".join(f'[[train]]\nactivations = "A"\nname = "{name}"\nsteps = 5\n' for name in ("first", "new")))
    return run_plan(PlanSettings(plan=str(plan)), place, reporter)


@pytest.mark.parametrize(
    ("work", "target"),
    [
        (_train, "saes/new/sae.safetensors"),
        (_train, "saes/new/config.json"),
        (_train, "saes/new/training.json"),
        (_score, "neurons/s--new.h5"),
        (_extract, "activations/new/manifest.json"),
        (_extract, "activations/new/shard-00001.h5"),
        (_encode, "out.npz"),
        (_steer, "recipes/new.toml"),
        (_plan, "saes/new/sae.safetensors"),
    ],
)
def test_a_folder_in_a_files_place(work: Work, target: str, place: Workspace) -> None:
    folder = place.root / target
    folder.mkdir(parents=True)
    reporter = trainings.Recorder()
    try:
        with pytest.raises((UserError, OSError), match=r"is a folder, where a file|Is a directory") as refused:
            work(place, reporter)
    finally:
        folder.rmdir()
    assert isinstance(refused.value, UserError) or "it is a folder; move it away" in str(refusal(refused.value))
    assert not reporter.of("progress") and not reporter.of("token")
    assert not (place.root / "saes" / "first").exists()


@pytest.mark.parametrize(
    ("task", "asked", "file"),
    [
        ("report", ReportSettings(sae="s"), "r.html"),
        ("figure", FigureSettings(kind="reconstruction", sae=("s",)), "f.svg"),
        ("encode", EncodeSettings(sae="s", activations="A", out="", device="cpu"), "codes.npz"),
        ("export", ExportSettings(sae="s", to="saelens", out=""), "theirs"),
    ],
)
def test_a_folder_that_is_made_for_what_is_written_is_told(
    task: str, asked: Any, file: str, place: Workspace, tmp_path: Path
) -> None:
    told = []
    for _ in range(2):
        reporter = trainings.Recorder()
        TASKS[task].load()(replace(asked, out=str(tmp_path / "new/in" / file)), place, reporter)
        told.append([one["message"] for one in reporter.of("warning")])
        (made,) = (tmp_path / "new/in").iterdir()
        made.rename(tmp_path / f"kept-{len(told)}")
    assert told == [[f"{tmp_path / 'new/in'} is made: there was no such folder."], []]


@pytest.mark.parametrize(
    ("work", "folder"), [(_score, "neurons"), (_train, "saes/new"), (_encode, ""), (_steer, "recipes")]
)
def test_a_full_disk(work: Work, folder: str, place: Workspace) -> None:
    (place.root / folder).mkdir(parents=True, exist_ok=True)
    reporter = trainings.Recorder()
    with (
        failing(Disk(place.root / folder, "write", 1, errno.EDQUOT)),
        pytest.raises(OSError, match="quota") as refused,
    ):
        work(place, reporter)
    assert not reporter.of("progress") and not reporter.of("token")
    assert "The disk is full while writing" in str(refusal(refused.value))
    assert not list(place.root.glob("**/*.tmp"))


@pytest.mark.parametrize("length", [LONGEST + 1, 255, 300, 5000])
def test_names_that_are_too_long_for_a_file(length: int, tmp_path: Path) -> None:
    place, name = Workspace(tmp_path), "a" * length
    for of in (place.activations, place.embeddings, place.sae, place.labels, place.recipe):
        with pytest.raises(UserError, match=f"it has {length} characters, and 200 is the most; give a shorter --name"):
            of(name)
    with pytest.raises(UserError, match="cannot name scores: it has 252 characters"):
        place.neurons("s" * 150, "a" * 100)


def test_whatever_has_a_name_can_be_written(tmp_path: Path) -> None:
    name = check_name("a" * LONGEST, "an SAE")
    for path in (tmp_path / f"{name}.toml", tmp_path / f"{name}-5f70bf18.toml", tmp_path / f"{name}.h5"):
        check_target(path)
    images = ScoreSettings(sae="s", images="/" + "b" * 240, embed_with="e")
    check_target(neurons_path(images, "s" * 100, Workspace(tmp_path)))


def test_a_short_slug_tells_long_texts_apart() -> None:
    one, other = (short_slug("x" * 200 + end) for end in "ab")
    assert one != other and len(one) == len(other) == 90
    assert short_slug("a b") == "a-b"
