"""A tree of emoji's kind (category, subcategory) is the same in whatever way it is kept."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.images import Images, open_images
from engine.workspace import Workspace
from tests.support.extractions import ask, saved_model
from tests.support.layouts import LAYOUTS, Pictures, png, tree

KINDS = ("Activities/sport", "Flags/country-flag", "Smileys & Emotion/cat-face", "Smileys & Emotion/face, smiling")
REAL = Path(os.environ.get("SAETUI_EMOJI", "emoji-datasource-google"))


@pytest.fixture(scope="module")
def drawn() -> Pictures:
    return {f"{kind}/{i:04x}-fe0f.png": png(16 * i + number) for number, kind in enumerate(KINDS) for i in range(4)}


def shown(images: Images) -> list[tuple[bytes, str | None, tuple[str, ...]]]:
    return [(images.read_bytes(i), one.label, one.taxonomy) for i, one in enumerate(images.entries)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_images_labels_and_taxonomy(layout: str, drawn: Pictures, tmp_path: Path) -> None:
    expected = [(data, path.rpartition("/")[0], tuple(path.split("/")[:2])) for path, data in drawn.items()]
    assert shown(open_images(tree(tmp_path, drawn))) == expected
    images = open_images(LAYOUTS[layout](tmp_path / "other", drawn))
    assert shown(images) == expected and images.left_out == {}


def test_the_same_rows(drawn: Pictures, tmp_path: Path) -> None:
    model, rows = saved_model(tmp_path / "model"), {}
    places = {"tree": tree(tmp_path, drawn)}
    places |= {name: LAYOUTS[name](tmp_path / name, drawn) for name in ("csv", "shards, json", "zip")}
    for name, place in places.items():
        workspace = Workspace(tmp_path / "work" / name)
        extract(ask(model, place), workspace)
        store = Store.open(workspace.activations("A"))
        rows[name] = store.read(0, store.rows)
        assert {one.label for one in store.images} == set(KINDS)
    assert all(np.array_equal(one, rows["tree"]) and len(one) == 16 * 17 for one in rows.values())


@pytest.mark.skipif(not REAL.is_dir(), reason="needs npm's emoji-datasource-google: SAETUI_EMOJI names its folder")
def test_the_same_of_real_emoji(tmp_path: Path) -> None:
    listed = json.loads((REAL / "emoji.json").read_text())
    have = [one for one in listed if (REAL / "img/google/64" / one["image"]).is_file()]
    for one in have:
        folder = tmp_path / "tree" / one["category"] / one["subcategory"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(REAL / "img/google/64" / one["image"], folder)
    images = open_images(tmp_path / "tree")
    pictures = {one.path: images.read_bytes(i) for i, one in enumerate(images.entries)}
    assert len(images) == len(have) > 1500
    assert {one.taxonomy for one in images.entries} == {(one["category"], one["subcategory"]) for one in have}
    for name, layout in LAYOUTS.items():
        assert shown(open_images(layout(tmp_path / name, pictures))) == shown(images), name
