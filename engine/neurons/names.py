"""Names for latents: the words that lie nearest to what their top images have in common.

For a latent, the mean of the unit image embeddings of its top images, minus that mean over all images, is a direction
in the space that the encoder's image and text towers share. Words are scored by the cosine of that direction with
their own unit text embedding, less its mean over the vocabulary. Both means are taken off for the same reason: images
(and words) have a part in common that says nothing about one of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from engine.activations.shards import ImageRecord
from engine.images.sources import ImageEntry
from engine.models.encoder import VisionEncoder
from engine.neurons.asked import read_vocabulary

_BLOCK = 2048  # latents scored against all words together
_SAME = 1 - 1e-5  # cosine of two embeddings of one and the same text, in any batch


@dataclass(frozen=True)
class Names:
    """Words of latents, and latents of words. -1 and NaN where there is none."""

    words: list[str]
    of_latent: Int[np.ndarray, "w names"]  #: numbers of the nearest words, nearest first
    scores: Float[np.ndarray, "w names"]
    latents: Int[np.ndarray, "words found"]  #: numbers of the nearest latents, nearest first
    latent_scores: Float[np.ndarray, "words found"]
    directions: Float[np.ndarray, "w D"]  #: what texts are compared with (:func:`rank_text`)
    mean: Float[np.ndarray, " D"]  #: what is taken off them before

    @classmethod
    def none(cls, w: int) -> "Names":
        """No names for any of ``w`` latents."""
        numbers, scores = np.empty((w, 0), int), np.empty((w, 0), np.float32)
        return cls([], numbers, scores, numbers[:0], scores[:0], directions=scores, mean=np.empty(0, np.float32))


def class_words(images: Sequence[ImageEntry], most: int = 10_000) -> list[str]:
    """The classes of images as words, the commonest first: of a taxonomy every level, of nested folders each.

    Numbers, and codes with no two letters in a row, are none.
    """
    counts: Counter[str] = Counter()
    for (taxonomy, label), number in Counter((one.taxonomy, one.label) for one in images).items():
        for name in dict.fromkeys(taxonomy or (label or "").split("/")):
            counts[_worded(name)] += number
    return [word for word, _ in counts.most_common() if is_word(word)][:most]


def class_texts(images: Sequence[ImageEntry | ImageRecord]) -> dict[str, str]:
    """Each class of the images in words: the last levels of its taxonomy, or its last folders, as few as tell all
    classes apart. So a species has its genus before it, and a breed its own name alone."""
    levels = {one.label: one.taxonomy or tuple(one.label.split("/")) for one in images if one.label}
    for last in range(1, max(map(len, levels.values()), default=0) + 1):
        texts = {label: _worded(" ".join(names[-last:])) for label, names in levels.items()}
        if len(set(texts.values())) == len(texts):
            return texts
    return {label: _worded(label) for label in levels}


def is_word(text: str) -> bool:
    """Whether it has two letters in a row: numbers and codes have not."""
    return re.search(r"[^\W\d_]{2}", text) is not None


def _worded(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name)).strip()


def vocabulary(path: str, images: Sequence[ImageEntry]) -> list[str]:
    """What latents are named with: the words in ``path``, else the built-in list and the classes of ``images``."""
    if path:
        return read_vocabulary(path)
    words = read_vocabulary()
    known = {word.casefold() for word in words}
    return words + [word for word in class_words(images) if word.casefold() not in known]


def directions(top_images: Int[np.ndarray, "w top"], embeddings: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "w D"]:
    """Unit direction from the mean of all images to the mean of a latent's top images; 0 without top images."""
    unit = _unit(embeddings)
    shown = top_images >= 0
    means = np.zeros((len(top_images), unit.shape[1]), np.float32)
    for place in range(top_images.shape[1]):  # not all at once: w x top x D is large
        means += unit[top_images[:, place]] * shown[:, place, None]
    number = shown.sum(axis=1)
    means /= np.maximum(number, 1)[:, None]
    return _unit((means - unit.mean(axis=0)) * (number > 0)[:, None])


def rank_text(
    text_embeddings: Float[np.ndarray, "texts D"], directions: Float[np.ndarray, "w D"], mean: Float[np.ndarray, " D"]
) -> Float[np.ndarray, "texts w"]:
    """How well each text says what each latent stands for: cosine of its unit embedding, less ``mean``, with the
    latent's direction (0 without one). ``mean``: of the vocabulary's unit text embeddings.
    """
    text = _unit(_unit(text_embeddings) - mean)
    cosines = np.empty((len(text), len(directions)), np.float32)
    for start in range(0, len(directions), _BLOCK):  # kept in half precision: not all in single precision at once
        cosines[:, start : start + _BLOCK] = text @ directions[start : start + _BLOCK].astype(np.float32).T
    return cosines


@dataclass(frozen=True, eq=False)
class Words:
    """Words as a text tower sees them: those that it can tell from each other."""

    words: list[str]
    text: Float[np.ndarray, "words D"]
    """Unit embeddings."""

    @classmethod
    def embedded(cls, words: Sequence[str], embed_text: Callable[[list[str]], Float[np.ndarray, "words D"]]) -> "Words":
        """Without the words that the tower takes for one another: its tokenizer knows none of them."""
        text = _unit(np.asarray(embed_text(list(words)), np.float32))
        known = distinct(text)
        return cls([word for word, keep in zip(words, known, strict=True) if keep], text[known])


def name_latents(
    top_images: Int[np.ndarray, "w top"],
    embeddings: Float[np.ndarray, "N D"],
    vocabulary: Words,
    names: int = 5,
    found: int = 8,
) -> Names:
    """The ``names`` nearest words of every latent, and the ``found`` nearest latents of every word.

    ``embeddings``: of the images, in the space of the text tower.
    """
    words, text = vocabulary.words, vocabulary.text
    if not words:
        return Names.none(len(top_images))
    mean = text.mean(axis=0) if len(words) > 1 else np.zeros(text.shape[1], np.float32)
    w, names, found = len(top_images), min(names, len(words)), min(found, len(top_images))
    of_latent, scores = np.full((w, names), -1), np.full((w, names), np.nan, np.float32)
    latents, latent_scores = np.full((len(words), found), -1), np.full((len(words), found), -np.inf, np.float32)
    toward = directions(top_images, embeddings)
    named = np.flatnonzero((top_images >= 0).any(axis=1))
    for start in range(0, len(named), _BLOCK):
        block = named[start : start + _BLOCK]
        cosines = rank_text(text, toward[block], mean).T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :names]
        of_latent[block], scores[block] = order, np.take_along_axis(cosines, order, axis=1)
        candidates = np.concatenate([latents, np.broadcast_to(block, (len(words), len(block)))], axis=1)
        values = np.concatenate([latent_scores, cosines.T], axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :found]
        latents, latent_scores = np.take_along_axis(candidates, order, 1), np.take_along_axis(values, order, 1)
    latent_scores[latents < 0] = np.nan
    return Names(list(words), of_latent, scores, latents, latent_scores, toward, mean)


def distinct(text: Float[np.ndarray, "words D"]) -> np.ndarray:
    """Which rows (unit vectors) differ from all others by more than rounding."""
    alone = np.empty(len(text), bool)
    for start in range(0, len(text), _BLOCK):
        cosines = text[start : start + _BLOCK] @ text.T
        alone[start : start + _BLOCK] = (cosines > _SAME).sum(axis=1) == 1
    return alone


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@torch.inference_mode()
def embed_text(encoder: VisionEncoder, texts: list[str], batch: int = 256) -> Float[np.ndarray, "text D"]:
    """``encoder.embed_text`` in batches."""
    parts = [encoder.embed_text(texts[i : i + batch]).float().cpu().numpy() for i in range(0, len(texts), batch)]
    return np.concatenate(parts)
