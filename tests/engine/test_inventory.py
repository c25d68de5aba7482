"""What a workspace holds, against what extraction made there."""

import json
import shlex
from pathlib import Path

import pytest

from engine.activations.extract import extract
from engine.config import ExtractSettings, from_words
from engine.errors import Stopped, UserError
from engine.inventory import inventory
from engine.workspace import MARKER, Workspace, write_json, write_text
from tests.activations.runs import Recorder, ask, saved_model, write_pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A store of two shards and one of which only the first was finished, from the same 14 pictures."""
    root = tmp_path_factory.mktemp("workspace")
    model, images = saved_model(root / "clip"), write_pictures(root / "pictures", 14, broken=(3,))
    place = Workspace(root / "w")
    extract(ask(model, images, embeddings=True, at=("last",), name="E"), place)
    with pytest.raises(Stopped):
        extract(ask(model, images, name="A"), place, Recorder(2))
    write_text(place.root / MARKER, f'images = "elsewhere"\nmodel = "demo"\nembed_with = "{model}"\n')
    return place


def test_stores_by_the_heads_of_their_manifests(place: Workspace) -> None:
    unfinished, whole = inventory(place).stores
    assert (unfinished.kind, unfinished.name, unfinished.complete) == ("activations", "A", False)
    assert (unfinished.images, unfinished.images_done, unfinished.rows) == (14, 8, 8 * 17)
    assert (whole.kind, whole.name, whole.complete) == ("embeddings", "E", True)
    assert (whole.images, whole.images_done, whole.rows) == (14, 14, 13)
    for store in (unfinished, whole):
        assert store.bytes == sum(path.stat().st_size for path in store.path.glob("*.h5"))


def test_sources_and_encoders_come_from_the_defaults_first(place: Workspace) -> None:
    found = inventory(place)
    folder = place.root.parent
    assert found.sources == ["elsewhere", str(folder / "pictures")]
    assert found.encoders == ["demo", str(folder / "clip")]


def test_the_settings_of_a_store_are_those_that_made_it(place: Workspace) -> None:
    folder = place.root.parent
    unfinished, whole = inventory(place).stores
    assert unfinished.settings() == ask(folder / "clip", folder / "pictures", name="A")
    assert whole.settings() == ask(folder / "clip", folder / "pictures", embeddings=True, at=("last",), name="E")


def test_options_of_a_command_that_make_no_sense_are_named() -> None:
    words = shlex.split("--model demo --images 'a b' --name A --at layer:1 --at last --batch-size many")
    with pytest.raises(UserError, match="batch_size is 'many'"):
        from_words(ExtractSettings, words, "x")
    with pytest.raises(UserError, match="no setting 'modl'"):
        from_words(ExtractSettings, ["--modl", "demo"], "x")
    with pytest.raises(UserError, match="lacks name"):
        from_words(ExtractSettings, ["--model", "demo", "--images", "a"], "x")


@pytest.mark.parametrize("damage", ["{", "[]", "version", "shards", "model", "source"])
def test_a_damaged_manifest_is_a_store_with_a_problem(damage: str, place: Workspace, tmp_path: Path) -> None:
    manifest = json.loads((place.embeddings("E") / "manifest.json").read_text())
    folder = tmp_path / "activations" / "A"
    folder.mkdir(parents=True)
    if damage in manifest:
        write_json(folder / "manifest.json", manifest | {damage: 99})
    else:
        (folder / "manifest.json").write_text(damage)
    (store,) = inventory(Workspace(tmp_path)).stores
    assert store.name == "A" and store.problem and not store.complete
    with pytest.raises(UserError, match="start its extraction anew"):
        store.settings()


def test_an_empty_workspace_has_nothing(tmp_path: Path) -> None:
    found = inventory(Workspace(tmp_path / "none"))
    assert (found.sources, found.encoders, found.stores) == ([], [], [])
