"""Pictures printed by commands, by whatever protocol or colours the terminal has."""

import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from engine.images.decoding import thumbnail
from engine.images.opening import read_picture
from engine.images.thumbnails import Thumbnails
from saetui.terminal.cells import fitted
from saetui.terminal.drawing import Drawing
from saetui.terminal.full import rendered
from saetui.terminal.probe import Terminal, choose, probe

TILE = 64  # pixels: the side of one picture of a strip
GAP = 4
CELLS = 10  # columns of one picture of a strip, gap included


def print_picture(path: Path) -> None:
    """Print the image file ``path`` at the cursor, as large as the terminal allows."""
    columns, rows = shutil.get_terminal_size()
    _print(read_picture(path), columns, max(rows - 2, 1))  # the command above it and the prompt below stay in sight


def print_strip(thumbnails: Thumbnails, paths: Sequence[str]) -> int:
    """Print images, named by their paths in the source of ``thumbnails``, side by side.

    Returns the columns that each takes.
    """
    strip = Image.new("RGB", ((TILE + GAP) * len(paths), TILE))
    for column, path in enumerate(paths):
        tile = thumbnail(Image.fromarray(thumbnails.load(path)), TILE)
        strip.paste(tile, (column * (TILE + GAP), 0))
    cell = max(min(shutil.get_terminal_size().columns // len(paths), CELLS), 1)
    _print(strip, cell * len(paths), cell)
    return cell


def _print(image: Image.Image, columns: int, rows: int) -> None:
    terminal = _terminal()
    wide, high = fitted(image.width, image.height, columns, rows, terminal.cell_ratio)
    print(rendered(image, terminal, wide, high, ascii=not _shows_blocks(sys.stdout.encoding)), file=Drawing(sys.stdout))


def _shows_blocks(encoding: str) -> bool:
    try:
        "▀▄█▚".encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@cache
def _terminal() -> Terminal:
    """None that colours or draws where the output goes into a file or another program, unless that is forced."""
    found = probe()
    drawn = sys.stdout.isatty() or os.environ.get("FORCE_COLOR")
    return found if drawn else choose(found, "mono")
