"""Which latents are tried, and what each of them stands for. Costs no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.config import SteerabilitySettings
from engine.errors import UserError
from engine.neurons.file import Neurons
from engine.neurons.results import ScoredImage
from engine.steer.steerability.asked import parse_given


@dataclass(frozen=True)
class Subject:
    """A latent that is tried."""

    latent: int
    group: int
    """Of the Matryoshka groups, the coarsest is 0."""
    concept: str
    concept_from: Literal["given", "label", "name"]
    maximum: float
    """Its largest activation on the scored images."""
    top: tuple[ScoredImage, ...]
    """The images on which it fires most."""


@dataclass(frozen=True)
class Drawn:
    subjects: tuple[Subject, ...]
    drawn_from: int
    """Latents that could have been drawn."""


def draw(neurons: Neurons, labels: Mapping[int, str], groups: Sequence[int], settings: SteerabilitySettings) -> Drawn:
    """The latents that ``settings`` give, else as many as they want, drawn without replacement.

    Drawn are latents that enough images fire, that have a concept, and whose top images are not copies of one another.
    More of the same seed are those, and more. ``groups``: cumulative numbers of latents, or none. UserError where
    nothing can be drawn, or a latent that was given cannot be steered.
    """
    given = parse_given(settings.latent)
    able = _able(neurons, labels, settings.min_support)
    if given:
        return Drawn(tuple(_subject(neurons, one, labels, groups, said) for one, said in given.items()), len(able))
    if not len(able):
        least = neurons.summary.in_units(settings.min_support)
        raise UserError(
            f"{neurons.path.name} has no latent with a name that {least} fire: "
            "lower --min-support, label some, or give --latent LATENT=CONCEPT."
        )
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(able).tolist()
    if settings.draw == "group":
        order = _in_turn([[one for one in order if _group(one, groups) == n] for n in range(max(len(groups), 1))])
    chosen = order[: settings.count]
    return Drawn(tuple(_subject(neurons, one, labels, groups, "") for one in chosen), len(able))


def _able(neurons: Neurons, labels: Mapping[int, str], min_support: int) -> np.ndarray:
    fires = (neurons.support >= min_support) & (neurons.maximum > 0) & ~neurons.copies
    return np.array([one for one in np.flatnonzero(fires).tolist() if labels.get(one) or neurons.names_of(one)], int)


def _in_turn(groups: list[list[int]]) -> list[int]:
    """The first of each group, then the second of each, ..."""
    longest = max(map(len, groups))
    return [group[place] for place in range(longest) for group in groups if place < len(group)]


def _group(latent: int, groups: Sequence[int]) -> int:
    return int(np.searchsorted(groups, latent, side="right")) if groups else 0


def _subject(neurons: Neurons, latent: int, labels: Mapping[int, str], groups: Sequence[int], given: str) -> Subject:
    if latent >= neurons.w:
        raise UserError(f"There is no latent {latent}: this SAE has latents 0 to {neurons.w - 1}.")
    names = neurons.names_of(latent)
    concept = given or labels.get(latent, "") or (names[0] if names else "")
    maximum = float(neurons.maximum[latent])
    if not maximum > 0:
        raise UserError(f"Latent {latent} fired on none of the images that were scored: give another one.")
    if not concept:
        raise UserError(f"Latent {latent} has neither label nor name: give --latent {latent}=CONCEPT.")
    source: Literal["given", "label", "name"] = "given" if given else "label" if labels.get(latent) else "name"
    top = tuple(neurons.images[one.image] for one in neurons.top(latent))
    return Subject(latent, _group(latent, groups), concept, source, maximum, top)
