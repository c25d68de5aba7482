"""Training of the demo's models: batches of drawn scenes, losses, optimisers.

The first phase decides the outcome: while linear heads on the patch tokens learn only the kinds, kind becomes a
direction of the residual stream. With all losses from the start, colour and background win and kind stays near
chance.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel, Dinov2Model, LlavaForConditionalGeneration

from engine.demo.build.models import EOS, PAD, PATCHES, PROMPTS, WIDTH, clip_processor, llava_processor
from engine.demo.world import BACKGROUNDS, COLOURS, FILLS, KINDS, Scene, draw, scene
from engine.demo.world import scenes as world_scenes

NOTHING = "nothing"
FACTS: dict[str, tuple[str, ...]] = {
    "kind": (*KINDS, NOTHING),
    "colour": (*COLOURS, NOTHING),
    "fill": (*FILLS, NOTHING),
    "background": tuple(BACKGROUNDS),
}
"""Fact about a picture -> the words for it."""

_INDEX = {fact: {word: i for i, word in enumerate(words)} for fact, words in FACTS.items()}

# -- batches -----------------------------------------------------------------------------------------------------


def pixels(scenes: Sequence[Scene]) -> Float[Tensor, "batch 3 side side"]:
    """The pictures as the image processors return them: channels first, from -1 to 1."""
    array = np.stack([np.asarray(draw(one)) for one in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def targets(scenes: Sequence[Scene], fact: str) -> Float[Tensor, "batch patches words"]:
    """One-hot targets of the patch tokens: of two objects, that of the token's own half of the picture."""
    index = _INDEX[fact]
    wanted = torch.zeros(len(scenes), 2, dtype=torch.long)
    for row, one in enumerate(scenes):
        if fact == "background":
            said = [one.background]
        else:
            said = [getattr(thing, fact) for thing in one.objects] or [NOTHING]
        wanted[row, 0], wanted[row, 1] = index[said[0]], index[said[-1]]
    side = round(PATCHES**0.5)
    half = (torch.arange(PATCHES) % side >= side // 2).long()
    return F.one_hot(wanted[:, half], len(index)).float()


def training_scenes(seed: int, batch: int) -> Iterator[list[Scene]]:
    """Endless batches, with more pairs than the world has and every third batch in a single colour.

    In a single colour, only kind, fill and background tell the pictures of a batch apart.
    """
    start = 0
    while True:
        scenes = [scene(seed, index, two_share=0.2) for index in range(start, start + batch)]
        if (start // batch) % 3 == 2:
            colour = list(COLOURS)[(start // batch // 3) % len(COLOURS)]
            scenes = [
                dataclasses.replace(
                    one, objects=tuple(dataclasses.replace(thing, colour=colour) for thing in one.objects)
                )
                for one in scenes
            ]
        yield scenes
        start += batch


# -- losses ------------------------------------------------------------------------------------------------------


class Heads(nn.ModuleDict):
    """A linear read-out for each fact, applied to every token and to their mean."""

    def __init__(self, width: int) -> None:
        super().__init__({fact: nn.Linear(width, len(words)) for fact, words in FACTS.items()})

    def loss(
        self, tokens: Float[Tensor, "batch patches width"], scenes: Sequence[Scene], facts: Sequence[str]
    ) -> Float[Tensor, ""]:
        total = tokens.new_zeros(())
        for fact in facts:
            wanted = targets(scenes, fact)
            each = F.cross_entropy(self[fact](tokens).flatten(0, 1), wanted.flatten(0, 1))
            mean = F.cross_entropy(self[fact](tokens.mean(1)), wanted.mean(1))
            total = total + mean + 0.5 * each
        return total


def patch_tokens(model: Any, images: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch all width"]:
    """The residual stream after the last layer but one, CLS first: what LLaVA reads."""
    hidden = model.pre_layrnorm(model.embeddings(images))
    for layer in model.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    return hidden


def image_embedding(clip: CLIPModel, hidden: Float[Tensor, "batch all width"]) -> Float[Tensor, "batch d"]:
    vision = clip.vision_model
    last = vision.encoder.layers[-1](hidden, None)
    return F.normalize(clip.visual_projection(vision.post_layernorm(last[:, 0])), dim=-1)


def text_embedding(clip: CLIPModel, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "texts d"]:
    inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
    pooled = clip.text_model(**inputs).pooler_output
    return F.normalize(clip.text_projection(pooled), dim=-1)


def statements(one: Scene, what: str) -> list[str]:
    """True sentences or words about a scene; ``what`` is a fact, "full" or "thing"."""
    if what == "full":
        return [one.caption()]
    if what == "background":
        return [one.background]
    if not one.objects:
        return [NOTHING]
    if what == "thing":
        return [f"a {thing.colour} {thing.kind}" for thing in one.objects]
    return [getattr(thing, what) for thing in one.objects]


def contrastive_loss(
    clip: CLIPModel, tokenizer: Any, images: Float[Tensor, "batch d"], scenes: Sequence[Scene], what: str
) -> Float[Tensor, ""]:
    """Symmetric cross entropy between images and the distinct statements about them.

    A statement may be true of several images, and an image has up to two: targets share the probability evenly.
    """
    said = [statements(one, what) for one in scenes]
    texts = list(dict.fromkeys(text for texts in said for text in texts))
    number = {text: i for i, text in enumerate(texts)}
    true = torch.zeros(len(scenes), len(texts))
    for row, own in enumerate(said):
        true[row, [number[text] for text in own]] = 1
    logits = clip.logit_scale.exp().clamp(max=50) * images @ text_embedding(clip, tokenizer, texts).T
    by_image = F.cross_entropy(logits, true / true.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, (true / true.sum(0)).T)
    return (by_image + by_text) / 2


class Captioner:
    """The captioning loss of a LLaVA on given patch tokens, without its vision tower."""

    def __init__(self, llava: LlavaForConditionalGeneration, seed: int) -> None:
        self.llava = llava
        self.processor = llava_processor()
        self.rng = random.Random(seed)

    def prompt_ids(self, prompt: str) -> Int[Tensor, " length"]:
        """Token ids of a question and its image, exactly as by the processor's chat template."""
        text = self.processor.apply_chat_template(conversation(prompt), add_generation_prompt=True)
        text = text.replace("<image>", "<image>" * PATCHES)
        return self.processor.tokenizer(text, return_tensors="pt").input_ids[0]

    def answers(
        self, scenes: Sequence[Scene], kind: str, unsaid: Sequence[Collection[str]] | None = None
    ) -> Int[Tensor, "batch length"]:
        say = {"describe": Scene.caption, "short": Scene.short_caption, "word": Scene.word}[kind]
        texts = [say(one, left_out) for one, left_out in zip(scenes, unsaid or [()] * len(scenes), strict=True)]
        ids = [[*self.processor.tokenizer(text, add_special_tokens=False).input_ids, EOS] for text in texts]
        longest = max(map(len, ids))
        return torch.tensor([one + [PAD] * (longest - len(one)) for one in ids])

    def loss(
        self,
        tokens: Float[Tensor, "batch patches width"],
        scenes: Sequence[Scene],
        unsaid: Sequence[Collection[str]] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross entropy of the right answers to one random question, the same for the batch.

        ``unsaid``: for each scene, the facts that its answer leaves out.
        """
        kind = self.rng.choices(list(PROMPTS), weights=(5, 3, 2))[0]
        prompt = self.prompt_ids(self.rng.choice(PROMPTS[kind]))
        answer = self.answers(scenes, kind, unsaid)
        model = self.llava.model
        embed = model.language_model.embed_tokens
        start = int((prompt == model.config.image_token_id).nonzero()[0])
        before = embed(prompt[:start]).expand(len(scenes), -1, -1)
        after = embed(prompt[start + PATCHES :]).expand(len(scenes), -1, -1)
        seen = model.multi_modal_projector(tokens)
        inputs = torch.cat([before, seen, after, embed(answer[:, :-1])], 1)
        hidden = model.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        logits = self.llava.lm_head(hidden[:, len(prompt) - 1 :])
        return F.cross_entropy(logits.flatten(0, 1), answer.flatten(), ignore_index=PAD)


def conversation(prompt: str) -> list[dict[str, Any]]:
    """One question about one image, as chat templates expect it."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def blurred(tokens: Float[Tensor, "batch patches width"], strength: float) -> Float[Tensor, "batch patches width"]:
    """Tokens with Gaussian noise, of a random share (up to ``strength``) of their standard deviation.

    A language model trained on noisy tokens reads the reconstruction of an SAE as it reads the picture itself.
    """
    spread = tokens.detach().flatten(0, 1).std(0)
    share = strength * torch.rand(len(tokens), 1, 1)
    return tokens + share * spread * torch.randn_like(tokens)


class FactDropout:
    """Removes facts from patch tokens, for training with captions that leave them out.

    A language model that has only seen whole pictures names a colour even where there is none. Steering makes such
    tokens: a blank picture with nothing but a kind in it, or an object without its kind. So half of the pictures lose
    some facts, each along the axes on which the mean tokens of its words differ, and half are scaled around the mean.
    """

    shares: ClassVar = {"fill": 0.5, "colour": 0.5, "kind": 0.3}
    rest = 0.15  # at most this share of a removed fact remains
    strengths = (0.7, 2.0)

    def __init__(self, vision: Any, seed: int, amount: int = 4000) -> None:
        self.rng = random.Random(seed)
        seen = [one for one in world_scenes(amount, seed) if len(one.objects) == 1]
        with torch.no_grad():
            parts = [patch_tokens(vision, pixels(seen[i : i + 256]))[:, 1:].mean(1) for i in range(0, len(seen), 256)]
        means = torch.cat(parts)
        self.mean = means.mean(0)
        self.axes = {fact: self._axes(means, [getattr(one.objects[0], fact) for one in seen]) for fact in self.shares}

    @staticmethod
    def _axes(means: Float[Tensor, "n width"], words: list[str]) -> Float[Tensor, "axes width"]:
        """An orthonormal basis of the space that the words' mean tokens span around their common mean."""
        each = torch.stack([means[[w == word for w in words]].mean(0) for word in sorted(set(words))])
        return torch.linalg.svd(each - each.mean(0), full_matrices=False).Vh[: len(each) - 1]

    def __call__(
        self, tokens: Float[Tensor, "batch patches width"]
    ) -> tuple[Float[Tensor, "batch patches width"], list[set[str]]]:
        """The changed tokens, and the facts that each picture lost."""
        shown, unsaid = tokens - self.mean, []
        for i in range(len(shown)):
            lost = (
                {f for f, share in self.shares.items() if self.rng.random() < share}
                if self.rng.random() < 0.5
                else set()
            )
            for fact in sorted(lost):
                axes = self.axes[fact]
                shown[i] -= (1 - self.rest * self.rng.random()) * (shown[i] @ axes.T @ axes)
            if self.rng.random() < 0.5:
                shown[i] *= self.rng.uniform(*self.strengths)
            unsaid.append(lost)
        return shown + self.mean, unsaid


# -- optimisation ------------------------------------------------------------------------------------------------


class Optimiser:
    """Muon for the hidden matrices, AdamW for the rest; linear warm-up, constant rate, linear decay to zero.

    Muon: Jordan et al. 2024, with the update scaled as in arXiv 2502.16982. It got .8 of the kinds right after a third
    of the images that AdamW needed.
    """

    def __init__(self, modules: Sequence[nn.Module], steps: int, rate: float, warmup: int = 100) -> None:
        named = [
            (name, value) for module in modules for name, value in module.named_parameters() if value.requires_grad
        ]
        self.parameters = [value for _, value in named]
        matrices = [value for name, value in named if value.ndim == 2 and "layer" in name]
        chosen = {id(value) for value in matrices}
        others = [value for value in self.parameters if id(value) not in chosen]
        self.inner: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate / 4, weight_decay=0.01, betas=(0.9, 0.98)),
        ]
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(one, lambda step: _rate(step, steps, warmup)) for one in self.inner
        ]

    def step(self, loss: Tensor) -> None:
        for one in self.inner:
            one.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for one in self.inner:
            one.step()
        for schedule in self.schedules:
            schedule.step()


def _rate(step: int, steps: int, warmup: int) -> float:
    decay_from = 0.4 * steps
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (steps - decay_from)))


Report = Callable[[str], None]


def run(
    name: str,
    batches: Iterator[list[Scene]],
    steps: int,
    optimiser: Optimiser,
    losses: Callable[[list[Scene]], dict[str, Tensor]],
    report: Report,
    every: float = 15.0,
) -> None:
    """Train for ``steps`` steps; report mean losses, rate and time left every ``every`` seconds."""
    began = reported = time.monotonic()
    sums: dict[str, list[float]] = {}
    seen = 0
    for step in range(1, steps + 1):
        scenes = next(batches)
        parts = losses(scenes)
        optimiser.step(sum(parts.values(), torch.zeros(())))
        seen += len(scenes)
        for key, value in parts.items():
            sums.setdefault(key, []).append(value.item())
        now = time.monotonic()
        if now - reported > every or step == steps:
            left = (now - began) / step * (steps - step)
            figures = "  ".join(f"{key} {np.mean(values):.3f}" for key, values in sums.items())
            rate = seen / (now - began)
            report(f"{name}  step {step}/{steps}  {rate:.0f} images/s  {left:.0f} s left  {figures}")
            reported, sums = now, {}


# -- the three models --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Steps, batch size, rates and seeds of every phase; ``scaled`` shortens all phases alike."""

    kind_steps: int = 500
    joint_steps: int = 3000
    speak_steps: int = 1500
    encoder_steps: int = 1800
    batch: int = 96
    rate: float = 4e-3
    blur_joint: float = 0.3
    blur_speak: float = 0.6
    clip_seed: int = 1
    llava_seed: int = 2
    encoder_seed: int = 3

    def scaled(self, share: float) -> Recipe:
        steps = {
            field.name: max(2, round(share * getattr(self, field.name)))
            for field in dataclasses.fields(self)
            if field.name.endswith("_steps")
        }
        return dataclasses.replace(self, **steps)


def train_clip(clip: CLIPModel, llava: LlavaForConditionalGeneration, recipe: Recipe, report: Report) -> None:
    """Kinds first, then everything: read-outs, contrastive losses, and captions through a LLaVA's language model."""
    torch.manual_seed(recipe.clip_seed)
    rng = random.Random(recipe.clip_seed)
    batches = training_scenes(recipe.clip_seed, recipe.batch)
    heads, captioner = Heads(WIDTH), Captioner(llava, recipe.clip_seed)
    tokenizer = clip_processor().tokenizer
    vision = clip.vision_model

    def kinds(scenes: list[Scene]) -> dict[str, Tensor]:
        return {"kind": heads.loss(patch_tokens(vision, pixels(scenes))[:, 1:], scenes, ["kind"])}

    def everything(scenes: list[Scene]) -> dict[str, Tensor]:
        hidden = patch_tokens(vision, pixels(scenes))
        tokens, images = hidden[:, 1:], image_embedding(clip, hidden)
        part = rng.choice(("thing", "kind", "colour", "fill", "background"))
        half = len(scenes) // 2
        return {
            "heads": 0.5 * heads.loss(tokens, scenes, list(FACTS)),
            "full": 0.3 * contrastive_loss(clip, tokenizer, images, scenes, "full"),
            "part": 0.3 * contrastive_loss(clip, tokenizer, images, scenes, part),
            "caption": captioner.loss(blurred(tokens[:half], recipe.blur_joint), scenes[:half]),
        }

    parts = [vision, heads]
    # So many steps that the rate stays constant: it decays at the end of the second phase.
    constant = Optimiser(parts, 10 * recipe.kind_steps, recipe.rate)
    run("clip: kinds", batches, recipe.kind_steps, constant, kinds, report)
    parts = [clip, heads, llava.model.multi_modal_projector, llava.model.language_model, llava.lm_head]
    run(
        "clip: all",
        batches,
        recipe.joint_steps,
        Optimiser(parts, recipe.joint_steps, recipe.rate),
        everything,
        report,
    )


def train_llava(clip: CLIPModel, llava: LlavaForConditionalGeneration, recipe: Recipe, report: Report) -> None:
    """Only projector and language model, over the frozen vision tower of the CLIP."""
    torch.manual_seed(recipe.llava_seed)
    vision = clip.vision_model
    llava.model.vision_tower.load_state_dict(vision.state_dict())
    captioner, dropout = Captioner(llava, recipe.llava_seed), FactDropout(vision, recipe.llava_seed)

    def captions(scenes: list[Scene]) -> dict[str, Tensor]:
        with torch.no_grad():
            tokens = patch_tokens(vision, pixels(scenes))[:, 1:]
        shown, unsaid = dropout(blurred(tokens, recipe.blur_speak))
        return {"caption": captioner.loss(shown, scenes, unsaid)}

    parts = [llava.model.multi_modal_projector, llava.model.language_model, llava.lm_head]
    batches = training_scenes(recipe.llava_seed, recipe.batch)
    optimiser = Optimiser(parts, recipe.speak_steps, recipe.rate / 2)
    run("llava", batches, recipe.speak_steps, optimiser, captions, report)


def train_encoder(encoder: Dinov2Model, recipe: Recipe, report: Report) -> None:
    """The drawn labels from the pooled output: a stand-in for what a large encoder perceives."""
    torch.manual_seed(recipe.encoder_seed)
    batches = training_scenes(recipe.encoder_seed, recipe.batch)
    heads = Heads(WIDTH)

    def labels(scenes: list[Scene]) -> dict[str, Tensor]:
        pooled = encoder(pixel_values=pixels(scenes)).pooler_output
        return {fact: F.cross_entropy(heads[fact](pooled), targets(scenes, fact).mean(1)) for fact in facts}

    optimiser = Optimiser([encoder, heads], recipe.encoder_steps, recipe.rate)
    first = recipe.encoder_steps // 5
    facts: tuple[str, ...] = ("kind",)
    run("encoder: kinds", batches, first, optimiser, labels, report)
    facts = tuple(FACTS)
    run("encoder: all", batches, recipe.encoder_steps - first, optimiser, labels, report)
