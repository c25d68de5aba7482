"""HDF5 files that are read through files of Python."""

import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from engine.hdf5 import HDF5File

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
