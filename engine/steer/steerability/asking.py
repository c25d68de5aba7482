"""Answers and damage of a model under many conditions, in batches, each asked for once: what is in the log is not asked
again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from engine.files import value_sha256
from engine.models.vlm import VLM
from engine.reporter import Reporter, StageBegan
from engine.sae.model import SAE
from engine.steer.generate import answers, next_token_kl
from engine.steer.interventions import Intervention
from engine.steer.results import Condition
from engine.steer.steerability.log import KeptAnswer, KeptDamage, Log

_OPEN = 64  # images that are held while they are asked about


@dataclass(frozen=True)
class Picture:
    """An image that is asked about, opened when it is."""

    path: str
    sha256: str
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Change:
    """What is done to the model."""

    condition: Condition
    latent: int | None
    """That is tried, also where another direction stands for it; None for the two conditions that change none."""
    concept: str | None
    intervention: Intervention | None
    known_by: str
    """Tells it apart from all that may give other answers, the SAE included."""
    value: float | None = None


@dataclass(frozen=True)
class Ask:
    picture: Picture
    prompt: str
    change: Change


class Asker:
    """Asks ``vlm``. ``model``: what tells it, and its precision, apart from others."""

    def __init__(self, vlm: VLM, sae: SAE, model: str, log: Log, batch_size: int, reporter: Reporter):
        self.vlm, self.sae, self._model = vlm, sae, model
        self._log, self._batch, self._reporter = log, batch_size, reporter
        self._open = lru_cache(maxsize=_OPEN)(lambda picture: picture.open())

    def answers(self, asked: Sequence[Ask], max_new_tokens: int, stage: str) -> list[str]:
        """The greedy answer to each, in order; told as progress of ``stage``."""
        keys = [self._key(one, max_new_tokens) for one in asked]
        new = {key: one for key, one in zip(keys, asked, strict=True) if self._log.get(KeptAnswer, key) is None}
        self._reporter.event(StageBegan(stage))
        todo, total = list(new.items()), len(set(keys))
        for start in range(0, len(todo), self._batch):
            self._ask(todo[start : start + self._batch], max_new_tokens)
            self._reporter.progress(total - len(todo) + min(start + self._batch, len(todo)), total, "answers")
            self._reporter.check()
        return [self._said(key) for key in keys]

    def damage(self, picture: Picture, prompts: Sequence[str], changes: Sequence[Change], stage: str) -> list[float]:
        """Of each change, the KL of the next token from the untouched model, mean over ``prompts``."""
        self._reporter.event(StageBegan(stage))
        costs = []
        for number, prompt in enumerate(prompts):
            keys = [self._key(Ask(picture, prompt, one), 0) for one in changes]
            new = {key: one for key, one in zip(keys, changes, strict=True) if self._log.get(KeptDamage, key) is None}
            todo = list(new.items())
            for start in range(0, len(todo), self._batch):
                self._harm(picture, prompt, todo[start : start + self._batch])
                done = len(changes) - len(todo) + min(start + self._batch, len(todo))
                self._reporter.progress(number * len(changes) + done, len(prompts) * len(changes), "next tokens")
                self._reporter.check()
            kept = [self._log.get(KeptDamage, key) for key in keys]
            costs.append([one.kl for one in kept if one])
        return [sum(one) / len(prompts) for one in zip(*costs, strict=True)]

    def _ask(self, some: Sequence[tuple[str, Ask]], max_new_tokens: int) -> None:
        said = answers(
            self.vlm,
            [self._open(one.picture) for _, one in some],
            [one.prompt for _, one in some],
            max_new_tokens,
            sae=self.sae,
            interventions=[one.change.intervention for _, one in some],
            batch_size=len(some),
            check=self._reporter.check,
        )
        for (key, one), text in zip(some, said, strict=True):
            change = one.change
            self._log.add(
                KeptAnswer(key, change.condition, change.latent, change.concept, one.picture.path, one.prompt, text)
            )

    def _harm(self, picture: Picture, prompt: str, some: Sequence[tuple[str, Change]]) -> None:
        given = [one.intervention for _, one in some if one.intervention is not None]
        costs = next_token_kl(self.vlm, self._open(picture), prompt, self.sae, given).tolist() if given else []
        for key, one in some:
            kl = 0.0 if one.intervention is None else costs.pop(0)
            self._log.add(KeptDamage(key, one.latent, one.value, prompt, kl))

    def _said(self, key: str) -> str:
        kept = self._log.get(KeptAnswer, key)
        assert kept is not None
        return kept.text

    def _key(self, one: Ask, max_new_tokens: int) -> str:
        parts = [self._model, one.picture.sha256, one.prompt, max_new_tokens, one.change.known_by]
        return value_sha256(parts)[:32]
