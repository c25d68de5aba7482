"""One image by what a user calls it: a file, one of an image source, or a plain colour. Costs no torch."""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageColor

from engine.config import Transparency
from engine.errors import UserError, reason
from engine.files import path_of, read_bytes
from engine.images.by_path import ByPath
from engine.images.decoding import BrokenImage, decode, thumbnail
from engine.images.entry import LARGEST
from engine.images.sources import open_images
from engine.places import IN


def open_image(spec: str, transparency: Transparency = "white") -> Image.Image | tuple[int, ...]:
    """The image that ``spec`` means, or for ``blank`` and ``blank:COLOUR`` the RGB colour of a plain one.

    Else a file, or ``SOURCE::PATH``: the image listed as PATH in the image source SOURCE (a directory, a list, .tar
    shards). ``transparency``: what shows through it. Raises UserError when there is none or it cannot be decoded.
    """
    if is_plain(spec):
        colour = spec.partition(":")[2] or "white"
        try:
            return ImageColor.getrgb(colour)[:3]
        except ValueError as error:
            raise UserError(f"There is no colour {colour!r}: write blank:red or blank:#ff8000.") from error
    path = path_of(spec)
    if IN in spec and not path.exists():
        source, _, inside = spec.partition(IN)
        return _in_source(source, inside, transparency)
    return read_picture(path, transparency)


def is_plain(spec: str) -> bool:
    """Whether ``spec`` means an image of one colour."""
    return spec == "blank" or spec.startswith("blank:")


def check_there(spec: str) -> None:
    """UserError where ``spec`` can be no image: no file, no colour. Looks neither into a file nor a source."""
    if is_plain(spec):
        open_image(spec)
    elif not path_of(spec).is_file() and IN not in spec:
        raise UserError(f"There is no image {spec}: give a file, blank, or blank:COLOUR.")


def _in_source(source: str, path: str, transparency: Transparency) -> Image.Image:
    try:
        found = _source(source, transparency).load(path)
        if found is None:
            _source.cache_clear()  # it may have grown since it was listed
            found = _source(source, transparency).load(path)
    except BrokenImage as error:
        raise _broken(f"{source}{IN}{path}", error) from error
    if found is None:
        raise UserError(f"There is no image {path} in {source}: give one that it lists.")
    return found


_source = functools.lru_cache(maxsize=4)(ByPath)


SIDE = 256  # pixels of a picture that is shown: more than there are cells for


def listing(source: str) -> list[str]:
    """Every image of ``source``, as ``open_image`` takes them. UserError when there is none."""
    return [f"{source}{IN}{entry.path}" for entry in open_images(source).entries]


def picture(image: str, side: int = SIDE) -> tuple[UInt8[ndarray, "height width 3"], str]:
    """A copy of ``image`` (as for ``open_image``) of ``side`` pixels at most, and its name and size in words.

    UserError as there.
    """
    opened = open_image(image)
    if isinstance(opened, Image.Image):
        name = image.rpartition(IN)[2] if IN in image else Path(image).name
        return np.asarray(thumbnail(opened, side)), f"{name}  {opened.width} x {opened.height}"
    colour = np.array(opened, np.uint8)
    return np.broadcast_to(colour, (side, side, 3)), image.replace(":", " ")


def read_picture(path: Path, transparency: Transparency = "white") -> Image.Image:
    """The image file ``path``. Raises UserError when it cannot be read or is no image."""
    try:
        return decode(read_bytes(path, LARGEST), transparency=transparency)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no image {path}: give another file, or after a move run saetui relink OLD NEW."
        ) from error
    except OSError as error:
        raise UserError(f"Cannot read the image {path} ({reason(error)}): give another file.") from error
    except BrokenImage as error:
        raise _broken(str(path), error) from error


def _broken(spec: str, error: BrokenImage) -> UserError:
    return UserError(f"{spec} is not an image that can be read ({error.reason}): give another file.")
