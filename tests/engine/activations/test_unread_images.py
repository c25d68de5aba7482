"""A disk that does not give an image, and one that gives none any more."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.activations.extract import extract
from engine.errors import UserError
from engine.images import BrokenImage, open_images
from engine.images.sources import GONE
from engine.workspace import Workspace
from tests.support.extractions import ask, contents, saved_model, write_pictures

UNREAD = (errno.EIO, errno.ESTALE, errno.EREMOTEIO)


@contextmanager
def unread(fails: Callable[[str], bool], number: int = errno.EIO) -> Iterator[list[str]]:
    """Reading the images of those names fails. Gives the names, one for each time."""
    plain, names = os.pread, []

    def pread(descriptor: int, *rest: Any) -> bytes:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if name.endswith(".png") and fails(name):
            names.append(name)
            raise OSError(number, os.strerror(number))
        return plain(descriptor, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", pread)
        yield names


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("images"), GONE + 16)


@pytest.fixture(scope="module")
def once(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = Workspace(tmp_path_factory.mktemp("once"))
    extract(ask(model, images), place)
    return contents(place.root)


@pytest.mark.parametrize("number", UNREAD)
def test_an_image_on_a_bad_place_of_a_disk_is_broken_until_it_can_be_read(
    number: int, model: Path, images: Path, once: dict[str, bytes], workspace: Workspace
) -> None:
    with unread("0012.png".__eq__, number) as names:
        done = extract(ask(model, images), workspace)
    assert names.count("0012.png") % 2 == 0 and names, "each time it is asked for twice"
    assert done.broken["ape/0012.png"] == os.strerror(number) and len(done.broken) == 2
    with unread("0012.png".__eq__, number):
        assert extract(ask(model, images), workspace).broken == done.broken
    extract(ask(model, images), workspace)
    assert contents(workspace.root) == once


@pytest.mark.parametrize("number", [*UNREAD, errno.ENODEV])
def test_a_disk_that_is_gone_breaks_no_images(
    number: int, model: Path, images: Path, once: dict[str, bytes], workspace: Workspace
) -> None:
    read: set[str] = set()

    def gone(name: str) -> bool:
        read.update({name} if len(read) < 10 else ())
        return name not in read

    with unread(gone, number), pytest.raises(UserError, match=r"\.png .*same command again"):
        extract(ask(model, images), workspace)
    extract(ask(model, images), workspace)
    assert contents(workspace.root) == once


def test_a_fault_that_passes_breaks_nothing(images: Path) -> None:
    found = open_images(images)
    with unread(lambda name: not names) as names:
        assert found.load(0).size
    with unread(lambda name: True), pytest.raises(BrokenImage, match="Input/output error"):
        found.load(0)


@pytest.mark.parametrize("threads", [1, 4, 4 * GONE])
def test_images_in_a_row_are_those_that_were_asked_for_in_a_row(threads: int, tmp_path: Path) -> None:
    """Bad places make a disk slow, so that of many threads those that fail answer last, one after the other."""
    found = open_images(write_pictures(tmp_path, 4 * GONE, ()))
    names = [Path(entry.file).name for entry in found.entries]
    bad, good, read = set(names[1::2]), set(names[::2]), threading.Event()

    def fails(name: str) -> bool:
        good.discard(name)
        if not good or threads < len(found):
            read.set()
        return name in bad and read.wait(60)

    def broken(index: int) -> bool:
        try:
            found.read_bytes(index)
        except BrokenImage:
            return True
        return False

    with unread(fails), ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(broken, range(len(found)))) == [index % 2 == 1 for index in range(len(found))]


@pytest.mark.parametrize("threads", [1, 4, 64])
def test_a_disk_is_gone_for_any_number_of_threads(threads: int, tmp_path: Path) -> None:
    found = open_images(write_pictures(tmp_path, 4 * GONE, ()))
    with unread(lambda name: True), ThreadPoolExecutor(threads) as pool:
        asked = [pool.submit(found.read_bytes, index) for index in range(len(found))]
        told = [one.exception() for one in asked]
    assert any(isinstance(error, UserError) for error in told)
    assert sum(isinstance(error, BrokenImage) for error in told) < GONE + 2 * threads
