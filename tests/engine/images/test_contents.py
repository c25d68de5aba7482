"""What images hold is read once, and known by their files' stamps from then on."""

import os
from pathlib import Path

import pytest

from engine import integrity
from engine.images import BrokenImage, Images, open_images
from tests.support.layouts import LAYOUTS, png, tree

PICTURES = {f"a/{i}.png": png(i) for i in range(6)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    integrity._known_hashes.cache_clear()
    return tmp_path / "cache/saetui/contents"


@pytest.mark.parametrize("layout", ["tree", "csv", "tar of folders", "zip", "shards, cls"])
def test_known_images_are_not_read_again(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"tree": tree, **LAYOUTS}[layout](tmp_path / "x", PICTURES | {"b/9.png": png(9)})
    first = open_images(spec).sha256
    integrity._known_hashes.cache_clear()  # as in another process
    monkeypatch.setattr(Images, "read_bytes", lambda self, i: pytest.fail("read again"))
    assert open_images(spec).sha256 == first


@pytest.mark.parametrize("size", ["same", "other"])
def test_another_picture_of_the_same_name_is_another_list(size: str, tmp_path: Path) -> None:
    root = tree(tmp_path, PICTURES)
    before = open_images(root).sha256
    data = bytearray((root / "a/3.png").read_bytes())
    data[-20] ^= 1
    (root / "a/3.png").write_bytes(data if size == "same" else data + b" ")
    assert open_images(root).sha256 != before
    (root / "a/3.png").write_bytes(PICTURES["a/3.png"])
    assert open_images(root).sha256 == before


def test_a_copy_is_the_same_list_and_another_class_another(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "1", PICTURES), tree(tmp_path / "2", PICTURES)
    assert open_images(one).sha256 == open_images(two).sha256
    renamed = {name.replace("a/", "b/"): data for name, data in PICTURES.items()}
    a, b = LAYOUTS["csv"](tmp_path / "3", PICTURES), LAYOUTS["csv"](tmp_path / "4", renamed)
    assert open_images(a).listed_sha256 == open_images(b).listed_sha256
    assert open_images(a).sha256 != open_images(b).sha256


def test_torn_records_are_read_anew(cache: Path, tmp_path: Path) -> None:
    root = tree(tmp_path, PICTURES)
    before = open_images(root).sha256
    [kept] = cache.iterdir()
    data = kept.read_bytes()
    assert len(data) == 52 * len(PICTURES)
    for torn in (data[:70], data[:20] + bytes(10) + data[30:], b"", b"x" * 1000):
        kept.write_bytes(torn)
        integrity._known_hashes.cache_clear()
        assert open_images(root).sha256 == before
        integrity._known_hashes.cache_clear()
        assert None not in [open_images(root).content(i) for i in range(len(PICTURES))]


def test_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    root = tree(tmp_path, PICTURES)
    assert open_images(root).sha256 == open_images(root).sha256


def test_what_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    root = tree(tmp_path, PICTURES)
    (tmp_path / "list.txt").write_text("tree/a/1.png\ntree/a/9.png\n")
    images = open_images(tmp_path / "list.txt")
    assert images.sha256 and images.content(1) is None
    with pytest.raises(BrokenImage):
        images.read_bytes(1)
    (root / "a/9.png").write_bytes(png(9))
    assert open_images(tmp_path / "list.txt").sha256 != images.sha256
    os.utime(root / "a/1.png", (1, 1))
    assert open_images(tmp_path / "list.txt").content(0) is None, "its stamp is another"
