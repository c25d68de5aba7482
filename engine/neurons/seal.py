"""The seal of a neurons file: 512 bytes before its HDF5, that hold the hash of all that follows. Costs no torch."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from engine.errors import Unrecorded, UserError, refusal
from engine.files import atomic_path
from engine.hdf5 import HDF5File, read_array
from engine.integrity import HDF5, content_sha256, read_sha256
from engine.records import parse_json
from engine.regular import open_regular

SEALED, BLOCK = b"saetui sha256 ", 512


def write_sealed(path: Path, content: bytes) -> None:
    """Write an HDF5 file in one step, behind its hash. Raises OSError."""
    with atomic_path(path) as temporary:
        seal = SEALED + hashlib.sha256(content).hexdigest().encode()
        temporary.write_bytes(seal.ljust(BLOCK, b"\n") + content)


def unsealed(path: Path) -> bytes:
    """The HDF5 of a neurons file, without its hash. Raises OSError."""
    with open_regular(path) as file:
        content = file.readall()
    return content[BLOCK:] if content.startswith(SEALED) else content


AS_WRITTEN = "as_written"
"""JSON text, beside the summary."""


def neurons_sha256(path: Path) -> str:
    """The identity of a neurons file: the hash of its bytes as they were before it was told that something was moved
    (engine.artefacts.relink), so that what was made from it still names it. Raises OSError."""
    with contextlib.suppress(OSError, ValueError, UserError), HDF5File(path) as file:  # its readers say what is wrong
        if AS_WRITTEN in file and isinstance(said := parse_json(read_array(file[AS_WRITTEN])), str):
            return said
    return content_sha256(path)


def verify_neurons(path: Path) -> None:
    """UserError unless every byte is as it was written, whatever is known of it."""
    try:
        with open_regular(path) as file:
            sealed = file.read(len(HDF5)) != HDF5
        if not sealed:
            raise Unrecorded(path, "score again for one")
        check_seal(path, read_sha256)
    except OSError as error:
        raise refusal(error, path) or error from error


def check_seal(path: Path, sha256: Callable[[Path, int], str] = content_sha256) -> None:
    """UserError unless the file is as it was written, as far as it says. Raises OSError."""
    with open_regular(path) as file:
        head = file.read(BLOCK)
    if head.startswith(HDF5):  # of an older version
        return
    said = head[len(SEALED) :].rstrip(b"\n").decode("ascii", "replace")
    if not head.startswith(SEALED) or sha256(path, BLOCK) != said:
        raise damaged_scores(path, "a bit of it has changed, or it is no HDF5 file")


def damaged_scores(path: str | Path, reason: object) -> UserError:
    return UserError(f"{path} is damaged ({reason}): score again (saetui score).")
