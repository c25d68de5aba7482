"""What a picture of 24x12 cells costs, by hand: ``python -m tests.benchmarks.bench_pictures [IMAGES]``.

Shares travel, microseconds do not. The limit is numpy alone: the same pixels, resized and split, without strips.
The naive way, a style for every cell as simple libraries make it, is 1.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy import ndarray
from PIL import Image
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engine.images.shrinking import area_mean
from saetui.terminal import cells
from saetui.terminal.cells import Look, draw

COLUMNS, ROWS = 24, 12
ROUNDS = 5


def photographs(count: int) -> list[ndarray]:
    """Smooth noise: as many colours as a photograph has, none twice."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(image).resize((160, 160), Image.Resampling.BICUBIC)) for image in small]


def drawings(folder: Path, count: int) -> list[ndarray]:
    """The first images of a folder."""
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.rglob("*.png"))[:count]]


def naive(image: ndarray) -> list[Strip]:
    pixels = area_mean(image, COLUMNS, 2 * ROWS).tolist()
    return [
        Strip(
            [
                Segment("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
                for above, below in zip(pixels[2 * y], pixels[2 * y + 1], strict=True)
            ]
        )
        for y in range(ROWS)
    ]


def bare(image: ndarray) -> ndarray:
    pixels = area_mean(image, COLUMNS, 2 * ROWS)
    return (pixels[0::2] @ np.array([1 << 16, 1 << 8, 1]) << 24) + pixels[1::2] @ np.array([1 << 16, 1 << 8, 1])


def microseconds(work: Callable[[ndarray], object], images: list[ndarray], *, cold: bool) -> float:
    """Per image, the best of some rounds; ``cold``: without styles kept from the round before."""
    best = float("inf")
    for _ in range(ROUNDS):
        if cold:
            forget()
        began = time.perf_counter()
        for image in images:
            work(image)
        best = min(best, time.perf_counter() - began)
    return 1e6 * best / len(images)


def forget() -> None:
    cells._truecolor.cache_clear()
    cells._xterm.cache_clear()


def kibibytes(work: Callable[[ndarray], object], images: list[ndarray]) -> float:
    """That the strips of one image hold, their styles included."""
    forget()
    tracemalloc.start()
    held = [work(image) for image in images]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(held) / 1024


def main(folder: Path | None) -> None:
    ways: dict[str, Callable[[ndarray], object]] = {
        "numpy alone": bare,
        "half": lambda image: draw(image, COLUMNS, ROWS, Look("half")),
        "quadrant": lambda image: draw(image, COLUMNS, ROWS, Look("quadrant")),
        "quadrant 256": lambda image: draw(image, COLUMNS, ROWS, Look("quadrant", "256")),
        "glyphs": lambda image: draw(image, COLUMNS, ROWS, Look("glyph")),
        "quadrant+heat": lambda image: draw(image, COLUMNS, ROWS, Look("quadrant"), np.eye(7), 1.0),
        "naive": naive,
    }
    sources = {"photographs": photographs(40)} | ({"drawings": drawings(folder, 40)} if folder else {})
    for name, images in sources.items():
        unit = microseconds(naive, images, cold=True)
        print(f"{name}: {len(images)} pictures of {COLUMNS}x{ROWS} cells\n{'':16}new us  share   again us  KiB")
        for way, work in ways.items():
            new, again = (microseconds(work, images, cold=cold) for cold in (True, False))
            print(f"{way:<14}{new:>8.0f}  {new / unit:>5.2f}  {again:>9.0f}  {kibibytes(work, images):>4.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
