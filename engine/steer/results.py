"""What steering finds, as records. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from engine.reporter import AnswerName

ANSWERS: tuple[AnswerName, ...] = get_args(AnswerName)


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
