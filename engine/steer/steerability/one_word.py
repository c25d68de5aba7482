"""The check of arXiv 2504.02821: does the one word that the model has for an image mean what the latent stands for?

For an answer of at most five tokens to "What is shown in this image? Use exactly one word!", the score is the cosine of
the text embedding of its first word and the mean of the unit image embeddings of the latent's top images, in the space
of a CLIP-like encoder; 0 for an answer without a word. A latent's score is its mean over the images shown.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from engine.metrics.bootstrap import bootstrap
from engine.neurons.results import ScoredImage
from engine.steer.results import CONDITIONS, Condition, OneWord
from engine.steer.steerability.asking import Ask, Asker, Change, Picture
from engine.steer.steerability.conditions import Conditions
from engine.steer.steerability.means import Values, compared
from engine.steer.steerability.prompts import ONE_WORD, ONE_WORD_TOKENS, first_word
from engine.steer.steerability.space import Space
from engine.steer.steerability.subjects import Subject

BOUNDS = (-1.0, 1.0)
Published = Mapping[Condition, float]
PLAIN: Published = {"untouched": 0.212, "steered": 0.259}
"""Published, for a white image; CLIP ViT-L/14-336 and LLaVA-1.5."""
PICTURES: Published = {"untouched": 0.211, "steered": 0.263}
"""For images of ImageNet."""
TRUE_LABEL, RANDOM_LABEL = 0.283, 0.185
LABELS_DRAWN = 16  # random labels that a latent is held against

Directions = Mapping[int, Float[np.ndarray, " D"]]
"""Of each latent, the unit mean of the embeddings of its top images."""


def one_word(
    asker: Asker,
    conditions: Conditions,
    values: Mapping[Subject, float],
    pictures: Sequence[Picture],
    space: Space,
    directions: Directions,
    stage: str,
) -> Values:
    """The score of each latent (a key of ``values``, which are the strengths) under every condition."""
    shared = [conditions.untouched, conditions.attached]
    own = {one: [conditions.steered(one, value), *conditions.beside(one, value, 1)] for one, value in values.items()}
    told = words(asker, [*shared, *(change for changes in own.values() for change in changes)], pictures, space, stage)
    return {
        name: np.array([_score(told, _of(name, shared, own[one]), directions[one.latent]) for one in values], float)
        for name in CONDITIONS
    }


def words(
    asker: Asker, changes: Sequence[Change], pictures: Sequence[Picture], space: Space, stage: str
) -> dict[str, Float[np.ndarray, "picture D"]]:
    """Unit text embeddings of the one words that are said under each change, by what tells the change apart."""
    asked = [Ask(picture, ONE_WORD, change) for change in changes for picture in pictures]
    said = asker.answers(asked, ONE_WORD_TOKENS, stage)
    first, n = [first_word(text) for text in said], len(pictures)
    rows = space.texts(first) * np.array([[bool(word)] for word in first], np.float32)
    return {change.known_by: rows[at * n : (at + 1) * n] for at, change in enumerate(changes)}


def _of(name: Condition, shared: Sequence[Change], own: Sequence[Change]) -> Change:
    return next(change for change in (*shared, *own) if change.condition == name)


def _score(told: Mapping[str, np.ndarray], change: Change, direction: np.ndarray) -> float:
    return float((told[change.known_by] @ direction).mean())


def summary(
    values: Values,
    subjects: Sequence[Subject],
    pictures: int,
    images: Sequence[ScoredImage],
    space: Space,
    directions: Directions,
    seed: int,
    published: Published,
) -> OneWord:
    true, random = _labels(subjects, images, space, directions, seed)
    has_labels = not np.isnan(true).all()
    return OneWord(
        ONE_WORD,
        pictures,
        compared(values, seed, BOUNDS, published),
        bootstrap(true, BOUNDS, seed) if has_labels else None,
        bootstrap(random, BOUNDS, seed) if has_labels else None,
        TRUE_LABEL,
        RANDOM_LABEL,
    )


def _labels(
    subjects: Sequence[Subject], images: Sequence[ScoredImage], space: Space, directions: Directions, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each latent, the score of the classes of its top images, and of classes of images drawn at random."""
    kinds = [kind for kind in map(_kind, images) if kind]
    true, random = np.full(len(subjects), np.nan), np.full(len(subjects), np.nan)
    for place, subject in enumerate(subjects):
        own = [kind for kind in map(_kind, subject.top) if kind]
        if own:
            drawn = np.random.default_rng([seed, 2, subject.latent]).integers(0, len(kinds), LABELS_DRAWN)
            others = [kinds[number] for number in drawn.tolist()]
            direction = directions[subject.latent]
            true[place] = (space.texts(own) @ direction).mean()
            random[place] = (space.texts(others) @ direction).mean()
    return true, random


def _kind(image: ScoredImage) -> str:
    return " ".join(image.kind.replace("_", " ").replace("-", " ").split())
