"""The judge that compares embeddings of texts: offline, with the text tower of the images or a small model of its own.

Embeddings are unit vectors, less the mean of those of a vocabulary: all texts have a part in common that says nothing
of one of them (as engine.neurons.names). With cos of these:

    appeared   the concept stands in the answer, or max over its words of cos(word, concept) >= 1/2
    followed   the answer is nearer to the untouched answer to its own prompt than to any to another prompt, all less
               the mean of these untouched answers
    kept       cos(answer, untouched answer) >= 1/2, both less their part along the concept

How often chance says yes to each is what the controls tell.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from engine.errors import UserError, reason
from engine.files import path_of, value_sha256
from engine.integrity import content_sha256
from engine.models.encoder import refusing_odd
from engine.models.from_transformers import quiet
from engine.models.hub import check_notation, hub_folder
from engine.steer.judges import Case, Given, Verdict

ALIKE = 0.5
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_BATCH = 256  # texts that are embedded at once
ASKS = {
    "appeared": f"the concept stands in the answer, or one of its words has a cosine of {ALIKE} or more with it",
    "followed": "the answer is nearest to the untouched answer to its own prompt, among those to all prompts",
    "kept": f"a cosine of {ALIKE} or more with the untouched answer, both less their part along the concept",
}


class TextJudge:
    """See the head of this file. ``embed``: texts as rows, of any length."""

    name = "text"
    asks = ASKS

    def __init__(self, embed: Any, model: str, sha256: str, vocabulary: Sequence[str]):
        self.model = model
        self.identity = value_sha256(["text", sha256, ASKS, list(vocabulary)])
        self._embed = embed
        self._known: dict[str, np.ndarray] = {}
        self._mean: np.ndarray | float = 0.0
        rows = self._rows(vocabulary)
        self._known.clear()
        if len(rows) > 1:
            self._mean = rows.mean(0)

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        self._rows({text for case in cases for text in _texts(case)})
        return [getattr(self, f"_{case.kind}")(case) for case in cases]

    def _appeared(self, case: Case) -> Verdict:
        words, concept = _words(case.answer), _words(case.concept)
        if concept and any(words[at : at + len(concept)] == concept for at in range(len(words))):
            return Verdict(True, score=1.0)
        score = max((_cosine(self._row(word), self._row(case.concept)) for word in set(words)), default=0.0)
        return Verdict(score >= ALIKE, score=round(score, 4))

    def _followed(self, case: Case) -> Verdict:
        if not case.others:
            return Verdict(None)
        own, *others = (self._row(text) for text in (case.untouched, *case.others))
        middle = np.mean([own, *others], axis=0)
        answer = self._row(case.answer) - middle
        ahead = _cosine(answer, own - middle) - max(_cosine(answer, other - middle) for other in others)
        return Verdict(ahead > 0, score=round(ahead, 4))

    def _kept(self, case: Case) -> Verdict:
        concept = self._row(case.concept)
        along = concept / (np.linalg.norm(concept) or 1)
        answer, untouched = (row - (row @ along) * along for row in map(self._row, (case.answer, case.untouched)))
        score = _cosine(answer, untouched)
        return Verdict(score >= ALIKE, score=round(score, 4))

    def _row(self, text: str) -> Float[np.ndarray, " D"]:
        return self._rows([text])[0]

    def _rows(self, texts: Iterable[str]) -> Float[np.ndarray, "text D"]:
        texts = list(texts)
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        for start in range(0, len(new), _BATCH):
            part = new[start : start + _BATCH]
            rows = np.asarray(self._embed(part), np.float64)
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            self._known.update(zip(part, rows - self._mean, strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 1))


def _words(text: str) -> list[str]:
    """In small letters, in order."""
    return [word.lower() for word in _WORD.findall(text)]


def _texts(case: Case) -> list[str]:
    match case.kind:
        case "appeared":
            return [case.concept, *_words(case.answer)]
        case "followed":
            return [case.answer, case.untouched, *case.others]
    return [case.concept, case.answer, case.untouched]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    length = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / length) if length > 0 else 0.0


def load(given: Given) -> TextJudge:
    """With ``text_model`` of the settings, else the text tower of the images."""
    spec = given.settings.text_model
    if not spec:
        return TextJudge(given.embed, given.embeds_with, given.embeds_sha256, given.vocabulary)
    check_notation(spec)
    folder = hub_folder(spec) if spec.startswith("hf:") else path_of(spec)
    with given.reporter.loading(f"the model {spec}", 0), refusing_odd(spec):
        model = SentenceModel(folder, spec, given.device)
    return TextJudge(model.embed, spec, model.sha256, given.vocabulary)


class SentenceModel:
    """A small text encoder of transformers: the mean of the last hidden states of a text's tokens (Reimers and
    Gurevych, arXiv 1908.10084)."""

    def __init__(self, folder: Path, spec: str, device: Any):
        from transformers import AutoModel, AutoTokenizer

        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model: Any = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UserError(
                f"Cannot load {spec} as a text model ({reason(error)}): give one of transformers, in safetensors."
            ) from error
        self._model = model.to(device).eval().requires_grad_(False)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self.sha256 = value_sha256({file.name: content_sha256(file) for file in sorted(folder.glob("*.safetensors"))})

    @torch.inference_mode()
    def embed(self, texts: list[str]) -> Float[np.ndarray, "text D"]:
        most = min(self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 512))
        given = self._tokenizer(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")
        given = given.to(self._model.device)
        hidden = self._model(**given).last_hidden_state.float()
        mask = given["attention_mask"][:, :, None]
        return ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy()
