"""What ``saetui fidelity`` says. Costs no torch."""

from dataclasses import dataclass, field

from engine.config import FidelitySettings
from engine.metrics.results import Recovery
from engine.workspace import Provenance


@dataclass(frozen=True)
class ZeroShot:
    """Classes of images told by the cosine of image and text embeddings."""

    texts: tuple[str, ...]
    """What is said of each class."""
    accuracy: Recovery
    agreement: Recovery
    """Share of the images whose predicted class is that of the untouched encoder."""


@dataclass(frozen=True)
class Retrieval:
    """Whether images and captions find each other among all that belong to some: engine.metrics.retrieval.

    Of captions that are the same text there is one, which belongs to all its images. Of an image, the mean over its
    captions.
    """

    images: int
    captions: int
    text_at_1: Recovery
    """Share of images for which the nearest caption is one of theirs."""
    text_at_5: Recovery
    """One of the nearest five."""
    image_at_1: Recovery
    """Share of captions to which the nearest image is one of theirs."""
    image_at_5: Recovery


@dataclass(frozen=True)
class EncoderFidelity:
    """What is left of an encoder's image embeddings."""

    spec: str = field(metadata={"place": "model"})
    images: int
    broken: int
    """That could not be read, and count under no condition."""
    tokens: str
    """Whose activations are replaced: cls, patches, all; pooled where there is one row an image."""
    reached: bool
    """Whether the embedding depends on them at all."""
    cosine: Recovery
    """Of the embedding with that of the untouched encoder."""
    zero_shot: ZeroShot | None
    retrieval: Retrieval | None = None
    """None where there are no captions, or no text tower."""


@dataclass(frozen=True)
class AnswerFidelity:
    """How far a vision-language model is from itself on its own greedy answers, image by image."""

    spec: str = field(metadata={"place": "model"})
    images: int
    """That it was asked about."""
    tokens: int
    """Of all answers, end tokens included."""
    kl: Recovery
    """Of the distribution of the next token from that of the untouched model, in nats: mean over an answer's tokens."""
    same_token: Recovery
    """Share of an answer's tokens at which the likeliest one is the same."""


@dataclass(frozen=True)
class Fidelity:
    """Of one SAE: the result of the command, and of its file."""

    path: str = field(metadata={"place": "path"})
    sae: str
    hook: str
    encoder: EncoderFidelity | None
    """None for an encoder whose output is not one embedding an image."""
    notes: tuple[str, ...]
    """What could not be measured, and why; what to know of the rest."""
    settings: FidelitySettings
    provenance: Provenance
    made: bool = True
    answers: AnswerFidelity | None = None
    """None where no model was to be asked, and where it does not see through this SAE."""


@dataclass(frozen=True)
class FidelityMeasured:
    """Of all SAEs, in the order in which they were named."""

    saes: tuple[Fidelity, ...]
    made: bool = True
    """Whether any was measured now."""
