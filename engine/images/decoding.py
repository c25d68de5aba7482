"""Bytes to an upright RGB image, or one reason why not."""

import re
import warnings
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from engine.config import Transparency
from engine.errors import passing, reason
from engine.images.kinds import FORMATS
from engine.images.shrinking import area_mean, fitting

MAX_PIXELS = 89_478_485  # Pillow's own threshold for a suspected decompression bomb: a quarter of a gibibyte of RGB
MAX_ASPECT = 200  # resizing the short side of a longer strip to a model's input would need gigabytes
MAX_READS = 500_000  # of a file by Pillow, which reads headers bit by bit; the largest PNG in 8 kB pieces takes 130,000
MAX_SCANNED = 32 * MAX_PIXELS  # pixels that all scans of a JPEG pass over: some 2 s; ten scans are usual
MAX_COMMENTS = 1_000  # Pillow copies a mebibyte for each of plain PPM
PAGE = (255, 255, 255)  # what shows through transparency, unless the colour below is uncovered

# What matters of Pillow's warnings we say ourselves (too many pixels) or do not need (odd metadata).
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


class BrokenImage(Exception):
    """An image that cannot be used: ``path`` names it, ``reason`` says why, the same on every run."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def decode(data: bytes, path: str = "image", transparency: Transparency = "white") -> Image.Image:
    """The image in ``data``: RGB, turned upright by its EXIF orientation, the first frame of several.

    Transparency is laid on white, or dropped; 16-bit samples keep their high byte; palettes, CMYK and grey become RGB.
    Raises BrokenImage for other formats than FORMATS, damaged or truncated data, more than MAX_PIXELS pixels and
    strips longer than MAX_ASPECT times their width. Refused where the machine is at fault, as when memory is full.
    """
    if not data:
        raise BrokenImage(path, "the file is empty")
    try:
        with _opened(data, path) as image:
            _check_size(image.size, path)
            _check_work(image, data, path)
            image.load()
            return to_rgb(_upright(image), transparency)
    except BrokenImage:
        raise
    except Image.DecompressionBombError:  # far too many pixels: Pillow refuses before their number can be asked
        raise BrokenImage(path, f"it has far more pixels than the {MAX_PIXELS:,} allowed") from None
    except Image.UnidentifiedImageError:
        raise BrokenImage(path, f"not an image of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise passing(error, path) or BrokenImage(path, _reason(error)) from error


def pixels(data: bytes) -> int:
    """How many pixels ``decode`` will make of ``data``, as its header says; 0 where it will refuse."""
    try:
        with _opened(data, "image") as image:
            return image.width * image.height
    except Exception:  # as in decode, which says why
        return 0


class _Limited(BytesIO):
    """What Pillow reads of a file, until it has read so often that no picture is worth it."""

    def __init__(self, data: bytes, path: str):
        super().__init__(data)
        self._path, self._left = path, MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise BrokenImage(self._path, "it is in far more pieces than any picture needs")
        return super().read(size)


def _opened(data: bytes, path: str) -> Image.Image:
    return Image.open(_Limited(data, path), formats=FORMATS)


def thumbnail(image: Image.Image, size: int) -> Image.Image:
    """A copy in RGB whose longer side is ``size`` pixels at most, proportions kept: ``area_mean``."""
    width, height = fitting(*image.size, size)
    if (width, height) == image.size:
        return image.copy()
    return Image.fromarray(area_mean(np.asarray(image.convert("RGB")), width, height))


def to_rgb(image: Image.Image, transparency: Transparency = "white") -> Image.Image:
    """Any Pillow mode as RGB, 16 bits as 8; transparency on white, or dropped, which uncovers the colour below."""
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255, which turns a 16-bit picture white.
        high_byte = np.asarray(image) >> 8
        np.clip(high_byte, 0, 255, out=high_byte)
        return Image.fromarray(high_byte.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("samples are floating point, which has no agreed range")
    if transparency == "white" and image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", layer.size, PAGE)
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    plain = image.convert("RGB")
    plain.info.pop("transparency", None)  # of a palette, or one colour: a processor would lay it on white after all
    return plain


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
        return (ImageOps.exif_transpose(image) if turned else None) or image  # unasked it would copy all pixels
    except Exception:  # damaged EXIF is no reason to lose an intact picture
        return image


def _check_size(size: tuple[int, int], path: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise BrokenImage(path, f"{width} x {height} pixels are more than the {MAX_PIXELS:,} allowed")
    if max(size) > MAX_ASPECT * min(size):
        raise BrokenImage(path, f"{width} x {height} pixels is too narrow a strip")


def _check_work(image: Image.Image, data: bytes, path: str) -> None:
    """Refuse what takes minutes though its size and its pixels are few."""
    if image.format in ("JPEG", "MPO") and image.width * image.height * data.count(b"\xff\xda") > MAX_SCANNED:
        raise BrokenImage(path, "it is stored in far more scans than any picture needs")
    if data[:2] in (b"P1", b"P2", b"P3") and data.count(b"#") > MAX_COMMENTS:
        raise BrokenImage(path, "it holds more comments than any picture needs")


_IN_WORDS = (
    (re.compile("truncated|end of file|broken data stream", re.IGNORECASE), "its data is damaged or ends too early"),
    (re.compile("MAX_TEXT|too large", re.IGNORECASE), "it holds more text or colour profile than any picture needs"),
)
"""What Pillow means by its sentences."""


def _reason(error: Exception) -> str:
    """The error in words, without addresses in memory, which would differ from run to run."""
    for known, words in _IN_WORDS:
        if known.search(str(error)):
            return words
    return reason(error)
