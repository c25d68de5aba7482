"""After something was moved, a workspace is told, and all that it made is still what it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from engine.activations.store import Store
from engine.artefacts import describe
from engine.artefacts.relink import relink
from engine.config import RelinkSettings, ScoreSettings
from engine.errors import UserError
from engine.files import read_json
from engine.images import open_image, open_images
from engine.models import load_encoder
from engine.neurons.file import Neurons
from engine.neurons.latents import top_images
from engine.neurons.score import score
from engine.workspace import Workspace
from tests.support.extractions import Recorder

MADE = Path(__file__).parents[2] / "old_workspace"


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(Path(shutil.copytree(MADE, tmp_path / "study")))


def states(place: Workspace) -> set[str]:
    return {one.state for one in describe("saes/jump", place).chain if one.kind == "activations"}


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    monkeypatch.chdir(place.root)


def test_all_that_names_what_was_moved_names_its_new_place(place, tmp_path, monkeypatch):
    before = Store.open(place.activations("patches")).sha256
    data = tmp_path / "data/images"
    shutil.move(place.root / "images", data)
    done = relink(RelinkSettings(old="images", new="../data/images"), place)
    assert done.images == 24 and {"activations/patches/manifest.json", "neurons/jump--images.h5"} <= {
        one.file for one in done.files
    }
    monkeypatch.chdir("/")
    assert Store.open(place.activations("patches")).sha256 == before and states(place) == {"unchanged"}
    top = top_images(str(place.neurons("jump", "images")), 6)
    assert top[0].startswith(f"{data}::") and isinstance(open_image(top[0]), Image.Image)
    asked = read_json(next((place.runs).glob("*-train/command.json")))
    assert asked["task"] == "train"
    with Neurons.open(place.neurons("jump", "images")) as neurons:
        settings = neurons.summary.settings
    assert isinstance(settings, ScoreSettings) and settings.images == str(data)
    with pytest.raises(UserError, match="holds scores of the encoder demo as it was then"):  # the same, of other models
        score(settings, place)
    shutil.move(data, place.root / "images")
    relink(RelinkSettings(old=str(data), new=str(place.root / "images")), place)
    assert read_json(place.activations("patches") / "manifest.json")["source"]["spec"] == "images"
    assert Store.open(place.activations("patches")).sha256 == before


def test_other_images_are_refused_and_nothing_is_written(place, tmp_path):
    shutil.copytree(place.root / "images", tmp_path / "data")
    one = next((tmp_path / "data").rglob("*.png"))
    good = one.read_bytes()
    files = {path: path.read_bytes() for path in place.root.rglob("*") if path.is_file()}
    Image.new("RGB", (64, 64), "red").save(one)
    with pytest.raises(UserError, match=f"does not hold the same images: .*{one.name} is another image"):
        relink(RelinkSettings(old="images", new=str(tmp_path / "data")), place)
    one.unlink()
    with pytest.raises(UserError, match=f"{one.name} is missing"):
        relink(RelinkSettings(old="images", new=str(tmp_path / "data")), place)
    one.write_bytes(good)
    for old, new, says in (("images", "nowhere", "There is nothing at nowhere"), ("nothing", ".", "names nothing")):
        with pytest.raises(UserError, match=says):
            relink(RelinkSettings(old=old, new=new), place)
    assert files == {path: path.read_bytes() for path in place.root.rglob("*") if path.is_file()}


def test_what_is_damaged_is_named_in_the_end_and_left_as_it_is(place, tmp_path):
    harmed = {
        "activations/patches": place.activations("patches") / "manifest.json",
        "saes/jump/config.json": place.sae("jump") / "config.json",
        "neurons/matryoshka--images.h5": place.neurons("matryoshka", "images"),
    }
    runs = sorted(place.runs.glob("*-train/command.json"))
    harmed[f"runs/{runs[0].parent.name}"] = runs[0]
    good = {path: path.read_bytes() for path in harmed.values()}
    for path in harmed.values():
        path.write_bytes(b"{ no" + path.read_bytes()[:40])
    shutil.move(place.root / "images", tmp_path / "images")
    said = Recorder()
    done = relink(RelinkSettings(old="images", new=str(tmp_path / "images")), place, said)
    assert set(done.damaged) == set(harmed) and all(path.read_bytes()[:4] == b"{ no" for path in harmed.values())
    warnings = [words for kind, words in said.events if kind == "warning"]
    assert len(warnings) == len(harmed) and all(any(name in words for words in warnings) for name in harmed)
    with Neurons.open(place.neurons("jump", "images")) as neurons:
        assert neurons.summary.settings.images == str(tmp_path / "images")
    for path, before in good.items():
        path.write_bytes(before)
    again = relink(RelinkSettings(old="images", new=str(tmp_path / "images")), place)
    assert not again.damaged and "neurons/matryoshka--images.h5" in {one.file for one in again.files}


def test_a_moved_workspace_needs_no_relinking(place, tmp_path, monkeypatch):
    moved = Workspace(place.root.rename(tmp_path / "moved"))
    monkeypatch.chdir("/")
    assert states(moved) == {"unchanged"}
    assert isinstance(open_image(top_images(str(moved.neurons("jump", "images")), 6)[0]), Image.Image)


@pytest.mark.parametrize("look", [open_images, load_encoder], ids=["images", "model"])
def test_what_is_gone_from_its_place_names_relink(look: Callable[[str], object], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="after a move run saetui relink OLD NEW"):
        look(str(tmp_path / "nowhere"))
