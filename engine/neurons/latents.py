"""What a person needs to choose a latent: its name, its largest activation, its top images. Costs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import UserError
from engine.files import Stamp, file_sha256, stamp
from engine.neurons.labels import Labels
from engine.places import IN, workspace_of
from engine.sae.config import WEIGHTS
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.neurons.file import Neurons


class KnownLatent(NamedTuple):
    """A latent of a neurons file, as a person knows it."""

    latent: int
    name: str
    maximum: float


def describe(path: str, latents: Iterable[int]) -> dict[int, tuple[str, float]]:
    """Name and largest activation of those of ``latents`` that the neurons file has; a person's label is the name.

    UserError for a file that is missing or damaged.
    """
    from engine.neurons.file import Neurons, refusing_damage

    with Neurons.open(path) as neurons, refusing_damage(path):
        labels = _labels(neurons)
        return {
            n: (labels.text(n) or " · ".join(neurons.names_of(n)[:2]), float(neurons.maximum[n]))
            for n in latents
            if 0 <= n < neurons.w
        }


def search(path: str, text: str, limit: int = 50) -> list[KnownLatent]:
    """Latents that ``text`` (a number, a name, a label) finds, the best match first. UserError as ``describe``."""
    from engine.neurons.file import Neurons, refusing_damage

    with Neurons.open(path) as neurons, refusing_damage(path):
        labels = _labels(neurons)
        found = neurons.order(search=text, labels=labels.texts, marks=labels.marks)[:limit]
    known = describe(path, found)
    return [KnownLatent(latent, *known[latent]) for latent in found]


def grid(path: str) -> tuple[int, int] | None:
    """Rows and columns of the patches that were scored; None where they form none. UserError as ``describe``."""
    from engine.neurons.file import Neurons

    with Neurons.open(path) as neurons:
        return neurons.grid


def top_images(path: str, latent: int) -> list[str]:
    """The images on which ``latent`` fires most, as ``open_image`` takes them. UserError as ``describe``."""
    from engine.neurons.file import Neurons, refusing_damage

    with Neurons.open(path) as neurons, refusing_damage(path):
        source = neurons.summary.settings.images
        return [f"{source}{IN}{top.path}" for top in neurons.top(latent)]


def outdated(path: str | Path) -> str:
    """A sentence when the scores in the neurons file ``path`` are of other weights than their SAE has now, else empty.

    It hashes the weights once for every time that they are written: for a thread. UserError as ``describe``.
    """
    from engine.neurons.file import Neurons

    with Neurons.open(path) as neurons:
        sae, scored = neurons.summary.sae, neurons.sae_sha256
    weights = Workspace(workspace_of(Path(path))).sae(sae) / WEIGHTS
    seen = stamp(weights)
    return of_other_weights(sae) if seen and scored and _sha256(weights, seen) != scored else ""


def of_other_weights(sae: str) -> str:
    return f"These are scores of {sae} with other weights than it has now: for new ones run {scoring(sae, other=True)}."


def scoring(sae: str, other: bool = False) -> str:
    """The command that scores ``sae``; ``other``: beside scores of another SAE of that name."""
    command = f"saetui score {sae} --images DIR --embed-with MODEL"
    return f"{command} --name OTHER" if other else command


@lru_cache(maxsize=64)
def _sha256(path: Path, seen: Stamp) -> str:
    return file_sha256(path)


def _labels(neurons: Neurons) -> Labels:
    """What a person says of latents of that SAE; nothing when that cannot be read: mode Neurons says why."""
    try:
        return Labels.of(neurons.path, neurons.summary.sae, neurons.sae_sha256)
    except UserError:
        return Labels(neurons.path)
