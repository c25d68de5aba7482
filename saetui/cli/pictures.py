"""Pictures printed by commands, through term-image: kitty, iTerm2 or half blocks, whatever the terminal has."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from engine.errors import UserError
from engine.images import BrokenImage, decode, open_images

TILE = 64  # pixels: the side of one picture of a strip
GAP = 4


def print_picture(path: Path) -> None:
    """Print the image file ``path`` at the cursor, as large as the terminal allows."""
    try:
        image = decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): give another file.") from error
    except BrokenImage as error:
        raise UserError(f"{path} is not an image that can be read ({error.reason}): give another file.") from error
    _print(image, None)


def print_strip(source: str, paths: Sequence[str]) -> int:
    """Print images of ``source`` (as for ``open_images``), named by their paths in it, side by side.

    Returns the columns that each takes.
    """
    images = open_images(source)
    place = {entry.path: index for index, entry in enumerate(images.entries)}
    strip = Image.new("RGB", ((TILE + GAP) * len(paths), TILE))
    for column, path in enumerate(paths):
        if path not in place:
            raise UserError(f"{path} is no longer in {source}: put it back, or score again on what is there.")
        tile = images.load(place[path])
        tile.thumbnail((TILE, TILE))
        strip.paste(tile, (column * (TILE + GAP), 0))
    cell = max(min(shutil.get_terminal_size().columns // len(paths), 10), 1)
    _print(strip, cell * len(paths))
    return cell


def _print(image: Image.Image, columns: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no terminal, when the output is piped
        from term_image.image import AutoImage

        print(AutoImage(image, width=columns))
