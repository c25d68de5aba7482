"""Kills and failing disks, from images to scores: the same command ends with the same bytes."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError, system_mistake
from engine.workspace import Workspace
from tests.support.extractions import contents, saved_model, write_pictures
from tests.support.pipeline import pipeline

ROOT = Path(__file__).parents[2]
CALLS = ("pwrite", "fsync", "replace")
"""With these all that is kept is written; what else fails while a file is filled: see test_interrupted.py."""
FAULTS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("images"), 16)


@pytest.fixture(scope="module")
def once(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    workspace = Workspace(tmp_path_factory.mktemp("once"))
    pipeline(model, images, workspace)
    return contents(workspace.root)


def kill(model: Path, images: Path, folder: Path, *numbers: int) -> int:
    words = [sys.executable, "-m", "tests.support.pipeline", str(model), str(images), str(folder), *map(str, numbers)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def test_30_kills_and_30_ends_with_the_same_bytes(model: Path, images: Path, tmp_path: Path) -> None:
    assert kill(model, images, tmp_path, 30, 1, 0) >= 30


@pytest.mark.slow
def test_200_kills_and_200_ends_with_the_same_bytes(model: Path, images: Path, tmp_path: Path) -> None:
    assert kill(model, images, tmp_path, 200, 1, 1) >= 200


def failing(call: str, at: int, fault: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the call of ``os`` fail at its ``at``-th time. Returns a list with an entry for each time."""
    real: Callable[..., Any] = getattr(os, call)
    calls: list[int] = []

    def once_failing(*given: Any, **more: Any) -> Any:
        calls.append(len(calls))
        if calls[-1] == at:
            raise OSError(fault, os.strerror(fault))
        return real(*given, **more)

    monkeypatch.setattr(os, call, once_failing)
    return calls


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("most", [3, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_disk_that_fails_ends_in_a_sentence_and_the_same_command_goes_on(
    call: str, most: int, model: Path, images: Path, once: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = failing(call, -1, 0, patch)
        pipeline(model, images, Workspace(tmp_path / "undisturbed"))
    assert len(calls) > 10
    every = max(len(calls) // most, 1)
    for at in range(every - 1, len(calls), every):
        fault = FAULTS[at // every % len(FAULTS)]
        workspace = Workspace(tmp_path / str(at))
        with pytest.MonkeyPatch.context() as patch:
            failing(call, at, fault, patch)
            try:
                pipeline(model, images, workspace)  # what is only there to be looked at may fail, as a preview
            except UserError as error:
                assert str(error).endswith(".")
            except OSError as error:
                assert system_mistake(error)
        left = [path.name for path in workspace.root.rglob("*.tmp")]
        pipeline(model, images, workspace)
        assert contents(workspace.root) == once and left == [], (call, at, os.strerror(fault))
