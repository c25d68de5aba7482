"""Scores of the shipped models on held-out scenes, loaded by ``from_pretrained`` as a user would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from engine.demo.build.card import Scores
from engine.demo.build.training import FACTS, conversation
from engine.demo.world import Scene, draw, parse, scenes

PROBE_SEED, HELD_OUT_SEED = 1001, 1002
"""Seeds of worlds that no training draws from."""

ASKED = {
    "describe": "Describe this image.",
    "short": "What is shown in this image?",
    "word": "What is shown in this image? Use exactly one word!",
}
"""The question for each kind of answer that is scored."""


def scenes_showing(number: int, amount: int, seed: int) -> list[Scene]:
    """The first ``amount`` scenes of a world that show ``number`` objects."""
    found: list[Scene] = []
    start = 0
    while len(found) < amount:
        found += [one for one in scenes(amount, seed, start) if len(one.objects) == number]
        start += amount
    return found[:amount]


def probe(
    train: Float[Tensor, "n d"],
    train_classes: Int[Tensor, " n"],
    test: Float[Tensor, "m d"],
    test_classes: Int[Tensor, " m"],
) -> float:
    """Accuracy of a linear probe: logistic regression on standardised features, weight decay 1e-3."""
    mean, spread = train.mean(0), train.std(0) + 1e-6
    inputs = (train - mean) / spread
    weight = torch.zeros(train.shape[1], int(train_classes.max()) + 1, requires_grad=True)
    bias = torch.zeros(weight.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(inputs @ weight + bias, train_classes) + 1e-3 * weight.square().sum() / 2
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    guess = (((test - mean) / spread) @ weight + bias).argmax(1)
    return float((guess == test_classes).float().mean())


def _classes(scenes: Sequence[Scene], fact: str) -> Int[Tensor, " n"]:
    words = FACTS[fact]
    said = (one.background if fact == "background" else getattr(one.objects[0], fact) for one in scenes)
    return torch.tensor([words.index(word) for word in said])


def probes(
    train: Float[Tensor, "n d"], train_scenes: Sequence[Scene], test: Float[Tensor, "m d"], test_scenes: Sequence[Scene]
) -> dict[str, float]:
    """The accuracy of a linear probe for each fact, on scenes of one object."""
    return {fact: probe(train, _classes(train_scenes, fact), test, _classes(test_scenes, fact)) for fact in FACTS}


def _chunks(scenes: Sequence[Scene], size: int = 128) -> list[Sequence[Scene]]:
    return [scenes[start : start + size] for start in range(0, len(scenes), size)]


@torch.no_grad()
def clip_scores(folder: Path, amount: int) -> Scores:
    """Linear probes of what LLaVA reads (patch tokens of layer -2), and retrieval among distinct captions."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def tokens(scenes: Sequence[Scene]) -> Float[Tensor, "n patches d"]:
        rows = []
        for chunk in _chunks(scenes):
            inputs = processor(images=[draw(one) for one in chunk], return_tensors="pt")
            rows.append(model.vision_model(**inputs, output_hidden_states=True).hidden_states[-2][:, 1:])
        return torch.cat(rows)

    train_scenes, test_scenes = scenes_showing(1, 4 * amount, PROBE_SEED), scenes_showing(1, amount, HELD_OUT_SEED)
    train, test = tokens(train_scenes), tokens(test_scenes)
    generator = torch.Generator().manual_seed(0)

    def one_token(all_tokens: Float[Tensor, "n patches d"]) -> Float[Tensor, "n d"]:
        chosen = torch.randint(all_tokens.shape[1], (len(all_tokens),), generator=generator)
        return all_tokens[torch.arange(len(all_tokens)), chosen]

    distinct = list({one.caption(): one for one in scenes(amount, HELD_OUT_SEED)}.values())
    images, texts = [], []
    for chunk in _chunks(distinct):
        inputs = processor(
            text=[one.caption() for one in chunk],
            images=[draw(one) for one in chunk],
            padding=True,
            return_tensors="pt",
        )
        out = model(**inputs)
        images.append(out.image_embeds)
        texts.append(out.text_embeds)
    nearest = (torch.cat(images) @ torch.cat(texts).T).argmax(1)
    return {
        "probe_mean_token": probes(train.mean(1), train_scenes, test.mean(1), test_scenes),
        "probe_one_token": probes(one_token(train), train_scenes, one_token(test), test_scenes),
        "retrieval_at_1": float((nearest == torch.arange(len(distinct))).float().mean()),
        "retrieval_among": len(distinct),
    }


@torch.no_grad()
def encoder_scores(folder: Path, amount: int) -> Scores:
    """Linear probes of the pooled output."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(folder)

    def pooled(scenes: Sequence[Scene]) -> Float[Tensor, "n d"]:
        return torch.cat(
            [
                model(**processor([draw(one) for one in chunk], return_tensors="pt")).pooler_output
                for chunk in _chunks(scenes)
            ]
        )

    train_scenes, test_scenes = scenes_showing(1, 4 * amount, PROBE_SEED), scenes_showing(1, amount, HELD_OUT_SEED)
    return {"probe_pooled": probes(pooled(train_scenes), train_scenes, pooled(test_scenes), test_scenes)}


@torch.no_grad()
def answers(model: Any, processor: Any, scenes: Sequence[Scene], prompt: str) -> list[str]:
    """Greedy answers to one question about each scene."""
    text = processor.apply_chat_template(conversation(prompt), add_generation_prompt=True)
    said: list[str] = []
    for chunk in _chunks(scenes):
        images = [draw(one) for one in chunk]
        inputs = processor(text=[text] * len(chunk), images=images, return_tensors="pt")
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=24)
        said += processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def llava_scores(folder: Path, amount: int) -> Scores:
    """Shares of answers that are right, fact by fact, about one object, two objects and none."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    one, two, none = (scenes_showing(number, amount, HELD_OUT_SEED) for number in (1, 2, 0))
    said_one, said_two, said_none = (answers(model, processor, shown, ASKED["describe"]) for shown in (one, two, none))
    short = answers(model, processor, one, ASKED["short"])
    word = answers(model, processor, one, ASKED["word"])
    return {
        "one_object": _fact_scores(one, said_one, ("kinds", "colours", "fills", "background")),
        "two_objects": _fact_scores(two, said_two, ("kinds", "colours", "background")),
        "blank_named_blank": _share((stated := parse(said)) is not None and stated.blank for said in said_none),
        "blank_exact": _share(said == shown.caption() for said, shown in zip(said_none, none, strict=True)),
        "short_exact": _share(said == shown.short_caption() for said, shown in zip(short, one, strict=True)),
        "word_exact": _share(said == shown.word() for said, shown in zip(word, one, strict=True)),
        "grammatical": _share(parse(said) is not None for said in said_one + said_two + said_none),
    }


def _fact_scores(shown: Sequence[Scene], said: Sequence[str], facts: Sequence[str]) -> dict[str, float]:
    """Shares of answers that state each fact rightly (of two objects: both, in order), and of exact answers."""
    pairs = [(one.labels(), parse(answer)) for one, answer in zip(shown, said, strict=True)]
    result = {
        fact: _share(getattr(one, fact) == getattr(stated, fact, None) for one, stated in pairs) for fact in facts
    }
    result["exact"] = _share(one.caption() == answer for one, answer in zip(shown, said, strict=True))
    return result


def _share(hits: Iterable[bool]) -> float:
    hits = list(hits)
    return sum(map(bool, hits)) / len(hits)


MEASURES = {"clip": clip_scores, "llava": llava_scores, "encoder": encoder_scores}


def measure(name: str, folder: Path, amount: int) -> Scores:
    """Scores of one model, rounded to four places, each on ``amount`` held-out scenes."""
    return _rounded(MEASURES[name](folder, amount))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value
