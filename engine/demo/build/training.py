"""Training of the demo's models: batches of drawn scenes, losses, optimisers.

A patch token is taught to be a sum of directions: those of the kind, the colour and the fill of the object that is
under its patch, else that of the background. The first phase decides the outcome: while only the kinds are learned,
kind becomes a direction of the residual stream. With all losses from the start, colour and background win and kind
stays near chance.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel, Dinov2Model, LlavaForConditionalGeneration

from engine.demo.build.models import EOS, PAD, PATCHES, WIDTH, clip_processor, llava_processor
from engine.demo.talk import CAPTION, NOTHING, REQUESTS, Mention, Statement
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, KINDS
from engine.demo.world import Scene, covers, draw, scene

FACTS: dict[str, tuple[str, ...]] = {
    "kind": (*KINDS, NOTHING),
    "colour": (*COLOURS, NOTHING),
    "fill": (*FILLS, NOTHING),
    "background": tuple(BACKGROUNDS),
}
"""Fact about a picture -> the words for it."""

_INDEX = {fact: {word: i for i, word in enumerate(words)} for fact, words in FACTS.items()}

SIDE_PATCHES = round(PATCHES**0.5)
UNDER = {"colour": (0.3, 0.4), "fill": (0.45, 0.6), "kind": (0.6, 0.8)}
"""A patch shows this of an object that covers so much of it: a share of the patch or, for thin objects, of the most
covered patch.

A patch at the rim of an object says its colour, then its fill, and not yet its kind. Were the three always there
together, then each would be told by the others, and a dictionary might leave one word out and mean it by default.
"""

# -- batches -----------------------------------------------------------------------------------------------------


def pixels(scenes: Sequence[Scene]) -> Float[Tensor, "batch 3 side side"]:
    """The pictures as the image processors return them: channels first, from -1 to 1."""
    array = np.stack([np.asarray(draw(one)) for one in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def shares(scenes: Sequence[Scene], fact: str) -> Float[Tensor, "batch words"]:
    """What a whole picture shows: one word, or half of each of its two objects' words."""
    index = _INDEX[fact]
    wanted = torch.zeros(len(scenes), len(index))
    for row, one in enumerate(scenes):
        said = [one.background] if fact == "background" else [getattr(thing, fact) for thing in one.objects]
        for word in said or [NOTHING]:
            wanted[row, index[word]] += 1 / max(len(said), 1)
    return wanted


def shown(scenes: Sequence[Scene]) -> dict[str, Int[Tensor, "batch patches"]]:
    """For each fact, the number of the object that each patch shows it of; -1 where it shows none.

    A patch shows the background where it shows the colour of no object.
    """
    number = {fact: torch.full((len(scenes), PATCHES), -1) for fact in UNDER}
    for row, one in enumerate(scenes):
        for i, cover in enumerate(torch.tensor(covers(one, SIDE_PATCHES))):
            for fact, (share, thin) in UNDER.items():
                number[fact][row, cover >= min(share, thin * float(cover.max()))] = i
    return {**number, "background": number["colour"]}


def patch_words(
    scenes: Sequence[Scene], number: Int[Tensor, "batch patches"], fact: str
) -> Int[Tensor, "batch patches"]:
    """The index of the word that is true of each patch; -1 where the fact has none: no object, or no background."""
    index = _INDEX[fact]
    wanted = torch.empty_like(number)
    for row, one in enumerate(scenes):
        if fact == "background":
            words = [*([-1] * len(one.objects)), index[one.background]]
        else:
            words = [*(index[getattr(thing, fact)] for thing in one.objects), -1]
        wanted[row] = torch.tensor(words)[number[row]]  # the last one, by -1, where there is no object
    return wanted


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


class Codebook(nn.Module):
    """A fixed direction for each word, orthogonal to all others."""

    strength = 4.0
    """The coordinate of a token along the direction of a word that is true of its patch; 0 for other words."""
    gain = 10.0
    """Logits per coordinate, in units of ``strength``. No word has the logit of half a coordinate."""
    rest = 0.1
    """Weight of what the directions do not span, which need not vanish."""
    sway = 0.2
    """The coordinate along one more direction in the last column of patches, in units of ``strength``; in the first the
    same below 0, and even steps between. Without it tokens say nothing of where they are, and a language model cannot
    tell which of two objects is on the left."""

    directions: Float[Tensor, "words width"]
    across: Float[Tensor, " width"]

    def __init__(self, seed: int) -> None:
        super().__init__()
        words = [f"{fact}:{word}" for fact, words in FACTS.items() for word in words if word != NOTHING]
        noise = torch.randn(WIDTH, len(words) + 1, generator=torch.Generator().manual_seed(seed))
        *directions, across = torch.linalg.qr(noise).Q.T
        self.register_buffer("directions", torch.stack(directions))
        self.register_buffer("across", across.contiguous())
        self.rows = {fact: [i for i, word in enumerate(words) if word.startswith(f"{fact}:")] for fact in FACTS}

    def of(self, fact: str) -> Float[Tensor, "words width"]:
        """The directions of the words of a fact, in their order."""
        return self.directions[self.rows[fact]]

    def loss(
        self, tokens: Float[Tensor, "batch patches width"], scenes: Sequence[Scene], facts: Sequence[str]
    ) -> Float[Tensor, ""]:
        """Cross entropy of the words of each patch, and squared distance from their directions and its place's."""
        number, total = shown(scenes), tokens.new_zeros(())
        scaled = tokens / self.strength
        for fact in facts:
            at = self.of(fact)
            said, word = scaled @ at.T, patch_words(scenes, number[fact], fact)
            none = said.new_full((*said.shape[:-1], 1), 0.5)
            logits = self.gain * torch.cat([said, none], -1)
            wanted = torch.where(word < 0, said.shape[-1], word)
            total = total + F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
            right = F.one_hot(wanted, logits.shape[-1])[..., :-1]
            total = total + (said - right).square().sum(-1).mean()
        place = scaled @ self.across
        wanted_place = torch.linspace(-self.sway, self.sway, SIDE_PATCHES).repeat(SIDE_PATCHES)
        rest = scaled - scaled @ self.directions.T @ self.directions - place[..., None] * self.across
        return total + (place - wanted_place).square().mean() + self.rest * rest.square().sum(-1).mean()


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


def true_texts(one: Scene, what: str) -> list[str]:
    """True sentences or words about a scene; ``what`` is a fact, "full" or "thing"."""
    if what == "full":
        return [CAPTION.say(one.statement())]
    if what == "background":
        return [one.background]
    if not one.objects:
        return [NOTHING]
    if what == "thing":
        return [Mention(thing.kind, thing.colour).phrase() for thing in one.objects]
    return [getattr(thing, what) for thing in one.objects]


def contrastive_loss(
    clip: CLIPModel, tokenizer: Any, images: Float[Tensor, "batch d"], scenes: Sequence[Scene], what: str
) -> Float[Tensor, ""]:
    """Symmetric cross entropy between images and the distinct texts about them.

    A text may be true of several images, and an image has up to two: targets share the probability evenly.
    """
    said = [true_texts(one, what) for one in scenes]
    texts = list(dict.fromkeys(text for texts in said for text in texts))
    number = {text: i for i, text in enumerate(texts)}
    true = torch.zeros(len(scenes), len(texts))
    for row, own in enumerate(said):
        true[row, [number[text] for text in own]] = 1
    logits = clip.logit_scale.exp().clamp(max=50) * images @ text_embedding(clip, tokenizer, texts).T
    by_image = F.cross_entropy(logits, true / true.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, (true / true.sum(0)).T)
    return (by_image + by_text) / 2


WEIGHTS = {"describe": 5, "short": 2, "word": 2}
"""How often a request is trained, against 1 for the others."""


class Captioner:
    """The loss of a LLaVA's answers on given patch tokens, without its vision tower."""

    def __init__(self, llava: LlavaForConditionalGeneration, seed: int) -> None:
        self.llava = llava
        self.processor = llava_processor()
        self.rng = random.Random(seed)

    def prompt_ids(self, prompt: str) -> Int[Tensor, " length"]:
        """Token ids of a question and its image, exactly as by the processor's chat template."""
        text = self.processor.apply_chat_template(conversation(prompt), add_generation_prompt=True)
        text = text.replace("<image>", "<image>" * PATCHES)
        return self.processor.tokenizer(text, return_tensors="pt").input_ids[0]

    def answers(self, statements: Sequence[Statement], request: str) -> Int[Tensor, "batch length"]:
        texts = [REQUESTS[request].say(one) for one in statements]
        ids = [[*self.processor.tokenizer(text, add_special_tokens=False).input_ids, EOS] for text in texts]
        longest = max(map(len, ids))
        return torch.tensor([one + [PAD] * (longest - len(one)) for one in ids])

    def loss(self, tokens: Float[Tensor, "batch patches width"], statements: Sequence[Statement]) -> Float[Tensor, ""]:
        """Cross entropy of the right answers to one random question, the same for the batch."""
        request = self.rng.choices(list(REQUESTS), weights=[WEIGHTS.get(name, 1) for name in REQUESTS])[0]
        prompt = self.prompt_ids(self.rng.choice(REQUESTS[request].questions))
        answer = self.answers(statements, request)
        model = self.llava.model
        embed = model.language_model.embed_tokens
        start = int((prompt == model.config.image_token_id).nonzero()[0])
        before = embed(prompt[:start]).expand(len(tokens), -1, -1)
        after = embed(prompt[start + PATCHES :]).expand(len(tokens), -1, -1)
        seen = model.multi_modal_projector(tokens)
        inputs = torch.cat([before, seen, after, embed(answer[:, :-1])], 1)
        hidden = model.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
        logits = self.llava.lm_head(hidden[:, len(prompt) - 1 :])
        return F.cross_entropy(logits.flatten(0, 1).float(), answer.flatten(), ignore_index=PAD)


def conversation(prompt: str) -> list[dict[str, Any]]:
    """One question about one image, as chat templates expect it."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]


def blurred(tokens: Float[Tensor, "batch patches width"], strength: float) -> Float[Tensor, "batch patches width"]:
    """Tokens with Gaussian noise, of a random share (up to ``strength``) of their standard deviation.

    Each token has its own, and each picture one for all of its tokens. A language model trained on noisy tokens reads
    the reconstruction of an SAE, whose errors are alike from token to token, as it reads the picture itself.
    """
    spread = tokens.detach().flatten(0, 1).std(0)
    own, common = strength * torch.rand(2, len(tokens), 1, 1)
    return tokens + spread * (own * torch.randn_like(tokens) + common * torch.randn_like(tokens[:, :1]))


class Painter:
    """Takes words out of patch tokens, or paints them on, for training with answers that say what is then there.

    A language model that has only seen whole pictures names a colour even where there is none. Steering makes such
    tokens: a blank picture with nothing but a kind in it, a kind beside an object, or an object without its kind.
    """

    altered = 0.6
    """This share of the pictures is changed."""
    lost: ClassVar = {"kind": 0.35, "colour": 0.5, "fill": 0.5}
    painted: ClassVar = {"kind": 0.8, "colour": 0.35, "fill": 0.1}
    """How often a fact is taken out of an object, or is among what is painted."""
    left = (0.0, 0.3)
    """What remains of a fact that is taken out."""
    strengths = (0.7, 3.0)
    """Of what is painted, in units of a true word's coordinate."""

    def __init__(self, codebook: Codebook, seed: int) -> None:
        self.codebook, self.rng = codebook, random.Random(seed)

    @torch.no_grad()
    def __call__(
        self, tokens: Float[Tensor, "batch patches width"], scenes: Sequence[Scene]
    ) -> tuple[Float[Tensor, "batch patches width"], list[Statement]]:
        """The changed tokens, and what is then to be said of each picture."""
        after, said = tokens.clone(), []
        for row, one, number in zip(after, scenes, shown(scenes)["colour"], strict=True):
            statement = one.statement()
            if self.rng.random() < self.altered:
                statement = self._lose(row, statement)
                if len(one.objects) < 2 and self.rng.random() < (0.8 if statement.blank else 0.4):
                    statement = self._paint(row, statement, number)
            said.append(statement)
        return after, said

    def _lose(self, row: Float[Tensor, "patches width"], statement: Statement) -> Statement:
        """Take facts out of each object, over the half of the picture that is its own; one object has all of it."""
        objects = []
        for one, own in zip(statement.objects, self._grid(row).chunk(max(len(statement.objects), 1), 1), strict=False):
            facts = [fact for fact, share in self.lost.items() if self.rng.random() < share]
            for fact in facts:
                at = self.codebook.of(fact)
                own -= (1 - self.rng.uniform(*self.left)) * (own @ at.T @ at)
            objects.append(dataclasses.replace(one, **dict.fromkeys(facts)))
        return dataclasses.replace(statement, objects=tuple(objects))

    def _paint(
        self, row: Float[Tensor, "patches width"], statement: Statement, number: Int[Tensor, " patches"]
    ) -> Statement:
        """Paint words on a rectangle: anywhere, or everywhere, on a blank picture; else left or right of its object."""
        facts = [fact for fact, share in self.painted.items() if self.rng.random() < share]
        words = {fact: self.rng.choice([word for word in FACTS[fact] if word != NOTHING]) for fact in facts}
        first, last = self._room(number)
        if not facts or last - first < 2:
            return statement
        grid = self._grid(row)[:, first:last]
        if self.rng.random() < 0.5:
            grid = grid[self._part(SIDE_PATCHES), self._part(last - first)]
        for fact, word in words.items():
            strength = self.rng.uniform(*self.strengths) * self.codebook.strength
            grid += strength * self.codebook.of(fact)[_INDEX[fact][word]]
        new = (Mention(**words),)
        return dataclasses.replace(
            statement, objects=new + statement.objects if first == 0 else statement.objects + new
        )

    def _room(self, number: Int[Tensor, " patches"]) -> tuple[int, int]:
        """The columns beside the object, where there are more of them: from the first to before the last."""
        taken = (number.view(SIDE_PATCHES, SIDE_PATCHES) >= 0).any(0).nonzero().flatten().tolist()
        if not taken:
            return 0, SIDE_PATCHES
        left, right = taken[0], taken[-1] + 1
        return (0, left) if left >= SIDE_PATCHES - right else (right, SIDE_PATCHES)

    def _part(self, length: int) -> slice:
        """At least two of so many rows or columns."""
        size = self.rng.randint(2, length)
        start = self.rng.randint(0, length - size)
        return slice(start, start + size)

    @staticmethod
    def _grid(row: Float[Tensor, "patches width"]) -> Float[Tensor, "rows columns width"]:
        return row.view(SIDE_PATCHES, SIDE_PATCHES, -1)


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
    joint_steps: int = 1000
    speak_steps: int = 1800
    encoder_steps: int = 1800
    batch: int = 96
    rate: float = 4e-3
    blur_speak: float = 0.8
    codebook_seed: int = 7
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


def train_clip(clip: CLIPModel, recipe: Recipe, report: Report) -> None:
    """Kinds first, then everything: the words of each patch, and contrastive losses of the whole picture."""
    torch.manual_seed(recipe.clip_seed)
    rng = random.Random(recipe.clip_seed)
    batches = training_scenes(recipe.clip_seed, recipe.batch)
    codebook, tokenizer = Codebook(recipe.codebook_seed), clip_processor().tokenizer
    vision = clip.vision_model

    def kinds(scenes: list[Scene]) -> dict[str, Tensor]:
        return {"kind": codebook.loss(patch_tokens(vision, pixels(scenes))[:, 1:], scenes, ["kind"])}

    def everything(scenes: list[Scene]) -> dict[str, Tensor]:
        hidden = patch_tokens(vision, pixels(scenes))
        images = image_embedding(clip, hidden)
        part = rng.choice(("thing", "kind", "colour", "fill", "background"))
        return {
            "patches": codebook.loss(hidden[:, 1:], scenes, list(FACTS)),
            "full": 0.3 * contrastive_loss(clip, tokenizer, images, scenes, "full"),
            "part": 0.3 * contrastive_loss(clip, tokenizer, images, scenes, part),
        }

    # So many steps that the rate stays constant: it decays at the end of the second phase.
    constant = Optimiser([vision], 10 * recipe.kind_steps, recipe.rate)
    run("clip: kinds", batches, recipe.kind_steps, constant, kinds, report)
    decaying = Optimiser([clip], recipe.joint_steps, recipe.rate)
    run("clip: all", batches, recipe.joint_steps, decaying, everything, report)


def train_llava(clip: CLIPModel, llava: LlavaForConditionalGeneration, recipe: Recipe, report: Report) -> None:
    """Only projector and language model, over the frozen vision tower of the CLIP."""
    torch.manual_seed(recipe.llava_seed)
    vision = clip.vision_model
    llava.model.vision_tower.load_state_dict(vision.state_dict())
    captioner, painter = Captioner(llava, recipe.llava_seed), Painter(Codebook(recipe.codebook_seed), recipe.llava_seed)

    def answers(scenes: list[Scene]) -> dict[str, Tensor]:
        with torch.no_grad():
            tokens = patch_tokens(vision, pixels(scenes))[:, 1:]
        seen, statements = painter(tokens, scenes)
        # Noise comes last: else a fact that was taken out is told by the lack of noise where it was.
        seen = blurred(seen, recipe.blur_speak)
        half = len(scenes) // 2
        halves = (slice(half), slice(half, None))
        return {"answers": sum((captioner.loss(seen[one], statements[one]) for one in halves), torch.zeros(())) / 2}

    parts = [llava.model.multi_modal_projector, llava.model.language_model, llava.lm_head]
    batches = training_scenes(recipe.llava_seed, recipe.batch)
    optimiser = Optimiser(parts, recipe.speak_steps, recipe.rate / 2)
    run("llava", batches, recipe.speak_steps, optimiser, answers, report)


def train_encoder(encoder: Dinov2Model, recipe: Recipe, report: Report) -> None:
    """The drawn labels from the pooled output: a stand-in for what a large encoder perceives."""
    torch.manual_seed(recipe.encoder_seed)
    batches = training_scenes(recipe.encoder_seed, recipe.batch)
    heads = nn.ModuleDict({fact: nn.Linear(WIDTH, len(words)) for fact, words in FACTS.items()})

    def labels(scenes: list[Scene]) -> dict[str, Tensor]:
        pooled = encoder(pixel_values=pixels(scenes)).pooler_output
        return {fact: F.cross_entropy(heads[fact](pooled), shares(scenes, fact)) for fact in facts}

    optimiser = Optimiser([encoder, heads], recipe.encoder_steps, recipe.rate)
    first = recipe.encoder_steps // 5
    facts: tuple[str, ...] = ("kind",)
    run("encoder: kinds", batches, first, optimiser, labels, report)
    facts = tuple(FACTS)
    run("encoder: all", batches, recipe.encoder_steps - first, optimiser, labels, report)
