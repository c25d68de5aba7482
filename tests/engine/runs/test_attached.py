"""Questions to a worker that dies with whoever asked."""

import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from engine.files import write_json
from engine.reporter import Event, Failed, Progress
from engine.runs.attached import Attached
from engine.workspace import Workspace
from tests.support.stores import write_store


def test_a_result_with_its_events(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    store = write_store(place.activations("A"), np.ones((20, 3)), shard_images=10)
    heard: list[Event] = []
    told = Attached(place, "verify", {"store": "A"}).result(heard.append)
    assert told.problems == () and told.path == str(store.path)
    last = heard[-1]
    assert isinstance(last, Progress) and last.done == last.total == told.bytes
    assert not place.runs.exists()


def test_a_mistake_is_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No activations named 'A'"):
        Attached(Workspace(tmp_path), "verify", {"store": "A"}).result()


def test_damage_is_a_sentence_that_names_the_file(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "w")
    write_store(place.activations("A"), np.ones((20, 3)))
    manifest = place.activations("A") / "manifest.json"
    write_json(manifest, json.loads(manifest.read_text()) | {"shards": [{"rows": 1, "first_row": 0}]})
    with pytest.raises(UserError, match=r"manifest\.json is damaged \(shards\[0\]\.file: missing"):
        Attached(place, "verify", {"store": "A"}).result()


def test_a_worker_that_dies_says_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engine.runs.attached.python_module", lambda *_: [sys.executable, "-c", "raise SystemExit('so long')"]
    )
    with pytest.raises(UserError, match="so long"):
        Attached(Workspace(tmp_path), "doctor", {}).result()


@pytest.mark.parametrize("early", [True, False])
def test_cancelled_there_is_no_result(early: bool, tmp_path: Path) -> None:
    asked = Attached(Workspace(tmp_path), "doctor", {})
    if early:
        asked.cancel()
    else:
        threading.Timer(0.2, asked.cancel).start()
    assert asked.result() is None
    assert early == (asked._process is None)


def test_asked_to_stop_while_it_starts_it_still_hears_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may come at any moment of the start; its handler calls ``stop``."""
    asked = Attached(Workspace(tmp_path), "doctor", {})
    heard = [sys.executable, "-c", "import sys; sys.exit(sys.stdin.readline() + '|')"]
    monkeypatch.setattr("engine.runs.attached.python_module", lambda *_: heard)
    monkeypatch.setattr("engine.runs.attached.to_json", lambda command: asked.stop() or {"first": True})
    end = asked.end()
    assert isinstance(end, Failed) and '{"first": true' in "".join(asked.printed)


def test_a_worker_that_ends_for_memory_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "cannot allocate memory for thread-local data: ABORT"
    monkeypatch.setattr("engine.runs.attached.python_module", lambda *_: [sys.executable, "-c", f"exit({said!r})"])
    end = Attached(Workspace(tmp_path), "doctor", {}).end()
    assert isinstance(end, Failed) and end.mistake and end.error.startswith("Memory is full: ")


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (%d, resource.RLIM_INFINITY))
sys.argv = ["worker", "-"]
runpy.run_module("engine.runs.worker", run_name="__main__")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is heeded by Linux alone")
@pytest.mark.parametrize("gigabytes", [1, 2])
def test_where_memory_is_limited_below_what_libraries_take_a_sentence_says_so(
    gigabytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.runs.attached.python_module",
        lambda *_: [sys.executable, "-c", LIMITED % (gigabytes * 10**9)],
    )
    end = Attached(Workspace(tmp_path), "doctor", {}).end()
    assert isinstance(end, Failed) and end.mistake and "ulimit -v" in end.error
