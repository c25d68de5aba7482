"""Writing: in one step, to the disk, readable by whom it may be, with nothing left by who was killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine import files
from engine.files import open_private, sweep_folder, temporary_path, write_json, write_text
from engine.runs.run import environment
from engine.sae.model import write_tensors
from saetui.modes.steer.versions import Versions
from saetui.session import Session


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_artefacts_have_the_permissions_that_the_umask_says(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "config.json", {})
        write_tensors(tmp_path / "sae.safetensors", {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    assert modes(tmp_path) == {0o666 & ~umask}


def test_what_a_user_did_is_the_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    session = Session(tmp_path / "workspace")
    session.set("steer", prompt="What is on my scan?")
    session.save()
    earlier = tmp_path / "saetui" / "versions.jsonl"
    earlier.touch(0o644)
    with open(earlier, "ab", opener=open_private):
        pass
    assert Versions(earlier).read() == [] and modes(tmp_path) == {0o600}


def test_a_file_and_its_name_are_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = [], os.fsync

    def fsync(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "new" / "folder"
    write_text(folder / "a.txt", "text")
    assert synced[:2] == [str(tmp_path / "new"), str(tmp_path)], "the folders that were made"
    assert synced[2].endswith(".tmp") and synced[3:] == [str(folder)]
    synced.clear()
    write_text(folder / "a.txt", "text", durable=False)
    assert synced == []


def test_a_disk_that_fails_is_not_overlooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(number: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{number}"):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output") as raised:
        write_text(tmp_path / "a.txt", "text")
    assert raised.value.filename == str(tmp_path)


def test_the_next_writer_removes_what_one_that_was_killed_left(tmp_path: Path) -> None:
    path = tmp_path / "scores[1].h5"
    write = "import sys, time\nfrom pathlib import Path\nfrom engine.files import atomic_path\n" + (
        "with atomic_path(Path(sys.argv[1])) as temporary:\n print(flush=True)\n time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", write, str(path)], stdout=subprocess.PIPE, env=environment())
    assert writer.stdout
    writer.stdout.readline()
    (left,) = tmp_path.iterdir()
    write_text(path, "mine")
    assert left.exists(), "it still writes"
    writer.kill()
    writer.communicate()
    write_text(tmp_path / "other.h5", "other")
    assert left.exists(), "of another file"
    write_text(path, "mine")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other.h5", "scores[1].h5"]


def test_a_writer_on_another_host_is_believed_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    elsewhere, older = tmp_path / ".a.json.00000000-1.tmp", tmp_path / ".a.json.99999999.tmp"
    for left in (elsewhere, older):
        left.touch()
    write_text(path, "mine")
    assert elsewhere.exists() and older.exists()
    os.utime(elsewhere, (time.time() - files.ABANDONED - 1,) * 2)
    write_text(path, "mine")
    assert not elsewhere.exists() and older.exists()


def test_who_has_the_lock_removes_all_but_what_is_written_now(tmp_path: Path) -> None:
    mine = temporary_path(tmp_path / "config.json")
    left = [".a.json.00000000-1.tmp", ".a.json.99999999.tmp", ".shard-00000.h5.tmp", ".tmpRe89kD"]
    for name in (mine.name, *left, "kept.tmp", ".tmp"):
        (tmp_path / name).touch()
    sweep_folder(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {mine.name, "kept.tmp", ".tmp"}
