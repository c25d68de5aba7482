"""Small copies of a source's images, kept in memory up to a limit; for screens that show many."""

import threading
from collections import OrderedDict

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from engine.errors import UserError
from engine.images.by_path import ByPath
from engine.images.decoding import BrokenImage, thumbnail

SIDE = 160  # pixels: four a cell are enough for pictures of 80x40 cells
LIMIT = 48 << 20  # bytes: about 650 thumbnails of the full side
_WAY_OUT = "put it back, run saetui relink OLD NEW after a move, or score again on what is there."


class Thumbnails:
    """Thumbnails of the images of ``source`` (as for ``open_images``) by their paths in it. Safe in threads."""

    def __init__(self, source: str, side: int = SIDE, limit: int = LIMIT):
        self.source = source
        self.side = side
        self.limit = limit
        self._images = ByPath(source)
        self._kept: OrderedDict[str, UInt8[ndarray, "height width 3"]] = OrderedDict()  # the latest used is last
        self._bytes = 0
        self._lock = threading.Lock()  # of what is kept: get() never waits for a source to be listed

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
            found = self._images.load(path)
        except BrokenImage as error:
            raise UserError(f"{path} cannot be read any more ({error.reason}): {_WAY_OUT}") from error
        if found is None:
            raise UserError(f"{path} is no longer in {self.source}: {_WAY_OUT}")
        return found

    def _keep(self, path: str, pixels: UInt8[ndarray, "height width 3"]) -> None:
        with self._lock:
            if path in self._kept:  # another thread was faster
                return
            self._kept[path] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self.limit and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes
