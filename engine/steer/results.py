"""What steering finds, as records. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from engine.config import SteerabilitySettings
from engine.metrics.results import Concord, Interval
from engine.records import seldom
from engine.reporter import AnswerName
from engine.workspace import Provenance

ANSWERS: tuple[AnswerName, ...] = get_args(AnswerName)
Condition = Literal[
    "untouched", "attached", "steered", "random_latent", "random_direction", "diffmean", "diffmean_equal"
]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
TITLES: Mapping[Condition, str] = {
    "untouched": "untouched",
    "attached": "SAE attached",
    "steered": "steered",
    "random_latent": "random latent",
    "random_direction": "random direction",
    "diffmean": "DiffMean",
    "diffmean_equal": "DiffMean, as far",
}
"""How tables call them."""
HEADS: Mapping[str, tuple[str, str, str]] = {
    "insertion": ("appeared", "followed", "both"),
    "suppression": ("removed", "rest kept", "both"),
}
"""And the shares of answers, by task."""
QuestionKind = Literal["appeared", "followed", "kept"]
"""What a judge is asked: whether a text names the concept, whether it is what the prompt asked for, and whether it says
all else that the untouched answer says."""


@dataclass(frozen=True)
class Steered:
    """Three greedy answers to one question."""

    untouched: str
    """Of the model as it is."""
    attached: str
    """Through the SAE, no latent changed: the control."""
    steered: str


@dataclass(frozen=True)
class Fired:
    """Where latents fire on an image, before anything is changed."""

    grid: tuple[int, int]
    """Rows and columns of patches."""
    maps: tuple[tuple[int, tuple[float, ...]], ...]
    """Pairs of a latent and its activations, patch by patch, row by row."""


@dataclass(frozen=True)
class SweepPoint:
    """What one strength of one latent does."""

    answer_of: AnswerName
    value: float | None
    """Of the latent; None for the two controls."""
    answer: str
    damage: float
    """``next_token_kl``, in nats: 0 for the untouched model."""
    concept: float | None = None
    """Cosine of the answer and the latent in the text space of its scores; None where it is not known."""


@dataclass(frozen=True)
class Measured:
    """A score under one condition, over the latents, each of which has one value."""

    condition: Condition
    score: Interval
    ahead: Interval | None = seldom()
    """By how much the steered model is above it, latent by latent; None for the steered model itself."""
    published: float | None = seldom()
    """In arXiv 2504.02821, for CLIP ViT-L/14-336 and LLaVA-1.5."""


@dataclass(frozen=True)
class OneWord:
    """The paper's check: cosine of an answer's first word and the mean image embedding of a latent's top images."""

    prompt: str
    pictures: int
    """Images that each latent was tried on; 1: the plain one of the settings."""
    conditions: tuple[Measured, ...]
    true_label: Interval | None
    """The same of the classes of the top images, instead of the answer; None without classes."""
    random_label: Interval | None
    """Of classes of images drawn at random."""
    published_true: float | None = seldom()
    published_random: float | None = seldom()


@dataclass(frozen=True)
class Texts:
    """Insertion or suppression by one judge: shares of answers, over latents, each of which has the mean of its own."""

    task: Literal["insertion", "suppression"]
    judge: str
    done: tuple[Measured, ...]
    """The concept appeared; or it is gone, of answers that name it where the model is untouched."""
    followed: tuple[Measured, ...]
    """The prompt was followed; or all else that the untouched answer says was kept."""
    both: tuple[Measured, ...]
    undecided: int
    """Answers of which the judge did not say: they do not count."""


@dataclass(frozen=True)
class JudgeUsed:
    name: str
    model: str
    """What it reads with."""
    asks: Mapping[str, str]
    """The question, or the rule, in words."""


@dataclass(frozen=True)
class JudgesAgree:
    """Two judges about the same texts."""

    judges: tuple[str, str]
    question: QuestionKind
    found: Concord


@dataclass(frozen=True)
class DosePoint:
    condition: Condition
    value: float | None
    """Of the latent, in raw-activation units; None for the two controls."""
    concept: float
    """As :class:`OneWord`, of this latent alone."""
    damage: float
    """KL of the next token from the untouched model, in nats, mean over the prompts: ``next_token_kl``."""


@dataclass(frozen=True)
class Dose:
    """What strengths of one latent do."""

    latent: int
    points: tuple[DosePoint, ...]
    """The two controls first."""
    recommended: float | None
    """The value with the largest gain of those that cost no more than the bound; None where none gains."""
    gain: float | None
    """In ``concept`` above the SAE attached and unclamped."""
    recipe: str = ""
    """In which it is kept; empty for none."""


@dataclass(frozen=True)
class SteeredLatent:
    latent: int
    group: int
    """Its Matryoshka group, the coarsest is 0; 0 where there are none."""
    concept: str
    concept_from: Literal["given", "label", "name"]
    maximum: float
    """Its largest activation on the scored images."""
    value: float
    """To which it is clamped for insertion."""
    word: float | None = None
    """Gain of the one word above the untouched model."""
    inserted: float | None = None
    """Share of answers with both, by the first judge; as ``suppressed``."""
    suppressed: float | None = None


@dataclass(frozen=True)
class GroupSteered:
    """The latents of one Matryoshka group."""

    group: int
    word: Interval
    inserted: Interval
    suppressed: Interval


@dataclass(frozen=True)
class Steerability:
    """Result of the stage ``steerability``."""

    path: str = field(metadata={"place": "path"})
    """Its file."""
    sae: str
    vlm: str = field(metadata={"place": "model"})
    images: str
    """Name of the image set that the SAE was scored on."""
    drawn_from: int
    """Latents that could have been drawn: with a concept, and enough images that fire them."""
    latents: tuple[SteeredLatent, ...]
    groups: tuple[GroupSteered, ...]
    word: OneWord | None
    """On the plain image, of all latents."""
    word_on_pictures: OneWord | None
    """On images drawn at random, of the first few latents."""
    texts: tuple[Texts, ...]
    """Per task and judge."""
    prompts: tuple[str, ...]
    judges: tuple[JudgeUsed, ...]
    agreement: tuple[JudgesAgree, ...]
    doses: tuple[Dose, ...]
    settings: SteerabilitySettings
    provenance: Provenance
    made: bool = True
    """False: it was there already, by the same settings."""
