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
from engine.demo.build.training import FACTS, conversation, shown
from engine.demo.talk import CAPTION, REQUESTS, Request, parse, plain
from engine.demo.world import Scene, draw, scenes

PROBE_SEED, HELD_OUT_SEED = 1001, 1002
"""Seeds of worlds that no training draws from."""


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


def one_patch(tokens: Float[Tensor, "n patches d"], scenes: Sequence[Scene], fact: str) -> Float[Tensor, "n d"]:
    """Of each scene with one object, the token of a random patch that shows the object, or else the background."""
    on = shown(scenes)[fact] >= 0
    generator = torch.Generator().manual_seed(0)
    chosen = torch.multinomial((~on if fact == "background" else on).float(), 1, generator=generator)
    return tokens[torch.arange(len(tokens)), chosen[:, 0]]


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
    distinct = list({CAPTION.say(one.statement()): one for one in scenes(amount, HELD_OUT_SEED)}.values())
    images, texts = [], []
    for chunk in _chunks(distinct):
        inputs = processor(
            text=[CAPTION.say(one.statement()) for one in chunk],
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
        "probe_patch": {
            fact: probe(
                one_patch(train, train_scenes, fact),
                _classes(train_scenes, fact),
                one_patch(test, test_scenes, fact),
                _classes(test_scenes, fact),
            )
            for fact in FACTS
        },
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
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=32)
        said += processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def llava_scores(folder: Path, amount: int) -> Scores:
    """Shares of answers that are right: fact by fact about one object, two objects and none, and request by request."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    one, two, none = (scenes_showing(number, amount, HELD_OUT_SEED) for number in (1, 2, 0))

    def ask(scenes: Sequence[Scene], request: Request) -> list[str]:
        return answers(model, processor, scenes, request.questions[0])

    said_one, said_two, said_none = (ask(some, CAPTION) for some in (one, two, none))
    fewer = one[: -(-amount // 4)]
    return {
        "one_object": _fact_scores(one, said_one, ("kinds", "colours", "fills", "background")),
        "two_objects": _fact_scores(two, said_two, ("kinds", "colours", "background")),
        "blank_named_blank": _share((said := parse(answer)) is not None and said.blank for answer in said_none),
        "blank_exact": _exact(none, said_none, CAPTION),
        "grammatical": _share(parse(answer) is not None for answer in said_one + said_two + said_none),
        "requests_exact": {name: _exact(fewer, ask(fewer, request), request) for name, request in REQUESTS.items()},
    }


def _exact(scenes: Sequence[Scene], said: Sequence[str], request: Request) -> float:
    """The share of answers that are the right ones, word for word."""
    right = (request.say(one.statement()) for one in scenes)
    return _share(plain(answer) == plain(text) for answer, text in zip(said, right, strict=True))


def _fact_scores(scenes: Sequence[Scene], said: Sequence[str], facts: Sequence[str]) -> dict[str, float]:
    """Shares of captions that state each fact rightly (of two objects: both, in order), and of exact captions."""
    pairs = [(one.statement(), parse(answer)) for one, answer in zip(scenes, said, strict=True)]
    result = {
        fact: _share(getattr(one, fact) == getattr(stated, fact, None) for one, stated in pairs) for fact in facts
    }
    result["kinds_in_any_order"] = _share(
        stated is not None and sorted(one.kinds) == sorted(stated.kinds) for one, stated in pairs
    )
    result["exact"] = _exact(scenes, said, CAPTION)
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
