"""How far each latent's maps point at the object of its top images; see :mod:`engine.metrics.localisation`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from engine.errors import UserError
from engine.images import Images
from engine.images.objects import Objects
from engine.metrics.localisation import localisation
from engine.metrics.results import Localisation
from engine.models.encoder import VisionEncoder
from engine.neurons.crops import AsSeen, plain_grid
from engine.reporter import Reporter

QUANTITIES = ("peak", "mass", "chance_peak", "chance_mass")


def localised(
    encoder: VisionEncoder,
    images: Images,
    scored: Sequence[int],
    top_images: Int[np.ndarray, "w top"],
    maps: Float[np.ndarray, "w top rows columns"],
    objects: Objects,
    reporter: Reporter,
) -> dict[str, Float[np.ndarray, " w"]]:
    """``QUANTITIES`` of every latent, over those of its top images whose objects are known; NaN without one.

    Its object is the kind that most of these images show (of equals the one that covers less); an image without it is
    one that the map misses. ``scored``: numbers in ``images`` of those that were scored. UserError when nothing is
    known of any of them.
    """
    covers = Covers(encoder)
    known: dict[int, dict[str, np.ndarray]] = {}
    shown = np.unique(top_images[top_images >= 0]).tolist()
    for done, number in enumerate(shown, 1):
        masks = objects.of(images.entries[scored[number]].path, images.load(scored[number]).size)
        if masks is not None:
            known[number] = {kind: covers.of(mask) for kind, mask in masks.items()}
        reporter.progress(done, len(shown), "masks")
        reporter.check()
    if shown and not known:
        first = images.entries[scored[shown[0]]].path
        raise UserError(f"{objects.spec} says nothing of the images, as of {first}: objects go by the images' names.")
    made = {name: np.full(len(top_images), np.nan) for name in QUANTITIES}
    for latent, numbers in enumerate(top_images.tolist()):
        places = [i for i, number in enumerate(numbers) if number in known and maps[latent, i].any()]
        if places:
            own = maps[latent, places].reshape(len(places), -1)
            found = localisation(own, _cover([known[numbers[i]] for i in places], own.shape[1]))
            for name in QUANTITIES:
                made[name][latent] = getattr(found, name)
    return made


def summary(made: dict[str, Float[np.ndarray, " w"]]) -> Localisation | None:
    """Means over the latents that have one."""
    if np.isnan(made["peak"]).all():
        return None
    return Localisation(*(float(np.nanmean(made[name])) for name in QUANTITIES))


def _cover(each: Sequence[dict[str, np.ndarray]], patches: int) -> Float[np.ndarray, "image patch"]:
    """The share of each patch that the latent's object covers, in each of its images."""
    counts = Counter(kind for one in each for kind in one)
    area = {kind: sum(float(one[kind].sum()) for one in each if kind in one) / n for kind, n in counts.items()}
    kind = min(counts, key=lambda one: (-counts[one], area[one], one), default="")
    nowhere = np.zeros(patches, np.float32)
    return np.stack([one.get(kind, nowhere) for one in each])


class Covers:
    """The share of each patch of an encoder that a mask covers. A mask goes the way of an image."""

    def __init__(self, encoder: VisionEncoder):
        self._grid, self._patch = plain_grid(encoder)
        self._seen = AsSeen(encoder)

    def of(self, mask: Image.Image) -> Float[np.ndarray, " patch"]:
        """Of ``mask``, white on black, row by row."""
        share = self._seen.brightness(mask.convert("RGB")).mean(0)
        (rows, columns), (height, width) = self._grid, self._patch
        patches = share[: rows * height, : columns * width].unflatten(0, (rows, height)).unflatten(2, (columns, width))
        return patches.mean((1, 3)).flatten().numpy().astype(np.float32)
