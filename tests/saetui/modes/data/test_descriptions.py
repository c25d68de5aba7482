"""What is said of stores and sources, against the images and files themselves."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.activations.target import task_of
from engine.artefacts import inventory
from engine.artefacts.entries import StoreEntry
from engine.config import ExtractSettings
from engine.errors import Stopped, UserError
from engine.files import read_json, write_json
from engine.images import open_images
from engine.workspace import Workspace
from saetui.modes.data import descriptions
from saetui.modes.data.descriptions import far_apart, in_turn, spaced
from tests.support.extractions import Recorder, ask, saved_model, write_pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("workspace")
    model, images = saved_model(root / "clip"), write_pictures(root / "pictures", 14, broken=(3,))
    place = Workspace(root / "w")
    extract(ask(model, images, name="A"), place)
    with pytest.raises(Stopped):
        extract(ask(model, images, name="B", tokens="random:2", shard_rows=16), place, Recorder(2))
    return place


def entries(place: Workspace) -> list[StoreEntry]:
    return list(inventory(place).stores)


def settings(entry: StoreEntry) -> ExtractSettings:
    assert entry.manifest is not None
    return task_of(entry.manifest.command, entry.path)[1]


def test_the_settings_of_a_store_are_those_that_made_it(place: Workspace) -> None:
    folder = place.root.parent
    whole, half = entries(place)
    assert settings(whole) == ask(folder / "clip", folder / "pictures", name="A")
    assert settings(half) == ask(folder / "clip", folder / "pictures", name="B", tokens="random:2", shard_rows=16)


@pytest.mark.parametrize("command", ["", "saetui train A", "saetui extract 'unclosed"])
def test_a_store_that_does_not_say_its_command(command: str, place: Workspace, tmp_path: Path) -> None:
    manifest = read_json(place.activations("A") / "manifest.json")
    write_json(tmp_path / "manifest.json", manifest | {"command": command, "shards": []})
    with pytest.raises(UserError, match="start its extraction or import anew"):
        settings(StoreEntry.read(tmp_path))


def test_a_store_in_words(place: Workspace) -> None:
    whole, half = entries(place)
    store, words = Store.open(whole.path), descriptions.store(whole)
    facts = dict(words.facts)
    assert facts["state"] == "ready" and facts["rows"] == f"{store.rows:,} of {store.d:,} float16"
    (broken,) = [image for image in store.images if image.broken is not None]
    assert facts["broken"] == f"1\n{broken.path}: {broken.broken}"
    assert facts["command"] == store.manifest.command
    readable = [(image.path, image.label) for image in store.images if image.broken is None]
    assert sorted(words.samples) == sorted(readable) and words.source == whole.source
    facts = dict(descriptions.store(half).facts)
    assert facts["state"] == "unfinished: 8 of 14 images" and facts["tokens"].startswith("random:2, seed 0")


def test_a_source_says_the_same_listed_and_extracted(place: Workspace) -> None:
    spec = str(place.root.parent / "pictures")
    extracted, listed = descriptions.source(spec, entries(place)), descriptions.source(spec, [])
    assert dict(extracted.facts)["classes"] == dict(listed.facts)["classes"] == "2"
    assert dict(listed.facts)["images"].startswith("14, ") and dict(extracted.facts)["images"].startswith("14, as")
    assert sorted(listed.samples) == sorted((one.path, one.label) for one in open_images(spec).entries)
    assert dict(extracted.facts)["stores"] == "A, B" and "e extracts" in dict(listed.facts)["stores"]


def test_an_encoder_in_words(place: Workspace) -> None:
    spec = str(place.root.parent / "clip")
    facts = dict(descriptions.encoder(spec, entries(place), {"embed_with": spec}).facts)
    assert facts["default"] == "judges which images are alike" and facts["stores"] == "A, B"
    assert (facts["hooks"], facts["family"]) == ("layer:1", "clip")


def test_a_description_that_nobody_waits_for_stops(place: Workspace) -> None:
    assert descriptions.store(entries(place)[0], wanted=lambda: False).samples == []


def test_the_first_pictures_of_a_source_are_of_all_its_classes(tmp_path: Path) -> None:
    """A strip shows from one to eight: not the first folder, nor three times the same thing in three patterns."""
    for label in (f"{kind}/{pattern}" for kind in "abcd" for pattern in ("solid", "striped")):
        (tmp_path / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (8, 8)).save(tmp_path / label / f"{number}.png")
    samples = descriptions.source(str(tmp_path), []).samples
    assert [label for _, label in samples[:4]] == ["a/solid", "c/solid", "b/solid", "d/solid"]
    assert len({label for _, label in samples[:8]}) == 8, "each class once before any of them twice"
    assert len(samples) == 40 and samples == descriptions.source(str(tmp_path), []).samples


@given(st.dictionaries(st.text(max_size=3), st.lists(st.integers(), max_size=9), max_size=9), st.integers(0, 40))
def test_every_group_has_its_turn(groups: dict[str, list[int]], count: int) -> None:
    taken = in_turn(groups, count)
    assert len(taken) == min(count, sum(map(len, groups.values())))
    shares = {name: sum(one == name for one, _ in taken) for name in groups}
    for name, items in groups.items():
        assert not Counter(item for one, item in taken if one == name) - Counter(items)
        assert shares[name] == len(items) or all(shares[name] + 1 >= other for other in shares.values())


def test_far_apart_are_all_items_from_all_over() -> None:
    assert far_apart(list(range(8))) == [0, 4, 2, 6, 1, 5, 3, 7] and far_apart("abc") == ["a", "c", "b"]
    assert all(sorted(far_apart(range(n))) == list(range(n)) for n in range(40))


@given(items=st.lists(st.integers()), count=st.integers(0, 30))
def test_spaced_takes_items_in_order_evenly(items: list[int], count: int) -> None:
    numbered = list(enumerate(items))
    taken = [place for place, _ in spaced(numbered, count)]
    assert len(taken) == min(count, len(items)) and taken == sorted(set(taken))
    steps = [after - before for before, after in itertools.pairwise(taken)]
    assert not taken or (taken[0] == 0 and (not steps or max(steps) - min(steps) <= 1))
