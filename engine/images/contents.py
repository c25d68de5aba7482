"""The hash of what each image holds: read once, then known by the stamp of its file.

They are kept for all workspaces under ``$XDG_CACHE_HOME/saetui/contents``, where nothing is lost with them: 256 files
of records of 52 bytes: a key (of the file's path and stamp, and the place in it), a SHA-256, and the CRC-32 of both.
Records are only ever added, each lot in one write, so writers need no lock, and a torn one is passed over.
"""

import contextlib
import hashlib
import os
import zlib
from functools import lru_cache
from pathlib import Path

from engine.files import xdg
from engine.images.entry import ImageEntry

_KEY, _SUM, _RECORD = 16, 48, 52  # bytes: where the key ends, where the checksum begins, and the end


class Contents:
    """Hashes of images by entry. Safe in threads."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._known: dict[bytes, bytes] = {}
        self._read: set[str] = set()  # names of the files that were
        self._new: list[tuple[str, bytes]] = []

    def get(self, entry: ImageEntry) -> str | None:
        """None where it is not known."""
        if entry.stamp is None:
            return None
        self._load(_bucket(entry))
        found = self._known.get(_key(entry))
        return found.hex() if found else None

    def add(self, entry: ImageEntry, sha256: str) -> None:
        """Know it from now on, in other processes after ``save``. Nothing is kept of what had no stamp."""
        if entry.stamp is None or self.get(entry) == sha256:
            return
        key, digest = _key(entry), bytes.fromhex(sha256)
        self._known[key] = digest
        self._new.append((_bucket(entry), key + digest + _checksum(key + digest)))

    def save(self) -> None:
        """Where nothing can be written, hashes are known to this process alone."""
        new, self._new = self._new, []
        lots: dict[str, list[bytes]] = {}
        for bucket, record in new:
            lots.setdefault(bucket, []).append(record)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            for bucket, records in lots.items():
                with open(self.folder / bucket, "ab", buffering=0) as file:
                    torn = -file.tell() % _RECORD
                    file.write(bytes(torn) + b"".join(records))

    def _load(self, bucket: str) -> None:
        if bucket in self._read:
            return
        with contextlib.suppress(OSError):
            data = (self.folder / bucket).read_bytes()
            for at in range(0, len(data) - _RECORD + 1, _RECORD):
                if _checksum(data[at : at + _SUM]) == data[at + _SUM : at + _RECORD]:
                    self._known[data[at : at + _KEY]] = data[at + _KEY : at + _SUM]
        self._read.add(bucket)


@lru_cache(maxsize=1)
def _contents(folder: Path) -> Contents:
    return Contents(folder)


def contents() -> Contents:
    """Those of this user, one for the process."""
    return _contents(xdg("XDG_CACHE_HOME", ".cache") / "saetui" / "contents")


def _bucket(entry: ImageEntry) -> str:
    """Images of one folder or shard lie together, so that a small source need not read all that is known."""
    return _bucket_of(entry.file if entry.offset or entry.member else os.path.dirname(entry.file))


@lru_cache(maxsize=4096)
def _bucket_of(place: str) -> str:
    return hashlib.blake2b(os.fsencode(place), digest_size=1).hexdigest()


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _key(entry: ImageEntry) -> bytes:
    text = f"{entry.file}\0{entry.member}\0{entry.offset}\0{entry.size}\0{entry.stamp}"
    return hashlib.blake2b(os.fsencode(text), digest_size=_KEY).digest()
