"""Pictures printed by commands, by whatever protocol or colours the terminal has."""

import os
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageStat

from engine.images.decoding import thumbnail
from engine.images.opening import read_picture
from engine.images.thumbnails import Thumbnails
from saetui.terminal.cells import fitted
from saetui.terminal.drawing import Drawing
from saetui.terminal.full import rendered
from saetui.terminal.heat import Part
from saetui.terminal.probe import Terminal, choose, probe

TILE = 64  # pixels: the side of one picture of a strip
GAP = 4
LINE = 3  # around a part of a picture
CELLS = 10  # columns of one picture of a strip, gap included


def print_picture(path: Path) -> None:
    """Print the image file ``path`` at the cursor, as large as the terminal allows."""
    columns, rows = shutil.get_terminal_size()
    _print(read_picture(path), columns, max(rows - 2, 1))  # the command above it and the prompt below stay in sight


def print_strip(thumbnails: Thumbnails, paths: Sequence[str], frames: Sequence[Part | None] = ()) -> int:
    """Print images, named by their paths in the source of ``thumbnails``, side by side; ``frames``: a part of each
    that is outlined, if any.

    Returns the columns that each takes.
    """
    strip = Image.new("RGB", ((TILE + GAP) * len(paths), TILE))
    for column, path in enumerate(paths):
        tile = thumbnail(Image.fromarray(thumbnails.load(path)), TILE)
        if frames and (frame := frames[column]):
            _outline(tile, frame)
        strip.paste(tile, (column * (TILE + GAP), 0))
    cell = max(min(shutil.get_terminal_size().columns // len(paths), CELLS), 1)
    _print(strip, cell * len(paths), cell)
    return cell


def _outline(tile: Image.Image, frame: Part) -> None:
    """Draw a line around a part of ``tile``, far from it in brightness, and thick enough for half blocks."""
    left, top, right, bottom = (share * side for share, side in zip(frame, tile.size * 2, strict=True))
    dark = ImageStat.Stat(tile.crop((int(left), int(top), int(right), int(bottom))).convert("L")).mean[0] < 128
    corners = (left - LINE, top - LINE, right + LINE - 1, bottom + LINE - 1)
    ImageDraw.Draw(tile).rectangle(corners, outline="white" if dark else "black", width=LINE)


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
