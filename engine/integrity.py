"""What files hold, read once and then known by their stamps: so that whoever uses a file can compare it with what is
recorded of it, at no cost the second time.

Hashes are kept for all workspaces under ``$XDG_CACHE_HOME/saetui/contents``, where nothing is lost with them: 256 files
of records of 52 bytes: a key (of the file's path and stamp, and the place in it), a SHA-256, and the CRC-32 of both.
Records are only ever added, each lot in one write, so writers need no lock, and a torn one is passed over.
"""

import contextlib
import hashlib
import os
import time
import zlib
from functools import lru_cache
from io import FileIO
from pathlib import Path

from engine.errors import UserError, refusal
from engine.files import Stamp, stamp_of, xdg
from engine.regular import open_regular

SETTLED = 2.0
"""Seconds after a change from which on a stamp is trusted: file systems tell times in steps, and what is written twice
within one of them has the same stamp."""
HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins."""
_KEY, _SUM, _RECORD = 16, 48, 52  # bytes: where the key ends, where the checksum begins, and the end


class KnownHashes:
    """SHA-256 by what was read. ``folder``: its folder or file; those of one lie together, so that a small one need not
    read all that is known. ``what``: says all that tells it from others, its stamp too. Safe in threads."""

    def __init__(self, home: Path):
        self.home = home
        self._known: dict[bytes, bytes] = {}
        self._read: set[str] = set()  # names of the files that were
        self._new: list[tuple[str, bytes]] = []

    def get(self, folder: str, what: str) -> str | None:
        """None where it is not known."""
        self._load(_bucket(folder))
        found = self._known.get(_key(what))
        return found.hex() if found else None

    def add(self, folder: str, what: str, sha256: str) -> None:
        """Know it from now on, in other processes after ``save``."""
        if self.get(folder, what) == sha256:
            return
        key, digest = _key(what), bytes.fromhex(sha256)
        self._known[key] = digest
        self._new.append((_bucket(folder), key + digest + _checksum(key + digest)))

    def save(self) -> None:
        """Where nothing can be written, hashes are known to this process alone."""
        new, self._new = self._new, []
        lots: dict[str, list[bytes]] = {}
        for bucket, record in new:
            lots.setdefault(bucket, []).append(record)
        with contextlib.suppress(OSError):
            self.home.mkdir(parents=True, exist_ok=True)
            for bucket, records in lots.items():
                with open_regular(self.home / bucket, "ab") as file:
                    torn = -file.tell() % _RECORD
                    file.write(bytes(torn) + b"".join(records))

    def _load(self, bucket: str) -> None:
        if bucket in self._read:
            return
        with contextlib.suppress(OSError):
            with open_regular(self.home / bucket) as file:
                data = file.readall()
            for at in range(0, len(data) - _RECORD + 1, _RECORD):
                if _checksum(data[at : at + _SUM]) == data[at + _SUM : at + _RECORD]:
                    self._known[data[at : at + _KEY]] = data[at + _KEY : at + _SUM]
        self._read.add(bucket)


@lru_cache(maxsize=1)
def _known_hashes(home: Path) -> KnownHashes:
    return KnownHashes(home)


def known_hashes() -> KnownHashes:
    """Those of this user, one for the process."""
    return _known_hashes(xdg("XDG_CACHE_HOME", ".cache") / "saetui" / "contents")


def content_sha256(path: Path, start: int = 0) -> str:
    """Of a file's bytes from ``start`` on. Read once as long as the file stays as it is. Raises OSError."""
    known, folder = known_hashes(), os.path.abspath(path.parent)
    with open_regular(path) as file:
        seen = stamp_of(os.fstat(file.fileno()))
        what = _version(folder, path.name, start, seen)
        if found := known.get(folder, what):
            return found
        sha256 = _read(file, start)
        if seen == stamp_of(os.fstat(file.fileno())) and abs(time.time() - seen[-1] / 1e9) > SETTLED:
            known.add(folder, what, sha256)
            known.save()
    return sha256


def read_sha256(path: Path, start: int = 0) -> str:
    """As :func:`content_sha256`, of what is read now."""
    with open_regular(path) as file:
        return _read(file, start)


_FLAGS = slice(20, 24)
"""Where HDF5 marks a file that some program has open for writing; it is read as it was written."""


def _read(file: FileIO, start: int) -> str:
    file.seek(start)
    head = bytearray(file.read(_FLAGS.stop))
    if head.startswith(HDF5) and len(head) == _FLAGS.stop:
        head[_FLAGS] = bytes(4)
    whole = hashlib.sha256(head)
    while piece := file.read(1 << 20):
        whole.update(piece)
    return whole.hexdigest()


def is_known(path: Path) -> bool:
    """Whether :func:`content_sha256` of the whole file costs nothing."""
    folder = os.path.abspath(path.parent)
    try:
        return known_hashes().get(folder, _version(folder, path.name, 0, stamp_of(path.stat()))) is not None
    except OSError:
        return False


def check_content(path: Path, sha256: str, way: str) -> None:
    """UserError unless the file holds what ``sha256`` says; ``way``: what to do then."""
    try:
        found = content_sha256(path)
    except OSError as error:
        raise refusal(error, path) or error from error
    if found != sha256:
        raise UserError(f"{path} is damaged (a bit of it has changed, or it is another file): {way}.")


def _version(folder: str, name: str, start: int, stamp: Stamp) -> str:
    return f"{folder}\0{name}\0{start}\0{stamp}"


@lru_cache(maxsize=4096)
def _bucket(folder: str) -> str:
    return hashlib.blake2b(os.fsencode(folder), digest_size=1).hexdigest()


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _key(what: str) -> bytes:
    return hashlib.blake2b(os.fsencode(what), digest_size=_KEY).digest()
