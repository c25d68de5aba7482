"""Thumbnails of every kind of source: found, bounded, safe in threads, and a sentence where there is none."""

import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import engine.images.by_path as module
from engine.errors import UserError
from engine.images.opening import read_picture
from engine.images.thumbnails import Thumbnails


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for n in range(6):
        file = tmp_path / "source" / f"class {n % 2}" / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400, 200), (40 * n, 0, 0)).save(file)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    return tmp_path / "source"


def test_a_thumbnail_keeps_the_proportions(tree: Path) -> None:
    thumbnails = Thumbnails(str(tree), side=100)
    assert thumbnails.get("class 1/3.png") is None
    pixels = thumbnails.load("class 1/3.png")
    assert pixels.shape == (50, 100, 3)
    assert (pixels == (120, 0, 0)).all()
    assert thumbnails.get("class 1/3.png") is pixels and thumbnails.load("class 1/3.png") is pixels
    assert thumbnails.image("class 1/3.png").size == (400, 200)


def test_a_tree_is_never_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_images", lambda source: pytest.fail("listed"))
    assert Thumbnails(str(tree)).load("class 0/2.png").shape == (80, 160, 3)


def test_lists_and_shards_are_listed_once(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def counted(source: str, *given: object):
        listed.append(source)
        return real(source, *given)

    real = module.open_images
    monkeypatch.setattr(module, "open_images", counted)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(tree, "")
    (tmp_path / "list.txt").write_text(f"{tree}/class 0/0.png\nsource/class 1/1.png\n")
    shard, listing = Thumbnails(str(tmp_path / "shard.tar")), Thumbnails(str(tmp_path / "list.txt"))
    for name in ("class 1/3.png", "class 0/4.png"):
        np.testing.assert_array_equal(shard.load(f"shard.tar/{name}"), Thumbnails(str(tree)).load(name))
    for name in (f"{tree}/class 0/0.png", "source/class 1/1.png"):  # a list may name files anywhere
        assert listing.load(name).shape == (80, 160, 3)
    assert len(listed) == 2


@pytest.mark.parametrize("path", ["../secret.png", "class 0/../../secret.png", "/etc/passwd", "a\0b.png", "x" * 5000])
def test_no_path_leads_out_of_a_directory(tree: Path, path: str) -> None:
    with pytest.raises(UserError, match="no longer in"):
        Thumbnails(str(tree)).load(path)


def test_an_absolute_path_into_the_directory_is_refused_too(tree: Path) -> None:
    with pytest.raises(UserError, match="no longer in"):
        Thumbnails(str(tree)).load(str(tree / "class 0" / "0.png"))


def test_what_cannot_be_shown_is_a_sentence(tree: Path, tmp_path: Path) -> None:
    (tree / "broken.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"broken.png cannot be read any more \(not an image .*put it back"):
        Thumbnails(str(tree)).load("broken.png")
    with pytest.raises(UserError, match=r"gone.png is no longer in .*put it back"):
        Thumbnails(str(tree)).load("gone.png")
    with pytest.raises(UserError, match="No images at"):
        Thumbnails(str(tmp_path / "nowhere")).load("a.png")
    with pytest.raises(UserError, match=r"There is no image .*gone.png"):
        read_picture(tree / "gone.png")


def test_memory_is_bounded_and_the_oldest_go_first(tree: Path) -> None:
    one = 50 * 100 * 3
    thumbnails = Thumbnails(str(tree), side=100, limit=3 * one)
    names = [f"class {n % 2}/{n}.png" for n in range(6)]
    for name in names[:3]:
        thumbnails.load(name)
    thumbnails.get(names[0])  # used: now the second is the oldest
    thumbnails.load(names[3])
    assert [thumbnails.get(name) is not None for name in names] == [True, False, True, True, False, False]
    alone = Thumbnails(str(tree), side=100, limit=1)
    for name in names:
        alone.load(name)
        assert [n for n in names if alone.get(n) is not None] == [name]  # the one that is shown is kept


def test_threads_get_the_same(tree: Path) -> None:
    names = [f"class {n % 2}/{n}.png" for n in range(6)]
    thumbnails = Thumbnails(str(tree), side=20, limit=2 * 10 * 20 * 3)
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        start.wait()
        for name in np.random.default_rng(seed).choice(names, 40):
            number = int(name.partition("/")[2][0])
            assert (thumbnails.load(str(name)) == (40 * number, 0, 0)).all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    kept = [pixels for name in names if (pixels := thumbnails.get(name)) is not None]
    assert sum(pixels.nbytes for pixels in kept) <= thumbnails.limit
