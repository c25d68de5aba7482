"""What latents are tried with: the scored images, the model, its controls and the space in which words are compared."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.config import SteerabilitySettings, Transparency
from engine.files import value_sha256
from engine.images.opening import open_image
from engine.models.vlm import VLM
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.labels import Labels
from engine.neurons.results import ScoredImage
from engine.places import IN
from engine.reporter import Reporter, StageBegan
from engine.sae.model import SAE
from engine.steer.controls import mean_patches
from engine.steer.steerability.asked import strength
from engine.steer.steerability.asking import Asker, Picture
from engine.steer.steerability.conditions import Conditions
from engine.steer.steerability.log import Log
from engine.steer.steerability.one_word import Directions
from engine.steer.steerability.prompts import prompts
from engine.steer.steerability.space import Space, direction
from engine.steer.steerability.subjects import Drawn, Subject, draw

RANDOM_IMAGES = 64  # whose mean activation DiffMean takes off
_OF_DIFFMEAN, _OF_PICTURES = 1, 3  # which of the seed's draws


@dataclass(frozen=True, eq=False)
class Scored:
    """What is needed of a neurons file."""

    path: Path
    source: str
    """Of its images."""
    transparency: Transparency
    images: Sequence[ScoredImage]
    alive: Sequence[int]
    words: Sequence[str]
    """With which latents were named."""
    drawn: Drawn

    @classmethod
    def read(cls, path: Path, sae: SAE, settings: SteerabilitySettings) -> "Scored":
        """UserError as :func:`engine.steer.steerability.subjects.draw`."""
        with Neurons.open(path) as neurons, refusing_damage(path):
            labels = Labels.of(path, neurons.summary.sae, neurons.sae_sha256)
            return cls(
                path,
                neurons.summary.settings.images,
                sae.config.transparency,
                neurons.images,
                np.flatnonzero(neurons.maximum > 0).tolist(),
                neurons.words,
                draw(neurons, labels.texts, sae.config.groups, settings),
            )

    def picture(self, image: ScoredImage) -> Picture:
        return Picture(image.path, f"{image.sha256 or image.path} {self.transparency}", lambda: self._open(image))

    def _open(self, image: ScoredImage) -> Image.Image:
        found = open_image(f"{self.source}{IN}{image.path}", self.transparency)
        assert isinstance(found, Image.Image), "a path in a source is no plain colour"
        return found


@dataclass(frozen=True, eq=False)
class Study:
    """All that is loaded, and what is asked."""

    settings: SteerabilitySettings
    scored: Scored
    asker: Asker
    conditions: Conditions
    space: Space
    directions: Directions
    plain: Picture
    """The image of the settings."""
    prompts: tuple[str, ...]

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return self.scored.drawn.subjects

    def values(self, text: str) -> dict[Subject, float]:
        """The strength that ``text`` means, of each latent."""
        return {one: strength(text, one.maximum) for one in self.subjects}

    def random_pictures(self) -> list[Picture]:
        """As many of the scored images as the settings want, drawn without replacement."""
        order = np.random.default_rng([self.settings.seed, _OF_PICTURES]).permutation(len(self.scored.images))
        return [self.scored.picture(self.scored.images[at]) for at in order[: self.settings.pictures].tolist()]


def prepare(
    settings: SteerabilitySettings,
    scored: Scored,
    vlm: VLM,
    model: str,
    sae: SAE,
    sha256: str,
    space: Space,
    log: Log,
    reporter: Reporter,
) -> Study:
    """``model``: what tells the model, and its precision, apart from others; ``sha256``: of the SAE's weights."""
    reporter.event(StageBegan("looking at top images"))
    subjects = scored.drawn.subjects
    order = np.random.default_rng([settings.seed, _OF_DIFFMEAN]).permutation(len(scored.images))
    random = [scored.images[at] for at in order[:RANDOM_IMAGES].tolist()]
    seen = _Seen({_name(one): one for one in (*random, *(image for subject in subjects for image in subject.top))})
    for part, images in seen.batches(scored, settings.batch_size, reporter):
        seen.means |= zip(part, mean_patches(vlm, sae.config.hook, images, settings.batch_size), strict=True)
        seen.embedded |= zip(part, space.images(images), strict=True)
    background, drawn = seen.mean(random), value_sha256([_name(one) for one in random])
    diffmean = {
        one.latent: (seen.mean(one.top) - background, value_sha256([drawn, [_name(image) for image in one.top]]))
        for one in subjects
    }
    return Study(
        settings,
        scored,
        Asker(vlm, sae, model, log, settings.batch_size, reporter),
        Conditions(sae, sha256, scored.alive, settings.seed, settings.keep_error, diffmean),
        space,
        {one.latent: direction(np.stack([seen.embedded[_name(image)] for image in one.top])) for one in subjects},
        _plain(settings.image, scored.transparency, vlm),
        prompts(settings),
    )


class _Seen:
    """Images by content, each looked at once."""

    def __init__(self, images: Mapping[str, ScoredImage]):
        self.images = images
        self.means: dict[str, Float[Tensor, " d"]] = {}
        self.embedded: dict[str, Float[np.ndarray, " D"]] = {}

    def batches(self, scored: Scored, size: int, reporter: Reporter) -> Any:
        names = list(self.images)
        for start in range(0, len(names), size):
            part = names[start : start + size]
            yield part, [scored.picture(self.images[name]).open() for name in part]
            reporter.progress(min(start + size, len(names)), len(names), "images")
            reporter.check()

    def mean(self, some: Sequence[ScoredImage]) -> Float[Tensor, " d"]:
        return torch.stack([self.means[_name(one)] for one in some]).mean(0)


def _name(image: ScoredImage) -> str:
    return image.sha256 or image.path


def _plain(spec: str, transparency: Transparency, vlm: VLM) -> Picture:
    seen = open_image(spec, transparency)
    image = seen if isinstance(seen, Image.Image) else Image.new("RGB", vlm.image_size, seen)

    def opened() -> Image.Image:
        return image

    return Picture(spec, f"{image.size} {hashlib.sha256(image.tobytes()).hexdigest()}", opened)
