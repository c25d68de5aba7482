"""A store is of the very images that it was made of: by content and class, not by name and size."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.activations import extract as module
from engine.activations.estimate import estimate
from engine.activations.extract import extract
from engine.activations.manifest import read_manifest
from engine.activations.store import Store
from engine.errors import Stopped, UserError
from engine.files import read_json, write_json
from engine.images import Images, open_images
from engine.workspace import Workspace
from tests.support.extractions import Recorder, ask, contents, saved_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


def bitmaps(root: Path, seed: int, count: int = 20) -> Path:
    """Pictures of one size in bytes, whatever they show."""
    random = np.random.default_rng(seed)
    for i in range(count):
        path = root / ("ape", "bee")[i % 2] / f"{i:04d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    return root


def rows(workspace: Workspace, name: str = "A") -> np.ndarray:
    store = Store.open(workspace.activations(name))
    return store.read(0, store.rows)


def test_another_folder_of_equal_names_and_sizes(model: Path, workspace: Workspace, tmp_path: Path) -> None:
    one, two = bitmaps(tmp_path / "one", 1), bitmaps(tmp_path / "two", 2)
    assert open_images(one).listed_sha256 == open_images(two).listed_sha256
    extract(ask(model, one), workspace)
    before = contents(workspace.root)
    with pytest.raises(UserError, match=r"20 images of .*one, .* in .*two \(ape/0000.bmp has other content\): give an"):
        extract(ask(model, two), workspace)
    with pytest.raises(UserError, match="has other content"):
        estimate(ask(model, two), workspace)
    assert contents(workspace.root) == before
    assert extract(ask(model, bitmaps(tmp_path / "copy", 1)), workspace).extracted_now == 0


@pytest.mark.parametrize("replaced", ["all", "the first", "the last"])
def test_pictures_replaced_in_an_interruption_never_end_as_a_mixture(
    replaced: str, model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    mine, theirs = bitmaps(tmp_path / "mine", 1), bitmaps(tmp_path / "theirs", 2)
    with pytest.raises(Stopped):
        extract(ask(model, mine), workspace, Recorder(2))
    new = sorted(theirs.rglob("*.bmp"))
    for file in {"all": new, "the first": new[:1], "the last": new[-1:]}[replaced]:
        (mine / file.relative_to(theirs)).write_bytes(file.read_bytes())
    if replaced != "the last":
        with pytest.raises(UserError, match="has other content"):
            extract(ask(model, mine), workspace)
        return
    extract(ask(model, mine), workspace)  # nothing of it was done yet: all is of what is there now
    fresh = Workspace(tmp_path / "fresh")
    extract(ask(model, mine), fresh)
    assert np.array_equal(rows(workspace), rows(fresh))
    assert contents(workspace.root) == contents(fresh.root)


def test_a_picture_replaced_while_it_is_read_is_refused(
    model: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, opened = bitmaps(tmp_path / "mine", 1), module.open_images

    def listed_then_replaced(*given: Any) -> Images:
        images = opened(*given)
        (mine / "bee/0019.bmp").write_bytes((mine / "bee/0017.bmp").read_bytes() + b" ")
        return images

    monkeypatch.setattr(module, "open_images", listed_then_replaced)
    with pytest.raises(UserError, match=r"bee/0019.bmp changed while its images were read: run the same command again"):
        extract(ask(model, mine), workspace)
    monkeypatch.undo()
    assert extract(ask(model, mine), workspace).images == 20


@pytest.mark.parametrize("finished", [False, True])
def test_other_classes_are_other_images(finished: bool, model: Path, workspace: Workspace, tmp_path: Path) -> None:
    bitmaps(tmp_path / "mine", 1)
    listed = tmp_path / "list.txt"
    names = [path.relative_to(tmp_path).as_posix() for path in sorted((tmp_path / "mine").rglob("*.bmp"))]
    listed.write_text("".join(f"{name}\told\n" for name in names))
    if finished:
        extract(ask(model, listed), workspace)
    else:
        with pytest.raises(Stopped):
            extract(ask(model, listed), workspace, Recorder(2))
    listed.write_text("".join(f"{name}\tnew\n" for name in names))
    with pytest.raises(UserError, match=r"the class of mine/ape/0000.bmp is new, not old\): give another --name"):
        extract(ask(model, listed), workspace)


def test_a_finished_store_is_found_without_reading_an_image(
    model: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = bitmaps(tmp_path / "mine", 1)
    extract(ask(model, mine), workspace)
    monkeypatch.setattr(Images, "read_bytes", lambda self, i: pytest.fail("read again"))
    assert extract(ask(model, mine), workspace).extracted_now == 0


def test_the_identity_of_a_finished_store_is_that_of_its_images(
    model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    mine = bitmaps(tmp_path / "mine", 1)
    extract(ask(model, mine), workspace)
    manifest = read_manifest(workspace.activations("A"))
    assert manifest.source.sha256 == open_images(mine).sha256 == manifest.provenance.made_from[1].sha256
    assert manifest.transparency == "white"


def see_through(root: Path) -> Path:
    """Pictures with an upper half that is transparent, above colours."""
    random = np.random.default_rng(3)
    root.mkdir()
    for i in range(20):
        pixels = random.integers(0, 255, (40, 40, 4), np.uint8)
        pixels[..., 3] = 255
        pixels[:20, :, 3] = 0
        Image.fromarray(pixels).save(root / f"{i:02d}.png")
    return root


@pytest.mark.parametrize("finished", [False, True])
def test_what_shows_through_is_part_of_what_a_store_is(
    finished: bool, model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    images = see_through(tmp_path / "mine")
    uncovered = ask(model, images, transparency="uncovered")
    if not finished:
        with pytest.raises(Stopped):
            extract(uncovered, workspace, Recorder(2))
    else:
        extract(uncovered, workspace)
    for asked in (extract, estimate):
        with pytest.raises(UserError, match="made with transparency uncovered, not white: give another --name"):
            asked(ask(model, images), workspace)
    extract(uncovered, workspace)
    manifest = read_manifest(workspace.activations("A"))
    assert manifest.transparency == "uncovered" and "--transparency uncovered" in manifest.command
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in images.iterdir():
        Image.open(path).convert("RGB").save(flat / path.name)
    other = Workspace(tmp_path / "other")
    extract(ask(model, flat), other)
    np.testing.assert_array_equal(rows(workspace), rows(other))
    extract(ask(model, images, name="B"), workspace)
    assert not np.array_equal(rows(workspace), rows(workspace, "B"))


def test_a_manifest_from_when_there_was_only_white_means_white(
    model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    images = see_through(tmp_path / "mine")
    extract(ask(model, images), workspace)
    path = workspace.activations("A") / "manifest.json"
    manifest = read_json(path)
    del manifest["transparency"]
    write_json(path, manifest)
    before, sha256 = contents(workspace.root), Store.open(path.parent).sha256
    assert extract(ask(model, images), workspace).extracted_now == 0
    assert contents(workspace.root) == before and Store.open(path.parent).sha256 == sha256
    with pytest.raises(UserError, match="transparency white, not uncovered"):
        extract(ask(model, images, transparency="uncovered"), workspace)


def test_stores_of_paths_and_sizes_are_still_found(model: Path, workspace: Workspace, tmp_path: Path) -> None:
    """As they were made before the identity was of contents."""
    mine = bitmaps(tmp_path / "mine", 1)
    extract(ask(model, mine), workspace)
    path = workspace.activations("A") / "manifest.json"
    manifest = read_json(path)
    manifest["source"] = {"spec": str(mine), "images": 20, "sha256": open_images(mine).listed_sha256}
    write_json(path, manifest)
    before = contents(workspace.root)
    assert extract(ask(model, mine), workspace).extracted_now == 0 and contents(workspace.root) == before
    with pytest.raises(UserError, match="has other content"):
        extract(ask(model, bitmaps(tmp_path / "two", 2)), workspace)


@pytest.mark.parametrize("how", ["unreadable once", "mended"])
@pytest.mark.parametrize("finished", [False, True])
def test_broken_images_are_tried_again(
    how: str, finished: bool, model: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, fresh = bitmaps(tmp_path / "mine", 1), Workspace(tmp_path / "fresh")
    good, read_bytes = (mine / "ape/0004.bmp").read_bytes(), Images.read_bytes

    def once(self: Images, index: int) -> bytes:
        if self.entries[index].path == "ape/0004.bmp":
            self.entries[index] = self.entries[index].__class__("ape/0004.bmp", 9, "ape", (), str(tmp_path / "gone"))
        return read_bytes(self, index)

    if how == "mended":
        (mine / "ape/0004.bmp").write_bytes(b"broken")
    else:
        monkeypatch.setattr(Images, "read_bytes", once)
    if finished:
        assert list(extract(ask(model, mine), workspace).broken) == ["ape/0004.bmp"]
        assert extract(ask(model, mine), workspace).extracted_now == 0, "it is still broken"
    else:
        with pytest.raises(Stopped):
            extract(ask(model, mine), workspace, Recorder(2))
    monkeypatch.undo()
    (mine / "ape/0004.bmp").write_bytes(good)
    said = Recorder()
    result = extract(ask(model, mine), workspace, said)
    assert result.broken == {} and result.extracted_now == (8 if finished else 20)
    assert ("warning", "Made anew: the shards of 1 image that could not be read before.") in said.events
    extract(ask(model, mine), fresh)
    assert contents(workspace.root) == contents(fresh.root)


def test_what_is_left_out_is_said_and_kept(model: Path, workspace: Workspace, tmp_path: Path) -> None:
    mine = bitmaps(tmp_path / "mine", 1)
    for name in ("x.heic", "ape/y.heic", "z.svg"):
        (mine / name).write_bytes(b"x")
    said = Recorder()
    result = extract(ask(model, mine), workspace, said)
    assert result.left_out == {"HEIC": 2, "SVG": 1}
    assert ("warning", f"Left out of {mine}: 2 HEIC, 1 SVG, which are not read.") in said.events
    assert read_json(workspace.activations("A") / "manifest.json")["source"]["left_out"] == result.left_out
    assert estimate(ask(model, mine), workspace).left_out == result.left_out


def test_other_pictures_under_the_same_times_sizes_and_inodes(
    model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    mine, theirs = bitmaps(tmp_path / "mine", 1), bitmaps(tmp_path / "theirs", 2)
    for path in [*mine.rglob("*.bmp"), *theirs.rglob("*.bmp")]:
        os.utime(path, ns=(10**18, 10**18))
    extract(ask(model, mine), workspace)
    for path in theirs.rglob("*.bmp"):  # as cp -p writes over what is there
        into = mine / path.relative_to(theirs)
        into.write_bytes(path.read_bytes())
        os.utime(into, ns=(10**18, 10**18))
    with pytest.raises(UserError, match="has other content"):
        extract(ask(model, mine), workspace)


def test_a_new_mode_of_a_picture_is_no_other_picture(
    model: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, read_bytes = bitmaps(tmp_path / "images", 1), Images.read_bytes

    def meanwhile(self: Images, index: int) -> bytes:
        data = read_bytes(self, index)
        os.chmod(self.entries[index].file, 0o600)
        return data

    monkeypatch.setattr(Images, "read_bytes", meanwhile)
    assert extract(ask(model, images), workspace).images == 20
    monkeypatch.undo()
    assert extract(ask(model, images), workspace).extracted_now == 0


def test_the_same_weights_with_another_activation_function_are_another_model(
    model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    images, other = bitmaps(tmp_path / "images", 1), tmp_path / "other"
    extract(ask(model, images), workspace)
    shutil.copytree(model, other)
    config = read_json(other / "config.json")
    write_json(other / "config.json", config | {"transformers_version": "1.0"})
    assert extract(ask(other, images), workspace).extracted_now == 0, "who wrote the file makes no difference"
    config["vision_config"]["hidden_act"] = "relu"
    write_json(other / "config.json", config)
    with pytest.raises(UserError, match="their weights or configurations differ"):
        extract(ask(other, images), workspace)
