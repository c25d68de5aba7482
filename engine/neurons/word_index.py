"""Which latents a text finds: through the words that name them, the classes of their images, and their labels."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

LABEL = 2.0  # how well a label is found; cosines are at most 1


class WordIndex:
    """From every word of a vocabulary to the latents that it names, w latents in all.

    A latent belongs to a word when the word is among its names or it is among the latents nearest to the word, and to
    the commonest class of its top images.
    """

    def __init__(
        self,
        words: Sequence[str],
        names: Int[np.ndarray, "w n"],
        name_scores: Float[np.ndarray, "w n"],
        word_latents: Int[np.ndarray, "V m"],
        word_scores: Float[np.ndarray, "V m"],
        classes: Sequence[str] = (),
        shares: Float[np.ndarray, " w"] = np.empty(0),  # noqa: B008 - only read
    ):
        """``classes``: of each latent in words, empty for none; ``shares``: of its top images that have it."""
        self._of_class: dict[str, list[int]] = {}
        for n, words_of_class in enumerate(classes):
            if words_of_class:
                self._of_class.setdefault(words_of_class, []).append(n)
        self._shares = shares
        self.words, self.w = words, len(names)
        word = np.concatenate([names.ravel(), np.repeat(np.arange(len(word_latents)), word_latents.shape[1])])
        latent = np.concatenate([np.repeat(np.arange(self.w), names.shape[1]), word_latents.ravel()])
        score = np.concatenate([name_scores.ravel(), word_scores.ravel()])
        kept = np.flatnonzero((word >= 0) & (latent >= 0) & (score > 0))  # below 0 a word points away from the images
        kept = kept[np.argsort(word[kept], kind="stable")]
        self._latents, self._scores = latent[kept].astype(np.int64), score[kept].astype(np.float64)
        self._starts = np.searchsorted(word[kept], np.arange(len(words) + 1))

    def find(self, text: str, labels: Mapping[int, str]) -> Float[np.ndarray, " w"]:
        """How well ``text`` fits each latent: ``LABEL`` in its label, else the cosine of the name found or the share of
        its top images in the class found, whichever is larger; 0 not at all.

        Whole words go before parts: *car* finds *scarf* only when nothing is called car. A number finds the latent of
        that number.
        """
        text = text.strip()
        scores = np.zeros(self.w)
        if text.isdecimal() and text.isascii():
            if len(text) <= len(str(self.w)):
                scores[int(text) : int(text) + 1] = LABEL
            return scores
        for pattern in _patterns(text):
            self._match(pattern, labels, scores)
            if scores.any():
                break
        return scores

    def through(self, text: str) -> dict[int, str]:
        """By latent that ``text`` finds through words: the word that fits the latent best."""
        for pattern in _patterns(text.strip()):
            if words := self._words(pattern):
                sizes = [self._starts[n + 1] - self._starts[n] for n in words]
                places = np.concatenate([np.arange(self._starts[n], self._starts[n + 1]) for n in words])
                rising = np.argsort(self._scores[places], kind="stable")
                latents, numbers = self._latents[places[rising]], np.repeat(words, sizes)[rising]
                return {k: self.words[n] for k, n in zip(latents.tolist(), numbers.tolist(), strict=True)}
        return {}

    def _words(self, pattern: re.Pattern[str]) -> list[int]:
        return [n for n, word in enumerate(self.words) if pattern.search(word)]

    def _match(self, pattern: re.Pattern[str], labels: Mapping[int, str], scores: np.ndarray) -> None:
        if words := self._words(pattern):
            of_words = np.concatenate([np.arange(self._starts[n], self._starts[n + 1]) for n in words])
            np.maximum.at(scores, self._latents[of_words], self._scores[of_words])
        for words_of_class, these in self._of_class.items():
            if pattern.search(words_of_class):
                scores[these] = np.maximum(scores[these], self._shares[these])
        called = [latent for latent, label in labels.items() if 0 <= latent < self.w and pattern.search(label)]
        scores[called] = LABEL


def _patterns(text: str) -> list[re.Pattern[str]]:
    """What finds ``text``: as whole words, else as parts of them; nothing without text."""
    return [re.compile(one, re.IGNORECASE) for one in (rf"\b{re.escape(text)}\b", re.escape(text))] if text else []
