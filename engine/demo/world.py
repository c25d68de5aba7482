"""The drawn world: small pictures of coloured objects, with statements and labels that are exact by construction.

A scene is data (what, where, how large, in which colour); ``draw`` makes a 64 x 64 picture of it. A scene depends only
on (seed, index), so any picture can be drawn again on its own. Needs Pillow but no torch.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw

from engine.demo.talk import CAPTION, Mention, Statement
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, KINDS, TAXONOMY
from engine.files import atomic_path, write_text
from engine.reporter import Reporter

SIDE = 64
"""Width and height of a picture in pixels."""

SHADE = 10
"""Backgrounds are lighter or darker by up to this much, so that blank pictures differ."""

BLANK_SHARE, TWO_SHARE = 0.08, 0.12
"""Shares of empty pictures and of pictures with two objects; all others show one."""


@dataclass(frozen=True)
class Thing:
    """An object in a square box of ``size`` pixels with its top left corner at (x, y)."""

    kind: str
    colour: str
    fill: str
    x: int
    y: int
    size: int
    phase: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Scene:
    """A picture as data. Of two objects, the left one comes first."""

    objects: tuple[Thing, ...]
    background: str
    shade: int = 0

    def statement(self) -> Statement:
        """All that can be said of the picture."""
        return Statement(tuple(Mention(one.kind, one.colour, one.fill) for one in self.objects), self.background)

    def taxon(self) -> tuple[str, str, str]:
        """The taxonomy path of the first object; blank pictures have paths of their own."""
        if not self.objects:
            return ("nothing", "blank", self.background)
        return TAXONOMY[self.objects[0].kind, self.objects[0].fill]


UNSEEN = 10_000
"""The shipped models were trained on worlds with smaller seeds only."""


def read_scene(data: Mapping[str, Any]) -> Scene:
    """The scene of a line of ``labels.jsonl``."""
    things = (Thing(**{**thing, "phase": tuple(thing["phase"])}) for thing in data["objects"])
    return Scene(tuple(things), data["background"], data["shade"])


# -- scenes from a seed ------------------------------------------------------------------------------------------


def scene(seed: int, index: int, blank_share: float = BLANK_SHARE, two_share: float = TWO_SHARE) -> Scene:
    """Scene number ``index`` of the world ``seed``."""
    rng = random.Random(f"{seed}/{index}")
    background = rng.choice(tuple(BACKGROUNDS))
    shade = rng.randint(-SHADE, SHADE)
    lot = rng.random()
    if lot < blank_share:
        return Scene((), background, shade)
    if lot < blank_share + two_share:
        left, right = rng.sample(KINDS, 2)
        half = SIDE // 2
        return Scene((_thing(rng, left, 26, 32, 0, half), _thing(rng, right, 26, 32, half, SIDE)), background, shade)
    return Scene((_thing(rng, rng.choice(KINDS), 34, 58, 0, SIDE),), background, shade)


def _thing(rng: random.Random, kind: str, smallest: int, largest: int, left: int, right: int) -> Thing:
    """An object of random colour, fill, size and position, between the columns ``left`` and ``right``."""
    size = rng.randint(smallest, largest)
    return Thing(
        kind,
        rng.choice(tuple(COLOURS)),
        rng.choice(FILLS),
        x=rng.randint(left, right - size),
        y=rng.randint(0, SIDE - size),
        size=size,
        phase=(rng.randrange(PERIOD), rng.randrange(PERIOD)),
    )


def scenes(n: int, seed: int = 0, start: int = 0) -> Iterator[Scene]:
    """``n`` scenes of the world ``seed``, from number ``start`` on."""
    return (scene(seed, index) for index in range(start, start + n))


def blank(background: str = "white", shade: int = 0) -> Image.Image:
    """An empty picture."""
    return draw(Scene((), background, shade))


# -- drawing -----------------------------------------------------------------------------------------------------

FINE = 4
"""Masks are drawn this many times larger and then reduced, for smooth edges."""
PERIOD = 7
"""Pixels from one stripe, or dot, to the next."""
TINT = 0.68
"""Stripes and dots mix this share of white into the colour, so that silhouettes show on any background."""
INK = 0.3
"""Inner lines (eyes, doors, hands of a clock) have the colour at this brightness."""


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene, 64 x 64 RGB."""
    ground = tuple(min(255, max(0, channel + scene.shade)) for channel in BACKGROUNDS[scene.background])
    image = Image.new("RGB", (SIDE, SIDE), ground)
    for thing in scene.objects:
        _paint(image, thing)
    return image


def draw_mask(scene: Scene) -> Image.Image:
    """Where the objects of a scene are: the number of their kind, from 1, in its silhouette; 0 elsewhere."""
    mask = Image.new("L", (SIDE, SIDE))
    for thing in scene.objects:
        inside = _masks(thing.kind, thing.size)[0].point(lambda value: 255 * (value >= 128))
        mask.paste(KINDS.index(thing.kind) + 1, (thing.x, thing.y), inside)
    return mask


def covers(scene: Scene, patches: int) -> list[list[float]]:
    """For each object, the share of each patch that its silhouette covers, row by row of ``patches`` x ``patches``."""
    return [_cover(thing, patches) for thing in scene.objects]


def _cover(thing: Thing, patches: int) -> list[float]:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(_masks(thing.kind, thing.size)[0], (thing.x, thing.y))
    return [value / 255 for value in mask.reduce(SIDE // patches).tobytes()]


def _paint(image: Image.Image, thing: Thing) -> None:
    body, ink = _masks(thing.kind, thing.size)
    colour, at = COLOURS[thing.colour], (thing.x, thing.y)
    image.paste(colour, at, body)
    if thing.fill != "solid":
        left, top = thing.phase
        pattern = _pattern(thing.fill).crop((left, top, left + thing.size, top + thing.size))
        tint = tuple(round(channel + TINT * (255 - channel)) for channel in colour)
        image.paste(tint, at, ImageChops.multiply(body, pattern))
    image.paste(tuple(round(INK * channel) for channel in colour), at, ink)


@cache
def _masks(kind: str, size: int) -> tuple[Image.Image, Image.Image]:
    """The masks of body and inner lines of a kind, 8 bits, ``size`` x ``size``."""
    pen = Pen(size * FINE)
    DRAWINGS[kind](pen)
    return pen.body.reduce(FINE), ImageChops.multiply(pen.ink, pen.body).reduce(FINE)


@cache
def _pattern(fill: str) -> Image.Image:
    """The mask of the tint: diagonal stripes or a grid of dots, larger than any object and its phase."""
    side = SIDE + PERIOD
    fine = Image.new("L", (side * FINE, side * FINE))
    pen = ImageDraw.Draw(fine)
    step = PERIOD * FINE
    if fill == "striped":
        diagonal = round(step * math.sqrt(2))
        for start in range(-side * FINE, side * FINE, diagonal):
            end = start + side * FINE
            pen.line((start, 0, end, side * FINE), fill=255, width=step // 2)
    else:
        radius = step * 0.32
        for row, y in enumerate(range(0, side * FINE + step, step)):
            for x in range(-step, side * FINE + step, step):
                shift = x + (row % 2) * step / 2
                pen.ellipse((shift - radius, y - radius, shift + radius, y + radius), fill=255)
    return fine.reduce(FINE)


class Pen:
    """Draws in unit coordinates (0 .. 1, y downwards) on a mask of the body and a mask of the inner lines.

    ``on``: "body" adds to the silhouette, "hole" cuts it, "ink" adds inner lines.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self.body, self.ink = Image.new("L", (side, side)), Image.new("L", (side, side))
        self._draw = {"body": ImageDraw.Draw(self.body), "ink": ImageDraw.Draw(self.ink)}
        self._draw["hole"] = self._draw["body"]

    def _put(self, shape: str, points: list[float], on: str, **options: Any) -> None:
        scaled = [point * (self.side - 1) for point in points]
        getattr(self._draw[on], shape)(scaled, fill=0 if on == "hole" else 255, **options)

    def oval(self, left: float, top: float, right: float, bottom: float, on: str = "body") -> None:
        self._put("ellipse", [left, top, right, bottom], on)

    def disc(self, x: float, y: float, radius: float, on: str = "body") -> None:
        self.oval(x - radius, y - radius, x + radius, y + radius, on)

    def box(self, left: float, top: float, right: float, bottom: float, on: str = "body") -> None:
        self._put("rectangle", [left, top, right, bottom], on)

    def shape(self, *points: tuple[float, float], on: str = "body") -> None:
        self._put("polygon", [value for point in points for value in point], on)

    def line(self, *points: tuple[float, float], width: float = 0.05, on: str = "body") -> None:
        flat = [value for point in points for value in point]
        self._put("line", flat, on, width=max(1, round(width * self.side)), joint="curve")

    def half(self, left: float, top: float, right: float, bottom: float, on: str = "body") -> None:
        """The upper half of an oval."""
        scaled = [value * (self.side - 1) for value in (left, top, right, bottom)]
        self._draw[on].pieslice(scaled, 180, 360, fill=0 if on == "hole" else 255)


def _ring(x: float, y: float, radius: float, n: int, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * i / n for i in range(n)]
    return [(x + radius * math.sin(a), y - radius * math.cos(a)) for a in angles]


def _fish(pen: Pen) -> None:
    pen.shape((0.62, 0.5), (1.0, 0.16), (0.9, 0.5), (1.0, 0.84))
    pen.shape((0.3, 0.3), (0.5, 0.04), (0.62, 0.34))
    pen.shape((0.34, 0.72), (0.5, 0.94), (0.58, 0.68))
    pen.oval(0.0, 0.2, 0.78, 0.8)
    pen.disc(0.18, 0.42, 0.06, on="ink")
    pen.line((0.34, 0.3), (0.38, 0.5), (0.34, 0.7), width=0.04, on="ink")


def _cat(pen: Pen) -> None:
    pen.shape((0.06, 0.02), (0.5, 0.3), (0.08, 0.62))
    pen.shape((0.94, 0.02), (0.5, 0.3), (0.92, 0.62))
    pen.oval(0.03, 0.2, 0.97, 0.98)
    pen.oval(0.22, 0.42, 0.36, 0.6, on="ink")
    pen.oval(0.64, 0.42, 0.78, 0.6, on="ink")
    pen.shape((0.43, 0.64), (0.57, 0.64), (0.5, 0.73), on="ink")
    pen.line((0.34, 0.8), (0.5, 0.74), (0.66, 0.8), width=0.04, on="ink")


def _bird(pen: Pen) -> None:
    pen.shape((0.1, 0.24), (0.0, 0.32), (0.14, 0.38))
    pen.disc(0.24, 0.27, 0.17)
    pen.shape((0.12, 0.36), (0.36, 0.2), (1.0, 0.4), (0.98, 0.56), (0.62, 0.74), (0.34, 0.8), (0.12, 0.62))
    pen.oval(0.1, 0.3, 0.7, 0.82)
    pen.line((0.34, 0.76), (0.34, 1.0), width=0.06)
    pen.line((0.5, 0.76), (0.5, 1.0), width=0.06)
    pen.disc(0.2, 0.24, 0.045, on="ink")
    pen.line((0.3, 0.46), (0.44, 0.62), (0.72, 0.5), width=0.05, on="ink")


def _butterfly(pen: Pen) -> None:
    pen.oval(0.0, 0.08, 0.47, 0.56)
    pen.oval(0.53, 0.08, 1.0, 0.56)
    pen.oval(0.1, 0.48, 0.48, 0.96)
    pen.oval(0.52, 0.48, 0.9, 0.96)
    pen.box(0.44, 0.16, 0.56, 0.9)
    pen.line((0.5, 0.2), (0.36, 0.0), width=0.05)
    pen.line((0.5, 0.2), (0.64, 0.0), width=0.05)
    pen.oval(0.45, 0.16, 0.55, 0.92, on="ink")


def _tree(pen: Pen) -> None:
    pen.box(0.41, 0.78, 0.59, 1.0)
    for top, bottom, width in ((0.0, 0.36, 0.26), (0.2, 0.6, 0.36), (0.42, 0.84, 0.46)):
        pen.shape((0.5, top), (0.5 + width, bottom), (0.5 - width, bottom))
    pen.box(0.41, 0.85, 0.59, 1.0, on="ink")


def _flower(pen: Pen) -> None:
    pen.line((0.5, 0.4), (0.5, 1.0), width=0.08)
    pen.shape((0.5, 0.92), (0.82, 0.68), (0.74, 0.94))
    for x, y in _ring(0.5, 0.33, 0.21, 6):
        pen.disc(x, y, 0.125)
    pen.disc(0.5, 0.33, 0.16)
    pen.disc(0.5, 0.33, 0.12, on="ink")


def _mushroom(pen: Pen) -> None:
    pen.half(0.0, 0.04, 1.0, 1.04)
    pen.shape((0.36, 0.5), (0.64, 0.5), (0.72, 1.0), (0.28, 1.0))
    pen.line((0.0, 0.53), (1.0, 0.53), width=0.06, on="ink")


def _apple(pen: Pen) -> None:
    pen.oval(0.02, 0.24, 0.62, 0.96)
    pen.oval(0.38, 0.24, 0.98, 0.96)
    pen.oval(0.2, 0.5, 0.8, 1.0)
    pen.line((0.5, 0.34), (0.46, 0.06), width=0.07)
    pen.shape((0.5, 0.2), (0.62, 0.02), (0.88, 0.04), (0.74, 0.2))
    pen.disc(1.02, 0.52, 0.17, on="hole")
    pen.shape((0.36, 0.26), (0.64, 0.26), (0.5, 0.36), on="ink")


def _sun(pen: Pen) -> None:
    for i in range(8):
        angle = 2 * math.pi * i / 8
        (left,), (right,) = _ring(0.5, 0.5, 0.34, 1, angle - 0.2), _ring(0.5, 0.5, 0.34, 1, angle + 0.2)
        (tip,) = _ring(0.5, 0.5, 0.5, 1, angle)
        pen.shape(left, tip, right)
    pen.disc(0.5, 0.5, 0.27)


def _moon(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.49)
    pen.disc(0.72, 0.4, 0.4, on="hole")


def _star(pen: Pen) -> None:
    outer, inner = _ring(0.5, 0.54, 0.52, 5), _ring(0.5, 0.54, 0.21, 5, math.pi / 5)
    pen.shape(*(point for pair in zip(outer, inner, strict=True) for point in pair))


def _cloud(pen: Pen) -> None:
    pen.disc(0.2, 0.6, 0.2)
    pen.disc(0.42, 0.42, 0.24)
    pen.disc(0.66, 0.48, 0.2)
    pen.disc(0.82, 0.62, 0.18)
    pen.box(0.2, 0.56, 0.82, 0.8)


def _car(pen: Pen) -> None:
    pen.shape((0.18, 0.5), (0.3, 0.22), (0.7, 0.22), (0.84, 0.5))
    pen.shape((0.0, 0.48), (0.9, 0.46), (1.0, 0.56), (1.0, 0.76), (0.0, 0.76))
    pen.disc(0.23, 0.76, 0.14)
    pen.disc(0.77, 0.76, 0.14)
    pen.disc(0.23, 0.76, 0.12, on="ink")
    pen.disc(0.77, 0.76, 0.12, on="ink")
    pen.shape((0.28, 0.46), (0.35, 0.28), (0.47, 0.28), (0.47, 0.46), on="ink")
    pen.shape((0.53, 0.46), (0.53, 0.28), (0.66, 0.28), (0.75, 0.46), on="ink")


def _boat(pen: Pen) -> None:
    pen.shape((0.0, 0.68), (1.0, 0.68), (0.8, 0.98), (0.2, 0.98))
    pen.line((0.5, 0.0), (0.5, 0.7), width=0.06)
    pen.shape((0.56, 0.04), (0.96, 0.6), (0.56, 0.6))
    pen.shape((0.44, 0.16), (0.44, 0.6), (0.12, 0.6))


def _house(pen: Pen) -> None:
    pen.box(0.7, 0.06, 0.84, 0.4)
    pen.shape((0.0, 0.48), (0.5, 0.0), (1.0, 0.48))
    pen.box(0.1, 0.46, 0.9, 1.0)
    pen.box(0.42, 0.66, 0.62, 1.0, on="ink")
    pen.box(0.18, 0.56, 0.34, 0.72, on="ink")
    pen.box(0.68, 0.56, 0.84, 0.72, on="ink")


def _cup(pen: Pen) -> None:
    pen.oval(0.52, 0.26, 1.0, 0.78)
    pen.oval(0.62, 0.37, 0.88, 0.67, on="hole")
    pen.shape((0.0, 0.14), (0.72, 0.14), (0.62, 0.92), (0.1, 0.92))
    pen.oval(0.0, 0.04, 0.72, 0.24)
    pen.oval(0.06, 0.08, 0.66, 0.2, on="ink")


def _key(pen: Pen) -> None:
    pen.disc(0.24, 0.5, 0.24)
    pen.disc(0.24, 0.5, 0.1, on="hole")
    pen.box(0.44, 0.43, 1.0, 0.57)
    pen.box(0.7, 0.5, 0.79, 0.74)
    pen.box(0.89, 0.5, 1.0, 0.8)


def _clock(pen: Pen) -> None:
    pen.disc(0.2, 0.16, 0.15)
    pen.disc(0.8, 0.16, 0.15)
    pen.line((0.26, 0.84), (0.14, 1.0), width=0.1)
    pen.line((0.74, 0.84), (0.86, 1.0), width=0.1)
    pen.disc(0.5, 0.55, 0.42)
    pen.line((0.5, 0.26), (0.5, 0.56), (0.72, 0.68), width=0.08, on="ink")
    for x, y in _ring(0.5, 0.55, 0.34, 4, math.pi / 4):
        pen.disc(x, y, 0.035, on="ink")


def _umbrella(pen: Pen) -> None:
    pen.half(0.0, 0.04, 1.0, 1.0)
    for x in (1 / 6, 0.5, 5 / 6):
        pen.oval(x - 1 / 6, 0.44, x + 1 / 6, 0.62, on="hole")
    pen.line((0.5, 0.0), (0.5, 0.86), (0.56, 0.95), (0.66, 0.95), (0.72, 0.84), width=0.08)


def _hat(pen: Pen) -> None:
    pen.oval(0.0, 0.72, 1.0, 0.98)
    pen.shape((0.18, 0.06), (0.82, 0.06), (0.76, 0.86), (0.24, 0.86))
    pen.shape((0.215, 0.56), (0.785, 0.56), (0.77, 0.72), (0.23, 0.72), on="ink")


def _pencil(pen: Pen) -> None:
    pen.shape((0.0, 1.0), (0.08, 0.68), (0.74, 0.02), (0.98, 0.26), (0.32, 0.92))
    pen.shape((0.0, 1.0), (0.04, 0.84), (0.16, 0.96), on="ink")
    pen.line((0.08, 0.68), (0.32, 0.92), width=0.04, on="ink")
    pen.line((0.6, 0.16), (0.84, 0.4), width=0.07, on="ink")


def _ladder(pen: Pen) -> None:
    pen.line((0.24, 0.0), (0.14, 1.0), width=0.12)
    pen.line((0.76, 0.0), (0.86, 1.0), width=0.12)
    for y in (0.16, 0.38, 0.6, 0.82):
        pen.line((0.2, y), (0.8, y), width=0.1)


def _heart(pen: Pen) -> None:
    pen.disc(0.27, 0.32, 0.26)
    pen.disc(0.73, 0.32, 0.26)
    pen.shape((0.04, 0.44), (0.5, 0.3), (0.96, 0.44), (0.5, 0.98))


def _arrow(pen: Pen) -> None:
    pen.box(0.0, 0.36, 0.6, 0.64)
    pen.shape((0.5, 0.1), (1.0, 0.5), (0.5, 0.9))


DRAWINGS: dict[str, Callable[[Pen], None]] = {
    "fish": _fish,
    "cat": _cat,
    "bird": _bird,
    "butterfly": _butterfly,
    "tree": _tree,
    "flower": _flower,
    "mushroom": _mushroom,
    "apple": _apple,
    "sun": _sun,
    "moon": _moon,
    "star": _star,
    "cloud": _cloud,
    "car": _car,
    "boat": _boat,
    "house": _house,
    "cup": _cup,
    "key": _key,
    "clock": _clock,
    "umbrella": _umbrella,
    "hat": _hat,
    "pencil": _pencil,
    "ladder": _ladder,
    "heart": _heart,
    "arrow": _arrow,
}


# -- files -------------------------------------------------------------------------------------------------------


def folder_name(scene: Scene) -> str:
    """The class folder, named as in iNaturalist: number of the class, then its taxonomy path."""
    taxon = scene.taxon()
    return "_".join([f"{_CLASSES.index(taxon):03d}", *taxon])


_CLASSES = [*TAXONOMY.values(), *(("nothing", "blank", background) for background in BACKGROUNDS)]


def write_images(folder: str | Path, n: int, seed: int = 0, reporter: Reporter | None = None) -> Path:
    """Write n pictures as PNG in class folders, and ``labels.jsonl`` with a line per picture; returns the folder.

    A line has path (relative to the folder), index, caption, labels and scene. Files that exist are kept, so that the
    same call continues an interrupted one.
    """
    lines = []
    for index, one, path in _written(folder, n, seed, draw, reporter):
        said = one.statement()
        line = {
            "path": path,
            "index": index,
            "caption": CAPTION.say(said),
            "kinds": said.kinds,
            "colours": said.colours,
            "fills": said.fills,
            "background": said.background,
            "blank": said.blank,
            "scene": asdict(one),
        }
        lines.append(json.dumps(line))
    write_text(Path(folder) / "labels.jsonl", "\n".join(lines) + "\n")
    return Path(folder)


def write_masks(folder: str | Path, n: int, seed: int = 0, reporter: Reporter | None = None) -> Path:
    """Write the masks of the pictures that ``write_images`` draws, under the same names; returns the folder."""
    for _ in _written(folder, n, seed, draw_mask, reporter):
        pass
    return Path(folder)


def _written(
    folder: str | Path, n: int, seed: int, draw_one: Callable[[Scene], Image.Image], reporter: Reporter | None
) -> Iterator[tuple[int, Scene, str]]:
    for index, one in enumerate(scenes(n, seed)):
        path = Path(folder) / folder_name(one) / f"{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with atomic_path(path, durable=False) as temporary:
                draw_one(one).save(temporary, format="PNG", compress_level=1)
        if reporter:
            reporter.progress(index + 1, n, "pictures")
            reporter.check()
        yield index, one, path.relative_to(folder).as_posix()
