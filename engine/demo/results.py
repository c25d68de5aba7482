"""What the demo finds. Costs no torch."""

from dataclasses import dataclass
from typing import Literal

from engine.metrics.results import Localisation
from engine.neurons.results import MSSummary


@dataclass(frozen=True)
class DrawnPictures:
    """What ``saetui draw`` returns."""

    path: str
    """Their folder."""
    images: int
    made: bool = True
    """False: they were there."""


@dataclass(frozen=True)
class ExtractedImages:
    images: int
    rows: int
    """Patch tokens."""


@dataclass(frozen=True)
class HeldOutFigures:
    """Of the SAE on held-out activations: see engine.sae.fidelity."""

    fve: float | None
    l0: float | None
    dead: float | None
    rows: int | None = None
    """Held out; None in older summaries."""


@dataclass(frozen=True)
class ConceptFound:
    """The latent that tells best whether an image shows a concept."""

    name: str
    kind: Literal["object", "colour"]
    latent: int
    auroc: float
    """On the test images."""
    inserted: float | None
    """Share of blank images whose whole answer is grammatical and names the concept."""
    suppressed: float | None
    """Of the test images in which the untouched model names the concept, the share in which it does not at 0."""


@dataclass(frozen=True)
class SteeringRates:
    """Means over the kinds of objects, but for ``colours_inserted`` and ``colours_suppressed``. None: never asked."""

    strength: float
    """Inserted latents are at this multiple of their own largest activation on the training images."""
    inserted: float | None
    suppressed: float | None
    random_control: float | None
    """Random live latents, at the same multiple of their own maximum, naming the concept."""
    attached_control: float | None
    """The SAE attached and no latent changed, naming the concept on blank images."""
    random_any_kind: float | None
    """Random live latents naming any kind."""
    attached_suppressed: float | None
    """The SAE attached and no latent changed: the share that does not name the concept any more."""
    colours_inserted: float | None
    colours_suppressed: float | None
    two_named: float | None = None
    """With a kind inserted in free patches beside an object: answers that name both, and nothing else. None, too: the
    summary is older."""
    two_named_random: float | None = None
    """The same with random live latents."""


@dataclass(frozen=True)
class DemoDone:
    """The summary that ``saetui demo --headless --json`` prints."""

    seconds: float
    extract: ExtractedImages
    sae: HeldOutFigures
    ms: MSSummary
    concepts: tuple[ConceptFound, ...]
    steering: SteeringRates
    localisation: Localisation | None = None
    """Over the top test images of each kind's latent, against the silhouettes of that kind. None: they have none, or
    the summary is older."""
