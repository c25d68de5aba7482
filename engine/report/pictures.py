"""The images of the report: each once, small, as text; and the maps of latents on them.

A page of thousands of latents must stay a few MB, so what pictures and maps take is limited.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from PIL import Image

from engine.errors import UserError
from engine.images.thumbnails import Thumbnails
from engine.reporter import Reporter

SIDE = 112  # pixels: sharp at the 96 of a tile, and at half of that on a phone
QUALITY = 72  # of WebP
LIMIT = 4_500_000  # characters that pictures may take
FORMAT = f"WebP, {SIDE} pixels at most, quality {QUALITY}"
GRID = 16  # rows and columns of a map, at most
LEVELS = "0123456789abcdef"
_TOGETHER = 64  # pictures that are read before it is asked whether to go on
_THREADS = 4


@dataclass
class Album:
    """Pictures by their path in the source."""

    source: str
    side: int = SIDE
    limit: int = LIMIT
    data: list[str] = field(default_factory=list)
    """Base64 of WebP."""
    paths: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    """Why, by path."""
    left_out: int = 0
    """For want of room."""

    def __post_init__(self) -> None:
        self._thumbnails = Thumbnails(self.source, self.side)
        self._place: dict[str, int] = {}

    def place(self, path: str) -> int | None:
        """Number of the picture ``path``; None where it is not here."""
        return self._place.get(path)

    def fill(self, paths: Sequence[str], reporter: Reporter) -> None:
        """Take in ``paths`` in this order, each once, until there is no room."""
        wanted, room = list(dict.fromkeys(paths)), self.limit
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(wanted), _TOGETHER):
                reporter.check()
                if room <= 0:
                    self.left_out = len(wanted) - start
                    break
                some = wanted[start : start + _TOGETHER]
                for path, found in zip(some, pool.map(self._read, some), strict=True):
                    room -= self._take(path, found)
                reporter.progress(min(start + _TOGETHER, len(wanted)), len(wanted), "pictures")

    def _read(self, path: str) -> str | UserError:
        try:
            return encoded(Image.fromarray(self._thumbnails.load(path)))
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{path} cannot be read ({error.strerror or error}): put it back.")

    def _take(self, path: str, found: str | UserError) -> int:
        if isinstance(found, UserError):
            self.unread[path] = str(found)
            return 0
        self._place[path] = len(self.data)
        self.data.append(found)
        self.paths.append(path)
        return len(found)


def encoded(image: Image.Image) -> str:
    """Base64 of a small WebP."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "WEBP", quality=QUALITY, method=4)
    return base64.b64encode(file.getvalue()).decode("ascii")


def reduced(map: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "r c"]:
    """Of a finer map the largest value in each of at most ``GRID`` x ``GRID`` fields; NaN is 0."""
    found = np.nan_to_num(np.asarray(map, np.float32))
    for axis in (0, 1):
        starts = np.linspace(0, found.shape[axis], min(found.shape[axis], GRID), endpoint=False).astype(int)
        found = np.maximum.reduceat(found, starts, axis=axis)
    return found


def levels(map: Float[np.ndarray, "r c"], maximum: float) -> str:
    """A map as one hexadecimal digit a patch, row by row: 0 where it does not fire, f at ``maximum``."""
    if not maximum > 0:
        return "0" * map.size
    steps = np.ceil(np.clip(map / maximum, 0, 1) * 15).astype(int)
    return "".join(LEVELS[step] for step in steps.ravel().tolist())


def heat_of(maps: Float[np.ndarray, "top rows columns"]) -> Iterator[tuple[str, int, float]]:
    """For each map its digits, the place of its strongest patch, and the value there; one scale for all of them."""
    small = [reduced(one) for one in maps]
    maximum = max((float(one.max()) for one in small), default=0.0)
    for one in small:
        yield levels(one, maximum), int(one.argmax()), float(one.max())
