"""Small copies of a source's images, kept in memory up to a limit; for screens that show many."""

import os
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from engine.errors import UserError
from engine.images import BrokenImage, Images, decode, open_images, thumbnail

SIDE = 160  # pixels: four a cell are enough for pictures of 80x40 cells
LIMIT = 48 << 20  # bytes: about 650 thumbnails of the full side
_WAY_OUT = "put it back, or score again on what is there."


class Thumbnails:
    """Thumbnails of the images of ``source`` (as for ``open_images``) by their paths in it. Safe in threads."""

    def __init__(self, source: str, side: int = SIDE, limit: int = LIMIT):
        self.source = source
        self.side = side
        self.limit = limit
        self._root = Path(source).expanduser()
        self._kept: OrderedDict[str, UInt8[ndarray, "height width 3"]] = OrderedDict()  # the latest used is last
        self._bytes = 0
        self._lock = threading.Lock()
        self._listing = threading.Lock()  # apart: get() never waits for a source to be listed
        self._places: tuple[Images, dict[str, int]] | None = None

    def get(self, path: str) -> UInt8[ndarray, "height width 3"] | None:
        """The thumbnail of ``path`` if it is in memory."""
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
            return self._kept.get(path)

    def load(self, path: str) -> UInt8[ndarray, "height width 3"]:
        """The thumbnail of ``path``, read if need be: for a thread. ``side`` pixels at most.

        Raises UserError for a path that is not in the source (any more) and for what is no image.
        """
        kept = self.get(path)
        if kept is not None:
            return kept
        pixels = np.asarray(thumbnail(self.image(path), self.side))
        self._keep(path, pixels)
        return pixels

    def image(self, path: str) -> Image.Image:
        """The image ``path`` in full: upright and RGB. Raises as ``load`` does."""
        try:
            return self._read(path)
        except BrokenImage as error:
            raise UserError(f"{path} cannot be read any more ({error.reason}): {_WAY_OUT}") from error

    def _read(self, path: str) -> Image.Image:
        file = self._file(path)
        if file is not None:
            try:
                return decode(file.read_bytes(), path)
            except OSError as error:
                raise BrokenImage(path, error.strerror or str(error)) from error
        images, places = self._listed()
        if path not in places:
            raise UserError(f"{path} is no longer in {self.source}: {_WAY_OUT}")
        return images.load(places[path])

    def _file(self, path: str) -> Path | None:
        """The file of ``path`` in a directory, without listing it: a source may have millions.

        Paths come from files that others may have written: none leads out of the directory by its name. (Links in
        it may: whoever made the directory placed them.)
        """
        inside = Path(path)
        if inside.is_absolute() or ".." in inside.parts or "\0" in path:
            return None
        file = self._root / inside
        return file if self._root.is_dir() and os.path.isfile(file) else None

    def _listed(self) -> tuple[Images, dict[str, int]]:
        """The source, listed once, and where each path is in it: for lists and shards, whatever they are called."""
        with self._listing:
            if self._places is None:
                images = open_images(self.source)
                self._places = images, {entry.path: index for index, entry in enumerate(images.entries)}
            return self._places

    def _keep(self, path: str, pixels: UInt8[ndarray, "height width 3"]) -> None:
        with self._lock:
            if path in self._kept:  # another thread was faster
                return
            self._kept[path] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self.limit and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes
