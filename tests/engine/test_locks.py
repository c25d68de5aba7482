"""Locks, with flock and on a file system that refuses it."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from engine import files, locks
from engine.locks import NoLocks, held, take
from engine.runs.run import environment

ROOT = Path(__file__).parents[2]
SHORT = (
    "tests/engine/test_locks.py",
    "tests/engine/test_workspace.py",
    "tests/engine/activations/test_interrupted.py::test_stopped_and_continued",
    "tests/engine/activations/test_interrupted.py::test_two_at_once",
    "tests/engine/artefacts/test_artefacts.py",
    "tests/engine/runs/test_run.py",
    "tests/engine/runs/test_trainings.py::test_an_interrupted_training_goes_on_in_the_same_row",
    "tests/engine/sae/test_train.py::test_a_finished_sae_is_returned_as_it_is",
)
"""Locks, extraction, listings, training and jobs."""


@pytest.fixture(params=["flock", "without"])
def flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The rest holds whichever way."""
    if request.param == "without":
        monkeypatch.setattr(fcntl, "flock", refusing)
    return request.param


def refusing(*_: object) -> None:
    raise OSError(37, "No locks available")


@pytest.mark.filterwarnings("ignore::engine.locks.NoLocks")
@pytest.mark.usefixtures("flock")
def test_a_lock_is_one_process_s_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert held(path) is False
    lock = take(path)
    assert lock and held(path) and take(path) is None
    lock.close()
    assert held(path) is False and path.read_bytes() == b""
    assert take(path), "and is given back when nobody keeps it"
    assert held(path) is False


@pytest.mark.filterwarnings("ignore::engine.locks.NoLocks")
def test_a_process_that_was_killed_holds_nothing(tmp_path: Path, flock: str) -> None:
    patch = "import fcntl\ndef flock(*_): raise OSError(37, '')\nfcntl.flock = flock\n" if flock == "without" else ""
    hold = f"{patch}import sys, time\nfrom pathlib import Path\nfrom engine.locks import take\nlock = take(Path('l'))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", hold + "print(flush=True)\ntime.sleep(60)"], cwd=tmp_path, stdout=subprocess.PIPE,
        env=environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout
    process.stdout.readline()
    assert held(tmp_path / "l") and take(tmp_path / "l") is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie, as of a parent that does not look
    assert held(tmp_path / "l") is False and take(tmp_path / "l")
    process.communicate()


@pytest.mark.filterwarnings("ignore::engine.locks.NoLocks")
@pytest.mark.usefixtures("flock")
def test_who_waited_for_a_lock_that_was_removed_takes_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, removed = tmp_path / ".lock", fcntl.flock, []

    def remove_first(file: IO[str], operation: int) -> None:
        if not removed:  # as does who had it, of a store of which nothing was made
            removed.append(path.unlink())
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    lock = take(path)
    assert removed and lock and held(path) and take(path) is None


@pytest.mark.filterwarnings("ignore::engine.locks.NoLocks")
@pytest.mark.usefixtures("flock")
def test_one_at_a_time_though_each_removes_the_folder(tmp_path: Path) -> None:
    folder, inside, most = tmp_path / "store", [], []

    def work() -> None:
        for _ in range(50):
            with files.lock(folder, patience=60):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()
                with contextlib.suppress(OSError):
                    (folder / files.LOCK).unlink()
                    folder.rmdir()

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert set(most) == {1} and len(most) == 200


def test_who_looks_keeps_nobody_from_taking_it(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--without-locks"):
        pytest.skip("nobody has a lock here")
    path = tmp_path / "worker.lock"
    with open(path, "w") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)  # as does ``held``, for a moment
        done = threading.Timer(0.1, fcntl.flock, (looked_at, fcntl.LOCK_UN))
        done.start()
        taken = take(path)
        done.join()
    assert taken


def test_a_claim_that_was_left_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    monkeypatch.setattr(locks, "PASSING", 0.01)
    claim = tmp_path / "l.claim"
    claim.touch()
    with pytest.warns(NoLocks):
        assert take(tmp_path / "l") is None, "another may be about to take it"
    os.utime(claim, (1, 1))
    assert take(tmp_path / "l") and not claim.exists()


def test_the_claim_of_a_killed_process_is_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    claim = tmp_path / "l.claim"
    claim.write_text(f"{socket.gethostname()} 1 5")  # number 1 began at another time: whoever it was is gone
    with pytest.warns(NoLocks):
        lock = take(tmp_path / "l")
    assert lock and list(tmp_path.iterdir()) == [tmp_path / "l"]


def test_who_lost_a_lock_leaves_it_to_who_has_it_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    with pytest.warns(NoLocks):
        lock = take(tmp_path / "l")
    (tmp_path / "l").write_text("elsewhere.example 1 5")
    assert lock
    lock.close()
    assert held(tmp_path / "l")


def test_another_host_is_believed_while_it_touches_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    path = tmp_path / "l"
    path.write_text("elsewhere.example 1 5")
    assert held(path)
    os.utime(path, (time.time() - 1000,) * 2)
    assert held(path) is False


def test_another_process_of_the_same_number_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    (tmp_path / "l").write_text(f"{socket.gethostname()} {os.getpid()} 5")
    assert held(tmp_path / "l") is False


def test_a_lock_is_kept_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    monkeypatch.setattr(locks, "BEAT", 0.01)
    path = tmp_path / "l"
    with pytest.warns(NoLocks):
        lock = take(path)
    assert lock
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 2
    lock.close()


def test_that_there_are_no_locks_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for name in "abc":
            lock = take(tmp_path / name)
            assert lock
            lock.close()
    assert [str(one.message) for one in told] == [
        "This file system has no locks (No locks available): do not let two processes write the same artefact."
    ]


def suite_without_locks(*paths: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--without-locks", "-p", "no:cacheprovider", *paths],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.skipif("PYTEST_CURRENT_TEST" in os.environ, reason="it is what runs here")
def test_what_locks_passes_where_flock_is_refused() -> None:
    suite_without_locks(*SHORT)


@pytest.mark.slow
def test_everything_passes_where_flock_is_refused() -> None:
    suite_without_locks()
