"""Small neurons files with contents that a test chooses."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from engine.config import ScoreSettings
from engine.metrics.results import AgainstMatched, Overlap
from engine.neurons.file import write_neurons
from engine.neurons.quantities import KEPT
from engine.neurons.results import Frequency, LatentSpread, MSSummary, RawMS, ScoredImage, Summary
from engine.neurons.seal import unsealed, write_sealed
from engine.workspace import Provenance, Source

_RAW = RawMS(0.1, 0.2, 0.0)
SUMMARY = Summary(
    sae="s",
    images=3,
    broken=0,
    tokens="patches",
    pooling="max",
    model="demo",
    hook="layer:4",
    embed_with="demo:encoder",
    ms=MSSummary(LatentSpread(0.4, 0.9, None, 2), _RAW, _RAW, AgainstMatched(0.2, 0.75, 2), 0.1, 0.3, 4.0),
    alive=2,
    dead=0,
    frequency=Frequency(2.0, 0.0, 0.01),
    hierarchy=None,
    uniqueness=Overlap(2, 1, 0, 0),
    named=0,
    settings=ScoreSettings(sae="s", images="/pictures/val", embed_with="demo:encoder"),
)
"""Of scores whose summary a test does not look at."""


def made_from(sae: str, sha256: str) -> Provenance:
    """The origin of scores of the SAE with this content hash."""
    return Provenance((Source("sae", sae, f"/saes/{sae}", sha256),))


def write_scores(
    path: Path,
    w: int,
    said: Summary = SUMMARY,
    origin: Provenance = Provenance(()),  # noqa: B008 - frozen
    images: Sequence[ScoredImage] = (),
    words: Sequence[str] = (),
    word_latents: np.ndarray = np.zeros((0, 1)),  # noqa: B008 - only read
    word_scores: np.ndarray = np.zeros((0, 1)),  # noqa: B008 - only read
    **latents: np.ndarray,
) -> Path:
    """Scores of ``w`` latents: those given, and zeros; no top images and no names unless they are given."""
    arrays: Mapping[str, np.ndarray] = {
        name: np.zeros((w, 2) if quantity.shape else w) for name, quantity in KEPT.items() if not quantity.optional
    }
    nothing = {"top_images": np.full((w, 2), -1), "names": np.full((w, 0), -1), "name_scores": np.zeros((w, 0))}
    write_neurons(path, {**arrays, **nothing, **latents}, images, words, word_latents, word_scores, said, origin)
    return path


@contextlib.contextmanager
def changing(path: Path) -> Iterator[h5py.File]:
    """The HDF5 of scores, to be changed as another version might have written it."""
    content = io.BytesIO(unsealed(path))
    with h5py.File(content, "r+") as file:
        yield file
    write_sealed(path, content.getvalue())


def as_crops(path: Path, crops: int = 4, side: float = 0.5) -> None:
    """Have scores say that they are of patches."""
    with changing(path) as file:
        summary = json.loads(file["summary"][()])
        summary |= {"pooling": "crop", "patches": crops * summary["images"]}
        summary["settings"] |= {"pooling": "crop", "crops": crops, "crop_side": side}
        del file["summary"]
        file["summary"] = json.dumps(summary)
