"""The reader against plain h5py, on random stores; and what it says of damaged ones."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import integrity
from engine.activations import stored_images
from engine.activations.matrix_files import read_matrix
from engine.activations.results import Verified
from engine.activations.shards import BLOCK_ROWS, STORED, ImageRecord, ShardWriter, read_records
from engine.activations.store import Store
from engine.artefacts.verify import verify
from engine.config import VerifySettings
from engine.errors import UserError
from engine.files import write_json
from engine.reporter import Event, Reporter, StageBegan
from engine.workspace import Workspace
from tests.support.stores import write_store


def as_stored(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(STORED[dtype])


def decoded(stored: np.ndarray) -> np.ndarray:
    """What a stored array means, written out: bfloat16 is a float32 whose lower 16 bits are 0."""
    if stored.dtype == np.uint16:
        return (
            np.array([[int(v) << 16 for v in row] for row in stored], np.uint32).reshape(stored.shape).view(np.float32)
        )
    return stored.astype(np.float32)


def make_store(folder: Path, sizes: list[int], d: int, dtype: str, seed: int = 0) -> np.ndarray:
    """A store with shards of ``sizes`` rows; its values as stored."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    shards, parts, first = [], [], 0
    for number, rows in enumerate(sizes):
        values = as_stored(random.normal(size=(rows, d)).astype(np.float32), dtype)
        writer = ShardWriter(folder / f"shard-{number:05d}.h5", d, dtype)
        for start in range(0, rows, 7):
            piece = values[start : start + 7]
            image = np.arange(first + start, first + start + len(piece))
            writer.append(piece, image, image % 5)
        shards.append(asdict(replace(writer.commit([ImageRecord(f"{number}.png")]), first_row=first)))
        parts.append(values)
        first += rows
    manifest = {"format": "saetui-activations", "version": 2, "complete": True, "rows": first, "d": d, "dtype": dtype}
    write_json(folder / "manifest.json", {**manifest, "shards": shards})
    return np.concatenate(parts) if parts else np.empty((0, d), STORED[dtype])


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    d=st.integers(1, 9),
    dtype=st.sampled_from(sorted(STORED)),
    data=st.data(),
)
def test_reads_what_h5py_reads(
    sizes: list[int], d: int, dtype: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    values = make_store(folder, sizes, d, dtype)
    store = Store.open(folder)
    with_h5py = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            with_h5py.append(file["activations"][:])
    assert np.array_equal(np.concatenate(with_h5py), values)
    expected = decoded(values)
    rows = len(expected)
    assert (store.rows, store.d, store.dtype) == (rows, d, dtype)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    assert np.array_equal(store.read(start, stop), expected[start:stop])
    wanted = data.draw(st.lists(st.integers(0, max(rows - 1, 0)), max_size=20)) if rows else []
    taken = store.take(wanted)
    assert taken.dtype == np.float32 and np.array_equal(taken, expected[np.array(wanted, int)])
    assert np.array_equal(store.image, np.arange(rows)) and np.array_equal(store.token, np.arange(rows) % 5)
    assert store.image.dtype == store.token.dtype == np.int32
    assert store.verify() == []


def test_bfloat16_has_every_value(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "shard-00000.h5", 256, "bfloat16")
    bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    writer.append(bits, np.zeros(256, int), np.zeros(256, int))
    shard = asdict(writer.commit([]))
    manifest = {"format": "saetui-activations", "version": 1, "complete": True, "rows": 256, "d": 256}
    write_json(tmp_path / "manifest.json", {**manifest, "dtype": "bfloat16", "shards": [shard]})
    store = Store.open(tmp_path)
    for values in (store.read(0, 256), store.take(range(256))):
        assert np.array_equal(values.view(np.uint32), bits.astype(np.uint32) << 16)


def test_rows_out_of_range(tmp_path: Path) -> None:
    make_store(tmp_path, [5], 2, "float32")
    store = Store.open(tmp_path)
    for indices in ([-1], [5]):
        with pytest.raises(IndexError):
            store.take(indices)
    for span in ((-1, 2), (3, 6), (3, 2)):
        with pytest.raises(IndexError):
            store.read(*span)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make_store(tmp_path / name, [9000, 20], 3, "float16")
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    values = make_store(tmp_path, [BLOCK_ROWS + 5], 3, "float16")
    with h5py.File(tmp_path / "shard-00000.h5") as file:
        data = file["activations"]
        assert data.chunks is None and data.compression is None and data.dtype == np.float16
        assert data.attrs["dtype"] == "float16" and file.attrs["version"] == 1
        assert np.array_equal(data[:], values)
        assert file["checksums"].shape == (2,) and file["checksums"].attrs["block_rows"] == BLOCK_ROWS
        assert json.loads(bytes(file["source"][:])) == [ImageRecord("0.png").to_json()]


# Damage


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_verify_says_where(tmp_path: Path) -> None:
    make_store(tmp_path, [BLOCK_ROWS * 2 + 9, 30, 30, 30], 2, "float32")
    files = sorted(tmp_path.glob("*.h5"))
    with h5py.File(files[0]) as file:
        offset = file["activations"].id.get_offset()
    flip(files[0], offset + (BLOCK_ROWS + 3) * 8)
    with h5py.File(files[1]) as file:
        flip(files[1], file["token"].id.get_offset())
    files[2].write_bytes(files[2].read_bytes()[:300])
    files[3].unlink()
    problems = Store.open(tmp_path).verify()
    assert [f"rows {BLOCK_ROWS}-{2 * BLOCK_ROWS - 1}" in problems[0], "outside" in problems[1]] == [True, True]
    assert "truncated" in problems[2] and "missing" in problems[3] and len(problems) == 4
    assert all(str(file) in problem for file, problem in zip(files, problems, strict=True))


def test_verify_as_a_task_tells_its_progress(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    make_store(place.embeddings("A"), [40, 30], 2, "float32")
    recorder = Bytes()
    result = verify(VerifySettings(store="A"), place, recorder)
    sizes = [path.stat().st_size for path in sorted(place.embeddings("A").glob("*.h5"))]
    assert result == Verified(str(place.embeddings("A")), 2, sum(sizes), ())
    assert recorder.steps == [(sizes[0], sum(sizes), "bytes"), (sum(sizes), sum(sizes), "bytes")]
    with pytest.raises(UserError, match="No activations named 'B'"):
        verify(VerifySettings(store="B"), place)


class Bytes(Reporter):
    def __init__(self) -> None:
        self.steps: list[tuple[int, int, str]] = []

    def progress(self, done: int, total: int, unit: str, **metrics: Any) -> None:
        self.steps.append((done, total, unit))


@pytest.mark.parametrize("damage", ["cut", "short", "junk", "gone", "empty"])
def test_a_damaged_shard_is_named(damage: str, tmp_path: Path) -> None:
    make_store(tmp_path, [500, 500], 8, "float32")
    path = tmp_path / "shard-00001.h5"
    whole = path.read_bytes()
    cut = {"cut": whole[:200], "short": whole[:-2000], "junk": b"junk" * 5000, "empty": b""}
    path.unlink() if damage == "gone" else path.write_bytes(cut[damage])
    store = Store.open(tmp_path)
    assert store.read(0, 500).shape == (500, 8)
    for reading in (lambda: store.take([3, 700]), lambda: store.read(490, 510), lambda: store.image):
        with pytest.raises(UserError, match=r"shard-00001.h5 .* again"):
            reading()


@pytest.mark.parametrize("part", ["activations", "image", "token", "checksums", "source"])
def test_a_flipped_bit_in_any_part_of_a_shard_is_refused(part: str, tmp_path: Path) -> None:
    make_store(tmp_path, [500, 500], 8, "float32")
    path = tmp_path / "shard-00001.h5"
    with h5py.File(path) as file:
        offset = file[part].id.get_offset()
    flip(path, offset)
    store = Store.open(tmp_path)
    assert store.read(0, 500).shape == (500, 8)
    readings = (
        lambda: store.take([3, 700]),
        lambda: store.image,
        lambda: store.token,
        lambda: list(store.images),
        lambda: read_matrix(path),
    )
    for reading in readings:
        with pytest.raises(UserError, match=r"shard-00001.h5 is damaged .*: delete it .* verify .* --repair"):
            reading()


def test_a_shard_is_read_for_its_hash_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it stays as it is, and in other processes too; what was written just now is not trusted yet."""
    make_store(tmp_path, [500, 500], 8, "float32")
    whole, read = integrity._read, list[int]()
    monkeypatch.setattr(integrity, "_read", lambda file, start: read.append(1) or whole(file, start))
    told = Stages()
    for reads in (2, 4):
        Store.open(tmp_path).check(told, unasked=1)
        assert len(read) == reads
    monkeypatch.setattr(integrity, "SETTLED", -1.0)
    for _ in range(3):
        Store.open(tmp_path).check(told, unasked=1)
        assert Store.open(tmp_path).take([3, 700]).shape == (2, 8) and len(read) == 6
    integrity._known_hashes.cache_clear()  # as a new process
    Store.open(tmp_path).check(told, unasked=1)
    assert len(read) == 6 and len(told.stages) == 3 and "once" in told.stages[0]
    flip(tmp_path / "shard-00000.h5", -1)
    with pytest.raises(UserError, match=r"shard-00000.h5 is damaged"):
        Store.open(tmp_path).check(told, unasked=1)


class Stages(Reporter):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def event(self, event: Event) -> None:
        if isinstance(event, StageBegan):
            self.stages.append(event.name)


def test_a_shard_of_another_shape_is_named(tmp_path: Path) -> None:
    make_store(tmp_path / "a", [5], 8, "float32")
    make_store(tmp_path / "b", [5], 4, "float32")
    made, other = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab")
    write_json(tmp_path / "b" / "manifest.json", made | {"shards": other["shards"]})
    with pytest.raises(UserError, match="the manifest says"):
        Store.open(tmp_path / "b").take([0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, "upgrade"),
        ({"format": "something"}, "something else than activations"),
        ({"complete": False, "command": "saetui extract --name A"}, "continue it with saetui extract --name A"),
        ({"shards": None}, "damaged"),
        ({"version": None}, "no format version"),
    ],
)
def test_manifests_that_cannot_be_used(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    make_store(tmp_path, [5], 2, "float32")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    write_json(tmp_path / "manifest.json", manifest | change)
    with pytest.raises(UserError, match=words):
        Store.open(tmp_path)


def test_no_store_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no activation store"):
        Store.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest.json is damaged"):
        Store.open(tmp_path)


def test_identity_follows_the_content(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_store(tmp_path / name, [5], 2, "float32", seed)
    a, b, c = (Store.open(tmp_path / name).sha256 for name in "abc")
    assert a == b != c


def test_reading_costs_no_torch(tmp_path: Path) -> None:
    make_store(tmp_path, [5], 2, "bfloat16")
    code = (
        "import sys; from engine.activations.store import Store; s = Store.open(sys.argv[1]); s.take([1, 0]); s.image; "
        "s.verify(); print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_the_file_in_memory_reads_back_what_was_written() -> None:
    """HDF5 may read its own metadata while it lays a file out."""
    from engine.activations.shards import _Memory

    memory = _Memory()
    for offset, piece in ((0, b"abcdef"), (10, b"xyz"), (4, b"EFGH")):
        memory.seek(offset)
        memory.write(piece)
    memory.seek(2)
    assert memory.read(11) == b"cdEFGH\0\0xyz" and memory.tell() == 13 == memory.size
    memory.seek(0)
    buffer = bytearray(3)
    assert memory.readinto(buffer) == 3 and buffer == b"abc"


def test_images_are_read_shard_by_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((7, 2), np.float32)
    listed = write_store(tmp_path / "old", x, shard_images=3, version=1)
    store = write_store(tmp_path / "new", x, shard_images=3)
    read: list[str] = []

    def reading(path: Path) -> list[ImageRecord]:
        read.append(path.name)
        return read_records(path)

    monkeypatch.setattr(stored_images, "read_records", reading)
    assert len(store.images) == 7 and not read
    assert store.images[4] == store.images[-3] == listed.images[4]
    assert store.images[3] == listed.images[3] and read == ["shard-00001.h5"]
    assert list(store.images) == listed.images
    assert read == ["shard-00001.h5", "shard-00000.h5", "shard-00002.h5"], "each once"
    for outside in (7, -8):
        with pytest.raises(IndexError):
            store.images[outside]


def test_broken_images_are_found_in_the_shards_that_have_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_store(tmp_path / "s", np.ones((6, 2), np.float32), shard_images=2, broken=1)
    shard = ShardWriter(store.path / "shard-00001.h5", 2, "float32")
    shard.append(np.ones((1, 2), np.float32), np.array([2]), np.array([0]))
    bad = ImageRecord("3.png", broken="cut short")
    made = shard.commit([ImageRecord("2.png"), bad], 2)
    assert (made.broken, store.shards[0].broken) == (1, 0)
    manifest = replace(store.manifest, shards=(store.shards[0], made, store.shards[2]))
    (store.path / "shard-00002.h5").unlink()
    assert stored_images.broken_images(store.path, manifest) == [bad]


def test_a_shard_with_other_images_is_told(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", np.ones((4, 2), np.float32), shard_images=2)
    short = replace(store.manifest, shards=(store.shards[0], replace(store.shards[1], next_image=5)))
    with pytest.raises(UserError, match="lists 2 images, the manifest beside it 3"):
        stored_images.stored_images(store.path, short)[3]


def test_a_shard_that_is_cut_while_it_is_mapped_is_a_sentence(tmp_path):
    store = write_store(tmp_path / "a", np.ones((4096, 8)))
    assert store.read(0, 4096).all()
    os.truncate(tmp_path / "a" / "shard-00000.h5", 8192)
    with pytest.raises(UserError, match=r"shard-00000.h5 is damaged \(it was cut while it was read\): delete it"):
        store.read(0, 4096)
