"""Locks, with flock and on a file system that refuses it."""

import fcntl
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from engine import locks
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
