"""The hash of what each image holds: read once, then known by the stamp of its file (engine.integrity)."""

import os

from engine.images.entry import ImageEntry
from engine.integrity import KnownHashes, known_hashes


class Contents:
    """Hashes of images by entry. Safe in threads."""

    def __init__(self, known: KnownHashes):
        self._known = known

    def get(self, entry: ImageEntry) -> str | None:
        """None where it is not known."""
        return self._known.get(_place(entry), _what(entry)) if entry.stamp is not None else None

    def add(self, entry: ImageEntry, sha256: str) -> None:
        """Know it from now on, in other processes after ``save``. Nothing is kept of what had no stamp."""
        if entry.stamp is not None:
            self._known.add(_place(entry), _what(entry), sha256)

    def save(self) -> None:
        self._known.save()


def contents() -> Contents:
    """Those of this user."""
    return Contents(known_hashes())


def _place(entry: ImageEntry) -> str:
    """Images of one folder or shard lie together."""
    return entry.file if entry.offset or entry.member else os.path.dirname(entry.file)


def _what(entry: ImageEntry) -> str:
    return f"{entry.file}\0{entry.member}\0{entry.offset}\0{entry.size}\0{entry.stamp}"
