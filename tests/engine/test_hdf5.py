"""HDF5 files that are read through files of Python."""

import resource
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from engine.activations.matrix_files import read_matrix
from engine.errors import UserError
from engine.hdf5 import HDF5File, read_array, read_number, read_text

LEFT_OPEN = """
import sys, threading
from pathlib import Path
from engine.hdf5 import HDF5File
class Keeper:
    def __init__(self, file):
        self.file, self.me = file, self
for place in (sys.modules["threading"], sys.modules[__name__]):
    place.kept = Keeper(HDF5File(Path(sys.argv[1])))
    place.rows = place.kept.file["rows"]
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["rows"] = range(5)
    return tmp_path / "a.h5"


def test_a_file_that_is_left_open_ends_no_process(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_closed_or_refused_holds_no_file(path: Path) -> None:
    with HDF5File(path) as file:
        assert file["rows"][:].tolist() == [0, 1, 2, 3, 4]
    assert file._disk.closed
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(OSError, match="truncated") as damage:
        HDF5File(path)
    assert damage.value.errno is None


SECRET = b"\x01\x02\x03\x04" * 64


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["activations"] = np.ones((4, 4), np.float32)
    return tmp_path / "secret.h5"


def external_link(file: h5py.File, secret: Path) -> None:
    file["activations"] = h5py.ExternalLink(str(secret), "/activations")


def in_a_group(file: h5py.File, secret: Path) -> None:
    file.create_group("a/b")["activations"] = h5py.ExternalLink(str(secret), "/activations")


def external_storage(file: h5py.File, secret: Path) -> None:
    stored = [(str(secret.with_suffix("")), 0, 64)]
    file.create_dataset("activations", (4, 4), np.float32, external=stored)


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((4, 4), np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "activations", (4, 4))
    file.create_virtual_dataset("activations", layout)


def unknown_filter(file: h5py.File, secret: Path) -> None:
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((2, 2))
    how.set_filter(307, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4, 4))
    h5py.h5d.create(file.id, b"activations", h5py.h5t.IEEE_F32LE, space, how)


def bomb(file: h5py.File, secret: Path) -> None:
    file.create_dataset("activations", (60_000, 30_000), np.float32, chunks=(100, 30_000), compression="gzip")


def nothing_behind(file: h5py.File, secret: Path) -> None:
    file.create_dataset("activations", (60_000, 30_000), np.float32)


def texts(file: h5py.File, secret: Path) -> None:
    file.create_dataset("activations", data=[["a", "b"]], dtype=h5py.string_dtype())


HOSTILE = (texts, external_link, in_a_group, external_storage, virtual, unknown_filter, bomb, nothing_behind)


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_file_that_leads_elsewhere_or_claims_too_much_is_refused(make, secret: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with h5py.File(tmp_path / "m.h5", "w") as file:
        make(file, secret)
    with pytest.raises(UserError, match=r"m\.h5"):
        read_matrix(tmp_path / "m.h5")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_links_within_a_file_and_filters_of_its_own_are_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((40, 8)).astype(np.float32)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("a/b", data=values, chunks=(10, 8), compression="lzf", shuffle=True, fletcher32=True)
        file["soft"] = h5py.SoftLink("/a")
        file["a/round"] = file["/"]
    assert np.array_equal(read_matrix(tmp_path / "m.h5"), values)


def _told(path: Path, length: int) -> None:
    """Let the first text of ``texts`` say that it has ``length`` bytes."""
    with h5py.File(path) as file:
        at = file["texts"].id.get_offset()
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(length.to_bytes(4, "little"))


@pytest.mark.parametrize("block", [0, 512])
def test_a_text_that_claims_more_than_the_file_has_takes_no_memory(block: int, tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with h5py.File(path, "w", userblock_size=block) as file:
        file["texts"] = ["ape", "bee" * 50]
    with HDF5File(path) as file:
        assert read_array(file["texts"]).tolist() == [b"ape", b"bee" * 50]
    _told(path, 1 << 31)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with HDF5File(path) as file, pytest.raises(OSError, match="claims more text than the file has"):
        read_array(file["texts"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def _bfloat16(path: Path, block: int = 0, **attributes: object) -> None:
    with h5py.File(path, "w", userblock_size=block) as file:
        file["activations"] = np.full((4, 3), 0x3F80, np.uint16)
        for name, value in attributes.items():
            file["activations"].attrs[name] = value


@pytest.mark.parametrize("block", [0, 512])
@pytest.mark.parametrize(
    "text", ["bfloat16", np.bytes_(b"bfloat16"), np.array("bfloat16", h5py.string_dtype("utf-8", 8))]
)
def test_texts_that_are_attributes(text: object, block: int, tmp_path: Path) -> None:
    others = {f"other {number}": "text " * number for number in range(20)}
    _bfloat16(tmp_path / "a.h5", block, **others, dtype=text, empty="", number=3, several=["a", "b"])
    with HDF5File(tmp_path / "a.h5") as file:
        found = [read_text(file["activations"], name) for name in ("dtype", "empty", "none", "other 19")]
        assert found == ["bfloat16", "", "", "text " * 19]
        for name in ("number", "several"):
            with pytest.raises(OSError, match=f"has no text {name}"):
                read_text(file["activations"], name)
    assert (read_matrix(tmp_path / "a.h5") == 1).all()


@pytest.mark.parametrize("length", [7, 9, 1 << 31, (1 << 32) - 1])
def test_a_text_attribute_that_claims_more_than_the_file_has_takes_no_memory(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    _bfloat16(path, dtype="bfloat16")
    content = path.read_bytes()
    place = struct.pack("<IQ", 8, content.find(b"GCOL"))
    assert content.count(place) == 1
    path.write_bytes(content.replace(place, struct.pack("<I", length) + place[4:]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="has lost its text dtype"):
        read_matrix(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_heap_of_zeros_of_an_attribute_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    _bfloat16(path, dtype="bfloat16")
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL") + 16
    content[heap : heap + 4000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(UserError, match="has lost its text dtype"):
        read_matrix(path)


def test_texts_that_hide_their_lengths_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("chunks", data=["ape", "bee"], chunks=(1,))
        file.create_dataset("unwritten", (3,), h5py.string_dtype())
        file.create_dataset("none", (0,), h5py.string_dtype())
        file.attrs["version"], file.attrs["text"] = 3, "3"
    with HDF5File(tmp_path / "t.h5") as file:
        for name in ("chunks", "unwritten"):
            with pytest.raises(OSError, match="side by side"):
                read_array(file[name])
        assert read_array(file["none"]).size == 0 and read_number(file, "version") == 3
        for name in ("text", "nothing"):
            with pytest.raises(OSError, match="has no number"):
                read_number(file, name)


def test_a_heap_of_texts_that_is_damaged_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["texts"] = ["ape", "bee" * 50, ""]
    whole = path.read_bytes()
    heap = whole.index(b"GCOL")
    for at, put in (
        (heap, b"GCOX"),
        (heap + 8, b"\xff" * 8),  # its size
        (heap + 16, bytes(600)),  # of zeros, through which HDF5 walks for ever
        (heap + 24, b"\xff" * 8),  # the size of a text
    ):
        path.write_bytes(whole[:at] + put + whole[at + len(put) :])
        with HDF5File(path) as file, pytest.raises(OSError, match="text"):
            read_array(file["texts"])


@pytest.mark.parametrize("block", [0, 512])
def test_texts_are_read_as_hdf5_reads_them(block: int, tmp_path: Path) -> None:
    texts = [f"{n} " * (n % 40) + "ü" for n in range(900)] + ["", "x" * 70_000]
    with h5py.File(tmp_path / "t.h5", "w", userblock_size=block) as file:
        file["texts"], file["one"] = texts, "alone"
        file["square"] = np.array(texts[:900], object).reshape(30, 30)
    with HDF5File(tmp_path / "t.h5") as file:
        for name in ("texts", "one", "square"):
            found, expected = read_array(file[name]), file[name][()]
            assert np.array_equal(found, expected) and type(found) is type(expected)
