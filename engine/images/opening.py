"""One image by what a user calls it: a file, one of an image source, or a plain colour. Costs no torch."""

import functools
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageColor

from engine.errors import UserError
from engine.images import thumbnail
from engine.images.decoding import BrokenImage, decode
from engine.images.sources import Images, open_images

IN = "::"  # between an image source and the path of one of its images


def open_image(spec: str) -> Image.Image | tuple[int, ...]:
    """The image that ``spec`` means, or for ``blank`` and ``blank:COLOUR`` the RGB colour of a plain one.

    Else a file, or ``SOURCE::PATH``: the image listed as PATH in the image source SOURCE (a directory, a list, .tar
    shards). Raises UserError when there is none or it cannot be decoded.
    """
    if is_plain(spec):
        colour = spec.partition(":")[2] or "white"
        try:
            return ImageColor.getrgb(colour)[:3]
        except ValueError as error:
            raise UserError(f"There is no colour {colour!r}: write blank:red or blank:#ff8000.") from error
    path = Path(spec).expanduser()
    try:
        if IN in spec and not path.exists():
            return _in_source(*spec.split(IN, 1))
        return decode(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"Cannot read the image {spec} ({error.strerror}): give a file, blank, or blank:COLOUR."
        ) from error
    except BrokenImage as error:
        raise UserError(f"{spec} is not an image that can be read ({error.reason}): give another file.") from error


def is_plain(spec: str) -> bool:
    """Whether ``spec`` means an image of one colour."""
    return spec == "blank" or spec.startswith("blank:")


def _in_source(source: str, path: str) -> Image.Image:
    file = Path(source).expanduser() / path
    if file.is_file():  # a directory tree need not be listed
        return decode(file.read_bytes())
    images, places = _listing(source)
    if path not in places:
        _listing.cache_clear()  # it may have grown since it was listed
        images, places = _listing(source)
    if path not in places:
        raise UserError(f"There is no image {path} in {source}: give one that it lists.")
    return images.load(places[path])


@functools.lru_cache(maxsize=4)
def _listing(source: str) -> tuple[Images, dict[str, int]]:
    """The images of ``source``, and where in the list each path is."""
    images = open_images(source)
    return images, {entry.path: place for place, entry in enumerate(images.entries)}


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


def placed(source: str, root: Path) -> str:
    """A source as it was written down, which may be from within the workspace ``root``, from anywhere."""
    inside = root / Path(source).expanduser()
    return str(inside if inside.exists() else Path(source).expanduser().absolute())


def read_picture(path: Path) -> Image.Image:
    """The image file ``path``. Raises UserError when it cannot be read or is no image."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): give another file.") from error
    except BrokenImage as error:
        raise UserError(f"{path} is not an image that can be read ({error.reason}): give another file.") from error
