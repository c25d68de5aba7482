"""A disk that fails at any call is told in a sentence, and the same work does afterwards what it would have done."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from engine.activations.extract import extract
from engine.artefacts.listing import inventory
from engine.artefacts.provenance import describe
from engine.config import TrainSettings
from engine.neurons.labels import Labels
from engine.runs.run import runs
from engine.runs.trainings import Trainings
from engine.runs.watch import RunWatch
from engine.runs.worker import mistake
from engine.sae.train import train
from engine.steer.recipes import load_recipe
from engine.workspace import Workspace
from saetui.cli import _run
from saetui.cli.app import app
from tests.support.extractions import ask, contents, saved_model, write_pictures
from tests.support.failing_disk import Disk, failing

OLD = Path(__file__).parents[1] / "old_workspace"
KINDS = ("open", "read", "write")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("disk")
    saved_model(root / "model")
    write_pictures(root / "images", 6)
    shutil.copytree(OLD, root / "ready")
    extract(ask(root / "model", root / "images"), Workspace(root / "ready"))
    return root


def _extract(root: Path, place: Workspace) -> object:
    return extract(ask(root / "model", root / "images", name="B"), place)


def _train(root: Path, place: Workspace) -> object:
    asked = {"steps": 4, "batch_size": 16, "eval_every": 2, "checkpoint_every": 2, "device": "cpu"}
    return train(TrainSettings(activations="A", name="t", expansion=1.0, k=2, **asked), place)


def _describe(root: Path, place: Workspace) -> None:
    for entry in ("saes/jump", "neurons/jump--images.h5", "recipes/hat.toml", "activations/patches"):
        describe(str(place.root / entry), place)


def _read(root: Path, place: Workspace) -> None:
    load_recipe(place, "hat")
    labels = Labels.open(place.labels("matryoshka"))
    labels.set(3, "a cat")


def _list(root: Path, place: Workspace) -> None:
    inventory(place)
    Trainings(place).refresh()
    RunWatch(place).look()
    assert _run(get_command(app), ["jobs", "--workspace", str(place.root)]) in (0, 2)
    for run in runs(place):
        run.last_events()


WORK: tuple[Callable[[Path, Workspace], Any], ...] = (_extract, _train, _describe, _read, _list)


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__[1:])
@pytest.mark.parametrize("most", [2, pytest.param(1000, marks=pytest.mark.slow)])
def test_an_input_output_error_is_a_sentence(work: Any, what: str, most: int, made: Path, tmp_path: Path) -> None:
    place = Workspace(made / "w")
    _renew(place, made)
    with failing(Disk(made, what, 1 << 30)) as disk:
        work(made, place)
    undisturbed = _kept(place)
    for at in sorted({1 + disk.calls * step // most for step in range(most)} & set(range(1, disk.calls + 1))):
        _renew(place, made)
        with failing(Disk(made, what, at)):
            try:
                work(made, place)
            except Exception as error:
                assert mistake(error), f"call {at} ended in {error!r}"
        if work in (_extract, _train):
            work(made, place)
            assert _kept(place) == undisturbed


def _kept(place: Workspace) -> dict[str, bytes]:
    """All but previews, which may be lost."""
    return {name: data for name, data in contents(place.root).items() if not name.endswith("preview.json")}


def _renew(place: Workspace, made: Path) -> None:
    shutil.rmtree(place.root, ignore_errors=True)
    shutil.copytree(made / "ready", place.root)
