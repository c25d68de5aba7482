"""The images of one source, each by its path in it."""

import os
import threading
from pathlib import Path

from PIL import Image

from engine.config import Transparency
from engine.errors import passing
from engine.files import path_of, read_bytes
from engine.images.decoding import BrokenImage, decode
from engine.images.entry import LARGEST
from engine.images.sources import Images, open_images


class ByPath:
    """A source (as for ``open_images``), listed when that is needed and then once. Safe in threads."""

    def __init__(self, source: str, transparency: Transparency = "white"):
        self.source = source
        self.transparency = transparency
        self._root = path_of(source)
        self._listing = threading.Lock()
        self._places: tuple[Images, dict[str, int]] | None = None

    def load(self, path: str) -> Image.Image | None:
        """The image ``path``, upright and RGB; None when the source has none. Raises BrokenImage.

        UserError when there is no such source.
        """
        file = self._file(path)
        if file is not None:
            try:
                return decode(read_bytes(file, LARGEST), path, self.transparency)
            except OSError as error:
                raise passing(error, file) or BrokenImage(path, error.strerror or str(error)) from error
        images, places = self._listed()
        return images.load(places[path]) if path in places else None

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
        """For lists and shards, whatever their images are called: all, and where in the list each path is."""
        with self._listing:
            if self._places is None:
                images = open_images(self.source, 0, self.transparency)
                self._places = images, {entry.path: index for index, entry in enumerate(images.entries)}
            return self._places
