"""Where the objects in images are, as masks or a table of boxes say. Costs no torch.

What is said is about images as they are looked at: turned upright.
"""

from __future__ import annotations

import csv
import io
import math
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw

from engine.errors import UserError, reason
from engine.files import path_of
from engine.images.decoding import BrokenImage
from engine.images.lists import read_text
from engine.images.sources import Images, check_images, open_images
from engine.integrity import content_sha256

BOX = ("path", "left", "top", "width", "height")
"""Columns of a table of boxes, in pixels; a column ``name`` may say what an object is."""
OBJECT = "object"
"""What an object is that has no name."""
VOID = 255
"""In a mask that has other values, too: pixels of which nobody says what they are, as Pascal VOC has it."""


class Objects(ABC):
    """Objects by the names of the images that they are in."""

    spec: str
    sha256: str

    @abstractmethod
    def of(self, path: str, size: tuple[int, int]) -> dict[str, Image.Image] | None:
        """By kind of object, where it is in the image ``path`` of (width, height) ``size``: white, on black.

        None where nothing is known of the image. UserError for a mask of other proportions than its image.
        """


def open_objects(spec: str) -> Objects:
    """A ``.csv`` of boxes; else a folder (or an archive) of masks. UserError for what is neither."""
    return Boxes(spec) if spec.lower().endswith(".csv") else Masks(spec)


def check_objects(spec: str) -> None:
    """UserError for what ``open_objects`` refuses, without reading masks."""
    if spec.lower().endswith(".csv"):
        Boxes(spec)
    else:
        check_images(spec)


class Masks(Objects):
    """Pictures under the names of the images, whatever their suffix. 0 is no object, each other value a kind of one."""

    def __init__(self, spec: str):
        self.spec = spec
        self._masks: Images = open_images(spec)
        self._numbers = {_stem(entry.path): number for number, entry in enumerate(self._masks.entries)}
        self.sha256 = self._masks.sha256

    def of(self, path: str, size: tuple[int, int]) -> dict[str, Image.Image] | None:
        number = self._numbers.get(_stem(path))
        if number is None:
            return None
        values = self._values(number)
        rows, columns = values.shape
        if abs(columns * size[1] - rows * size[0]) > max(columns, rows, *size):  # off by more than a rounded side
            raise UserError(
                f"The mask of {path} is {columns} x {rows}, its image {size[0]} x {size[1]}: give masks of the same "
                "proportions."
            )
        kinds = [int(value) for value in np.unique(values) if value]
        kinds = [kind for kind in kinds if kind != VOID] or kinds
        return {str(kind): Image.fromarray(np.uint8(255) * (values == kind)) for kind in kinds}

    def _values(self, number: int) -> np.ndarray:
        name = self._masks.entries[number].path
        try:
            with Image.open(io.BytesIO(self._masks.read_bytes(number))) as image:
                image.load()
                if image.mode not in ("1", "L", "P"):
                    raise UserError(
                        f"The mask {name} has colours or more than 256 values ({image.mode}): give one of 8 bits, or "
                        "with a palette."
                    )
                return np.asarray(image).astype(np.uint8)
        except (BrokenImage, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"The mask {name} cannot be read ({reason(error)}): make it again.") from error


class Boxes(Objects):
    """Rows of a table. Of an image without a row nothing is known."""

    def __init__(self, spec: str):
        self.spec, path = spec, path_of(spec)
        self._boxes: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
        rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
        if missing := [name for name in BOX if name not in (rows.fieldnames or ())]:
            raise UserError(f"{spec} has no column {missing[0]}: a table of boxes has {', '.join(BOX)}.")
        try:
            for row in rows:
                box = tuple(float(row[name] or "") for name in BOX[1:])
                if not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
                    raise ValueError
                self._boxes.setdefault(_stem(row["path"]), []).append((row.get("name") or OBJECT, box))
        except (csv.Error, ValueError, TypeError) as error:
            raise UserError(
                f"Line {rows.line_num} of {spec} is no box: give a path and left, top, width and height in pixels."
            ) from error
        self.sha256 = content_sha256(Path(path))

    def of(self, path: str, size: tuple[int, int]) -> dict[str, Image.Image] | None:
        boxes = self._boxes.get(_stem(path))
        if boxes is None:
            return None
        masks: dict[str, Image.Image] = {}
        for name, (left, top, width, height) in boxes:
            mask = masks.setdefault(name, Image.new("L", size))
            right, bottom = left + width, top + height
            if right > 0 and bottom > 0:  # Pillow counts the last pixel in
                ImageDraw.Draw(mask).rectangle((left, top, math.ceil(right) - 1, math.ceil(bottom) - 1), fill=255)
        return masks


def _stem(path: str) -> str:
    """The name by which an image and its mask find each other."""
    return str(PurePosixPath(path).with_suffix(""))
