"""Pictures printed by commands, through term-image: kitty, iTerm2 or half blocks, whatever the terminal has."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from saetui.thumbnails import Thumbnails, read_picture

TILE = 64  # pixels: the side of one picture of a strip
GAP = 4


def print_picture(path: Path) -> None:
    """Print the image file ``path`` at the cursor, as large as the terminal allows."""
    _print(read_picture(path), None)


def print_strip(thumbnails: Thumbnails, paths: Sequence[str]) -> int:
    """Print images, named by their paths in the source of ``thumbnails``, side by side.

    Returns the columns that each takes.
    """
    strip = Image.new("RGB", ((TILE + GAP) * len(paths), TILE))
    for column, path in enumerate(paths):
        strip.paste(Image.fromarray(thumbnails.load(path)), (column * (TILE + GAP), 0))
    cell = max(min(shutil.get_terminal_size().columns // len(paths), 10), 1)
    _print(strip, cell * len(paths))
    return cell


def _print(image: Image.Image, columns: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no terminal, when the output is piped
        from term_image.image import AutoImage

        print(AutoImage(image, width=columns))
