"""Bytes to an upright RGB image, or one reason why not."""

import re
import warnings
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from engine.config import Transparency
from engine.errors import passing, reason
from engine.images.kinds import FORMATS

MAX_PIXELS = 89_478_485  # Pillow's own threshold for a suspected decompression bomb: a quarter of a gibibyte of RGB
MAX_ASPECT = 200  # resizing the short side of a longer strip to a model's input would need gigabytes
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
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, path)
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
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # as in decode, which says why
        return 0


def thumbnail(image: Image.Image, size: int) -> Image.Image:
    """A copy whose longer side is ``size`` pixels at most, proportions kept."""
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    return small


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
