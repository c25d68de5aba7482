"""Top images of a few latents while they form: ``saes/<name>/preview.json``. Costs no torch.

Every measurement of a training replaces the file; that of a finished training stays. Version 1, JSON:

- ``format``, ``version``, ``step``, ``store`` (name of the activations), ``source`` (spec of its images),
- ``grid``: rows and columns of patches, or null without maps,
- ``latents``: a list of {latent, frequency, images}; ``frequency`` is the share of the held-out images on which it
  fires, ``images`` a list of {path, activation, map}, the largest activation first. ``map`` is the activation on each
  patch in 255ths of ``activation``: bytes, row by row, zlib, base64; or null.
"""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from engine.errors import UserError, reason
from engine.files import check_version, read_json, write_json
from engine.places import located_text, recorded_text, workspace_of

FORMAT = "saetui-preview"
VERSION = 1
PREVIEW = "preview.json"


@dataclass(frozen=True, eq=False)
class TopImage:
    path: str
    """As the store lists it: relative to its source."""
    activation: float
    """Largest over the image's tokens, in raw units."""
    map: Float[np.ndarray, "rows columns"] | None
    """Activation on each patch, to a 255th of ``activation``; None where tokens are no grid of patches."""


@dataclass(frozen=True, eq=False)
class FormingLatent:
    latent: int
    frequency: float
    """Share of the held-out images on which it fires."""
    images: tuple[TopImage, ...]


@dataclass(frozen=True, eq=False)
class Preview:
    step: int
    store: str
    source: str
    """Where the images are: what ``engine.images.open_images`` takes."""
    grid: tuple[int, int] | None
    latents: tuple[FormingLatent, ...]


def read_preview(folder: str | Path) -> Preview | None:
    """The preview in an SAE's folder; None when there is none. UserError: damaged, or of a newer version."""
    path = Path(folder) / PREVIEW
    if not path.is_file():
        return None
    found = read_json(path, "remove it, the next measurement writes it anew")
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{path} is no preview of a training: remove it, the next measurement writes it anew.")
    check_version(found.get("version"), VERSION, path)
    try:
        grid = (int(found["grid"][0]), int(found["grid"][1])) if found["grid"] else None
        latents = tuple(
            FormingLatent(
                int(one["latent"]), float(one["frequency"]), tuple(_image(image, grid) for image in one["images"])
            )
            for one in found["latents"]
        )
        source = located_text(str(found["source"]), "path", workspace_of(path.parent))
        return Preview(int(found["step"]), str(found["store"]), source, grid, latents)
    except (LookupError, TypeError, ValueError, ArithmeticError, zlib.error) as error:
        raise UserError(
            f"{path} is damaged ({reason(error)}): remove it, the next measurement writes it anew."
        ) from error


def write_preview(folder: Path, preview: Preview) -> None:
    """Replace the preview in ``folder`` in one step. Raises OSError; a power cut may lose it, nothing else does."""
    latents = [
        {
            "latent": one.latent,
            "frequency": one.frequency,
            "images": [
                {"path": image.path, "activation": image.activation, "map": _packed(image)} for image in one.images
            ],
        }
        for one in preview.latents
    ]
    value = {
        "format": FORMAT,
        "version": VERSION,
        "step": preview.step,
        "store": preview.store,
        "source": recorded_text(preview.source, "path", workspace_of(folder)),
        "grid": list(preview.grid) if preview.grid else None,
        "latents": latents,
    }
    write_json(folder / PREVIEW, value, durable=False)


def keep(shown: Sequence[int], eligible: set[int], order: Iterable[int], count: int) -> list[int]:
    """Which ``count`` latents to show: each of ``shown`` keeps its place while it is eligible; others, and places not
    yet taken, are filled by the first eligible ones of ``order``. Fewer where there are not enough."""
    kept = [latent for latent in shown if latent in eligible]
    fresh = iter(latent for latent in order if latent in eligible and latent not in kept)
    places = [latent if latent in eligible else next(fresh, None) for latent in shown[:count]]
    places += [next(fresh, None) for _ in range(count - len(places))]
    return [latent for latent in places if latent is not None]


def _packed(image: TopImage) -> str | None:
    if image.map is None:
        return None
    shares = np.clip(np.rint(image.map / image.activation * 255), 0, 255).astype(np.uint8)
    return base64.b64encode(zlib.compress(shares.tobytes())).decode("ascii")


def _image(found: dict[str, Any], grid: tuple[int, int] | None) -> TopImage:
    activation, shares = float(found["activation"]), None
    if grid and found["map"] is not None:
        data = zlib.decompressobj().decompress(base64.b64decode(found["map"]), grid[0] * grid[1])
        shares = np.frombuffer(data, np.uint8).reshape(grid).astype(np.float32) * np.float32(activation / 255)
    return TopImage(str(found["path"]), activation, shares)
