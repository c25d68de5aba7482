"""The estimate against the extraction that it foretells."""

from pathlib import Path
from typing import Any

import h5py
import pytest

from engine.activations.estimate import estimate
from engine.activations.extract import extract
from engine.errors import Stopped, UserError
from engine.models import load_encoder
from engine.workspace import Workspace
from tests.support.extractions import Recorder, ask, contents, saved_model, write_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("images"), 30, broken=())


def made(folder: Path) -> tuple[int, int]:
    """Rows, and bytes of the three columns, as plain h5py finds them."""
    rows = size = 0
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            rows += len(file["image"])
            size += sum(file[name].size * file[name].dtype.itemsize for name in ("activations", "image", "token"))
    return rows, size


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": "all"},
        {"tokens": "cls", "dtype": "float32"},
        {"tokens": "random:2", "limit": 7},
        {"at": ("layer:2", "mlp:0", "last"), "dtype": "bfloat16", "limit": 11},
        {"at": ("last",), "embeddings": True, "batch_size": 64, "shard_rows": 1000},
    ],
)
def test_rows_and_bytes_are_those_of_the_extraction(
    changes: dict[str, Any], model: Path, images: Path, workspace: Workspace
) -> None:
    settings = ask(model, images, **changes)
    told = estimate(settings, workspace)
    assert not workspace.root.exists()
    result = extract(settings, workspace)
    assert told.images == told.images_left == result.images == (settings.limit or 30)
    assert [hook.name for hook in told.hooks] == [store.name for store in result.stores]
    for hook, store in zip(told.hooks, result.stores, strict=True):
        assert (hook.hook, hook.d) == (store.hook, store.d)
        assert (hook.rows, hook.bytes) == made(Path(store.path))
    assert told.rows == result.rows and told.bytes == sum(hook.bytes for hook in told.hooks)
    assert told.d == max(hook.d for hook in told.hooks)


def test_time_room_and_model(model: Path, images: Path, workspace: Workspace) -> None:
    told = estimate(ask(model, images), workspace)
    assert told.seconds == pytest.approx(30 / told.images_per_s) and told.seconds > 0
    encoder: Any = load_encoder(str(model))
    assert told.free > 0 and told.warnings == tuple(encoder.warnings)
    assert told.model_parameters == sum(p.numel() for p in encoder.model.parameters()) > 1000


def test_an_interrupted_extraction_is_estimated_from_where_it_stopped(
    model: Path, images: Path, workspace: Workspace
) -> None:
    settings = ask(model, images)
    with pytest.raises(Stopped):
        extract(settings, workspace, Recorder(3))  # two shards of 8 images
    before = contents(workspace.root)
    told = estimate(settings, workspace)
    assert (told.images, told.images_left) == (30, 14)
    assert told.seconds == pytest.approx(14 / told.images_per_s)
    assert contents(workspace.root) == before
    extract(settings, workspace)
    assert estimate(settings, workspace).images_left == estimate(settings, workspace).seconds == 0


def test_broken_images_are_told(model: Path, workspace: Workspace, tmp_path: Path) -> None:
    some = write_pictures(tmp_path / "some", 12, broken=(0, 1))
    told = estimate(ask(model, some), workspace)
    assert "2 of 12 images tried cannot be read (ape/0000.png: not an image" in told.warnings[-1]
    none = write_pictures(tmp_path / "none", 3, broken=(0, 1, 2))
    told = estimate(ask(model, none), workspace)
    assert told.seconds is None and told.images_per_s is None and "3 of 3" in told.warnings[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": ("layer:3",)}, "no layer:3: its blocks are layer:0 to layer:2"),
        ({"tokens": "random:18"}, "has 17 tokens an image, fewer than"),
        ({"shard_rows": 60}, "--shard-rows"),
        ({"batch_size": 0}, "--batch-size"),
        ({"name": "../x"}, "cannot name"),
        ({"embeddings": True}, "one row an image"),
    ],
)
def test_mistakes_are_those_of_the_extraction(
    change: dict[str, Any], words: str, model: Path, images: Path, workspace: Workspace
) -> None:
    for function in (estimate, extract):
        with pytest.raises(UserError, match=words):
            function(ask(model, images, **change), workspace)
    assert not workspace.root.exists()


def test_a_name_that_is_taken_is_refused(model: Path, images: Path, workspace: Workspace) -> None:
    extract(ask(model, images), workspace)
    with pytest.raises(UserError, match="was made with dtype float16, not float32: give another --name"):
        estimate(ask(model, images, dtype="float32"), workspace)
