"""What the system refuses is told as that, never as damage."""

import errno
import io
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from engine.activations.manifest import _head
from engine.activations.matrix_files import read_matrix
from engine.activations.shards import read_records
from engine.activations.store import Store
from engine.artefacts.entries import NeuronsEntry, RecipeEntry, SAEEntry, StoreEntry, read_entry
from engine.errors import Refused, UserError, reason, refusal, system_mistake
from engine.files import parse_toml, read_json
from engine.neurons.file import Neurons
from engine.records import parse_json
from engine.runs.run import Run
from engine.sae.model import read_tensors
from engine.sae.preview import read_preview
from engine.sae.state import checkpoint_path, read_state
from tests.support.stores import write_store

OLD = Path(__file__).parents[1] / "old_workspace"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artefact of every kind."""
    place = Path(shutil.copytree(OLD, tmp_path_factory.mktemp("study") / "w"))
    write_store(place / "activations" / "x", np.ones((20, 3)))
    checkpoint = checkpoint_path(place / "saes" / "s")
    checkpoint.parent.mkdir(parents=True)
    save_file({"a": np.ones(3)}, checkpoint)
    save_file({"a": np.ones((3, 3))}, place / "a.safetensors")
    np.save(place / "a.npy", np.ones((3, 3)))
    (place / "saes" / "s" / "preview.json").write_text("{}")
    return place


def _column(place: Path) -> Any:
    store = Store.open(place / "activations" / "x")
    with nothing_opens():
        return store.image


def _rows(place: Path) -> Any:
    store = Store.open(place / "activations" / "x")
    with nothing_opens():
        return store.read(0, 3)


def _bytes(place: Path) -> Any:
    store = Store.open(place / "activations" / "x")
    with nothing_opens():
        return store.verify()


READERS: dict[str, Callable[[Path], Any]] = {
    "manifest": lambda place: Store.open(place / "activations" / "x"),
    "records": lambda place: read_records(place / "activations" / "x" / "shard-00000.h5"),
    "neurons": lambda place: Neurons.open(place / "neurons" / "jump--images.h5"),
    "weights": lambda place: read_tensors(place / "a.safetensors"),
    "checkpoint": lambda place: read_state(place / "saes" / "s"),
    "preview": lambda place: read_preview(place / "saes" / "s"),
    "npy": lambda place: read_matrix(place / "a.npy"),
    "safetensors": lambda place: read_matrix(place / "a.safetensors"),
    "hdf5": lambda place: read_matrix(place / "activations" / "x" / "shard-00000.h5"),
    "status": lambda place: Run(place / "runs" / "20261126-022424-extract").status,
}
LATER: dict[str, Callable[[Path], Any]] = {"column": _column, "rows": _rows, "bytes": _bytes}


@contextmanager
def nothing_opens() -> Iterator[None]:
    """The system refuses every further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", READERS)
def test_too_many_open_files_are_no_damage(name: str, study: Path) -> None:
    _head.cache_clear()
    with pytest.raises(Refused, match=r"\(Too many open files\): raise the limit"), nothing_opens():
        READERS[name](study)


@pytest.mark.parametrize("name", LATER)
def test_nor_are_they_later(name: str, study: Path) -> None:
    with pytest.raises((Refused, OSError)) as refused:
        LATER[name](study)
    found = refusal(refused.value)
    assert found and "(Too many open files): raise the limit" in str(found)


@pytest.mark.parametrize(
    "kind, path",
    [
        (StoreEntry, "activations/x"),
        (SAEEntry, "saes/s"),
        (NeuronsEntry, "neurons/jump--images.h5"),
        (RecipeEntry, "recipes/hat.toml"),
    ],
)
def test_a_listing_advises_to_remove_nothing_that_it_could_not_read(kind: Any, path: str, study: Path) -> None:
    with nothing_opens():
        entry = read_entry(kind, study / path)
    assert entry and "Too many open files" in entry.error and "damaged" not in entry.error


# A notebook has the file open


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("path", ["activations/x/shard-00000.h5", "neurons/jump--images.h5"])
def test_a_file_that_this_process_has_open(path: str, mode: str, study: Path) -> None:
    def read() -> object:
        if "neurons" not in path:
            return read_records(study / path)
        with Neurons.open(study / path) as neurons:
            return neurons.summary, neurons.ms.tolist()

    before = repr(read())
    with h5py.File(study / path, mode):
        assert repr(read()) == before


def test_a_file_that_another_process_has_open_and_locked(study: Path) -> None:
    shard, scores = study / "activations/x/shard-00000.h5", study / "neurons/jump--images.h5"
    hold = (
        "import h5py, sys\nkept = [h5py.File(p, 'r+', locking=True) for p in sys.argv[1:]]\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, shard, scores], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as notebook:
        assert notebook.stdout
        notebook.stdout.readline()
        assert len(read_records(shard)) == 20 and Store.open(study / "activations/x").read(0, 2).shape == (2, 3)
        Neurons.open(scores).close()
        assert len(read_matrix(shard)) == 20
        notebook.communicate(b"\n")


# The sentences


@pytest.mark.parametrize("number", sorted({n for n in errno.errorcode if n not in (errno.EBADF, errno.EFAULT)}))
def test_every_refusal_names_the_file_and_the_way_out(number: int) -> None:
    sentence = system_mistake(OSError(number, os.strerror(number), "some/file"))
    if number in (errno.EPIPE, errno.ECHILD):  # a bug of ours
        assert sentence is None
    else:
        assert sentence and "some/file" in sentence and re.search(r": [a-z]", sentence) and sentence.endswith(".")
        assert "damaged" not in sentence and "delete" not in sentence


@pytest.mark.parametrize(
    "told",
    [
        "Error while serializing: I/O error: No locks available (os error 37)",
        "Unable to open file (unable to lock file, errno = 37, error message = 'No locks available')",
    ],
)
def test_what_libraries_pass_on_in_their_text_counts(told: str) -> None:
    found = refusal(OSError(told), Path("some/file"))
    assert str(found).startswith("The system does not let some/file be used (No locks available)")


@pytest.mark.parametrize("damage", [OSError("Unable to open file (truncated file)"), KeyError("a"), UserError("no")])
def test_what_was_read_and_found_wrong_is_no_refusal(damage: Exception) -> None:
    assert refusal(damage, Path("some/file")) is None


DIGITS = "9" * 5000
PYTHONS = re.compile(
    r"sys\.|set_int_max|allow_pickle|weights_only|NoneType|object is|indices must|0x|codec|<class|'str'"
)


def _raised(wrong: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as raised:
        wrong()
    return raised.value


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: parse_json(f"[{DIGITS}]"), "it holds a number of thousands of digits"),
        (lambda: parse_toml(f"a = {DIGITS}"), "it holds a number of thousands of digits"),
        (lambda: int(DIGITS), "it holds a number of thousands of digits"),
        (lambda: np.load(io.BytesIO(pickle.dumps({"a": 1}))), "it holds Python objects, which may run code"),
        (lambda: torch.load(io.BytesIO(pickle.dumps(Path()))), "it holds Python objects, which may run code"),
        (lambda: parse_json("null")["a"], "a value in it is of another form than it should be"),
        (lambda: parse_json("[1]")["a"], "a value in it is of another form than it should be"),
        (lambda: parse_json("1") < "a", "a value in it is of another form than it should be"),
        (lambda: parse_json("{}")["images"], "it has no images"),
        (lambda: b"\xff".decode(), "it is no text in UTF-8"),
        (lambda: Path("/nowhere").read_bytes(), "No such file or directory"),
    ],
)
def test_what_a_library_says_is_told_without_its_advice(wrong: Callable[[], object], words: str) -> None:
    assert reason(_raised(wrong)).startswith(words)
    assert not PYTHONS.search(reason(_raised(wrong)))


def test_objects_of_python_are_not_shown() -> None:
    assert reason(ValueError(f"cannot read {object()} of {int}")) == "cannot read data of data"
    assert len(reason(ValueError("x" * 500))) == 160
    assert reason(ValueError()) == "it is damaged"


@pytest.mark.parametrize("name", ["status.json", "command.json"])
def test_digits_without_end_in_a_file_are_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(f'{{"pid": {DIGITS}}}')
    with pytest.raises(UserError, match=r"is damaged \(it holds a number of thousands of digits\)"):
        read_json(tmp_path / name)
