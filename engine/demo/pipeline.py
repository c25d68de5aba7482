"""The whole loop on the drawn world: images -> activations -> SAE -> scores -> concepts -> steered answers.

The stages are the ordinary ones, on the shipped models. The world's exact labels then show what real data cannot: how
well the best latent detects a concept, and whether turning it up or down adds its word to the answer or removes it.
Latents are chosen on the training images; all rates are measured on the test images.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image

from engine.activations.extract import extract
from engine.activations.store import Store
from engine.config import DemoSettings, ExtractSettings, ScoreSettings, TrainSettings
from engine.demo.judge import mentions
from engine.demo.results import ConceptFound, DemoDone, ExtractedImages, HeldOutFigures, SteeringRates
from engine.demo.talk import parse
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, KINDS
from engine.demo.world import SIDE, UNSEEN, Scene, blank, covers, read_scene, write_images, write_masks
from engine.errors import UserError, counted, keeping
from engine.files import write_text
from engine.links import check_own
from engine.metrics.detection import auroc
from engine.metrics.localisation import localisation
from engine.metrics.results import Localisation
from engine.models.vlm import VLM, load_vlm
from engine.neurons.file import Neurons
from engine.neurons.score import score
from engine.reporter import Reporter, StageBegan
from engine.sae.model import SAE
from engine.sae.train import train
from engine.steer.generate import answers
from engine.steer.interventions import Intervention
from engine.workspace import MARKER, Workspace

DEFAULTS = """# What the commands use in this workspace when a flag is not given.
model = "demo"
embed_with = "demo:encoder"
vlm = "demo"
"""
HOOK = "layer:4"  # of six: the layer that the small LLaVA reads
SAE_NAME = "demo"
STRENGTH = 2.0
"""Inserted latents are clamped to this multiple of their own largest activation on the training images."""
SHADES = (-6, 6)
"""The blank images are every background in these two shades."""
TIE = 0.01
"""Latents whose AUROC differs by less tell a concept equally well."""
SHOWN = 8
"""Test images per kind on which suppression is measured."""
PROMPT = "Describe this image."
ANSWER_TOKENS = 16
BATCH = 64
"""Pictures that are asked about at once."""


@dataclass(frozen=True)
class Concept:
    name: str
    kind: Literal["object", "colour"]
    latent: int
    maximum: float
    """The latent's largest activation on the training images."""
    auroc: float
    """On the test images."""


@dataclass(frozen=True)
class Beside:
    """A picture of one object with free columns of patches on one side of it."""

    image: Image.Image
    kind: str
    tokens: tuple[int, ...]
    """The patches of the free columns."""


def demo(settings: DemoSettings, workspace: Workspace, reporter: Reporter | None = None) -> DemoDone:
    """Run the whole loop and return the summary that ``saetui demo --headless --json`` prints."""
    reporter = reporter or Reporter()
    start = time.monotonic()
    reporter.event(StageBegan("drawing"))
    if not (workspace.root / MARKER).exists():
        write_text(workspace.root / MARKER, DEFAULTS)
    words = workspace.root / "words.txt"
    write_text(words, "\n".join((*KINDS, *COLOURS, *FILLS, *BACKGROUNDS)) + "\n")
    folders = {split: workspace.root / "images" / split for split in ("train", "test")}
    masks = workspace.root / "masks" / "test"
    for folder in (*folders.values(), masks):
        check_own(folder)
    seed, test_count = UNSEEN + 2 * settings.seed, max(settings.pictures // 4, 1)
    write_images(folders["train"], settings.pictures, seed, reporter)
    write_images(folders["test"], test_count, seed + 1, reporter)
    write_masks(masks, test_count, seed + 1, reporter)

    stores = {}
    for split, folder in folders.items():
        ask = ExtractSettings(model="demo", images=str(folder), at=(HOOK,), tokens="patches", name=f"demo-{split}")
        extracted = extract(ask, workspace, reporter)
        stores[split] = Store.open(workspace.activations(ask.name))
        if split == "train":
            rows = extracted

    trained = train(_sae_settings(settings), workspace, reporter)
    ask_scores = ScoreSettings(
        sae=SAE_NAME,
        images=str(folders["test"]),
        embed_with="demo:encoder",
        name="test",
        vocabulary=str(words),
        objects=str(masks),
    )
    with keeping("the SAE is kept"):
        scored = score(ask_scores, workspace, reporter)

    reporter.event(StageBegan("finding concepts"))
    sae = SAE.load(workspace.sae(SAE_NAME))
    train_values, train_labels = _labelled(sae, stores["train"], folders["train"])
    test_values, test_labels = _labelled(sae, stores["test"], folders["test"])
    concepts = choose(train_values, train_labels, test_values, test_labels)
    alive = np.flatnonzero((train_values > 0).any(0))
    with Neurons.open(scored.path) as neurons:
        found_where = localised(neurons, concepts, folders["test"])

    with keeping("all but the answers is kept"):
        found, rates = steering_rates(
            load_vlm("demo"), sae, concepts, train_values.max(0), alive, folders["test"], settings.seed, reporter
        )
    return DemoDone(
        seconds=round(time.monotonic() - start, 1),
        extract=ExtractedImages(rows.images, rows.rows),
        sae=HeldOutFigures(trained.fve, trained.l0, trained.dead, trained.rows),
        ms=scored.ms,
        concepts=found,
        steering=rates,
        localisation=found_where,
    )


def _sae_settings(settings: DemoSettings) -> TrainSettings:
    return TrainSettings(
        activations="demo-train",
        name=SAE_NAME,
        arch="matryoshka-batchtopk",
        expansion=1,
        k=2,  # the background has one word, an object three
        groups=(0.5, 1.0),
        steps=settings.steps,
        batch_size=2048,
        lr=6e-3,
        warmup=100,
        decay=0.3,
        dead_after=15_000,
        seed=settings.seed,
    )


def _labelled(sae: SAE, store: Store, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pooled latents and concept labels of the same images: (image, latent) float32, (image, concept) bool."""
    indices, values = pooled_latents(sae, store)
    facts = {line["path"]: line for line in _lines(folder)}
    shown = [facts[store.images[i].path] for i in indices]
    kinds = [[kind in one["kinds"] for kind in KINDS] for one in shown]
    colours = [[colour in one["colours"] for colour in COLOURS] for one in shown]
    return values, np.hstack([np.array(kinds), np.array(colours)])


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def choose(
    train_values: np.ndarray, train_labels: np.ndarray, test_values: np.ndarray, test_labels: np.ndarray
) -> list[Concept]:
    """For each concept, the latent with the highest AUROC on the training images, with its AUROC on the test images.

    Of latents that are as good (within ``TIE``), the one that is the most active on the images of the concept: it
    carries most of it. Values are (image, latent), labels (image, concept) in the order kinds, then colours.
    """
    objects: list[tuple[str, Literal["object", "colour"]]] = [(kind, "object") for kind in KINDS]
    names = [*objects, *((colour, "colour") for colour in COLOURS)]
    for labels in (train_labels, test_labels):
        for (name, _), shown in zip(names, labels.sum(0), strict=True):
            if shown in (0, len(labels)):
                raise UserError(
                    f"There is nothing about {name!r} in {counted(len(labels), 'drawn image')}: give more --pictures."
                )
    found = np.nan_to_num(auroc(train_values, train_labels))
    active = train_values.T @ train_labels / train_labels.sum(0)
    best = np.where(found >= found.max(0) - TIE, active, -1).argmax(0)
    on_test = auroc(test_values[:, best], test_labels)
    return [
        Concept(name, kind, int(best[i]), float(train_values[:, best[i]].max()), float(on_test[i, i]))
        for i, (name, kind) in enumerate(names)
    ]


def localised(neurons: Neurons, concepts: list[Concept], test_images: Path) -> Localisation | None:
    """Over the top images of each kind's latent, against the silhouettes of that kind.

    An image without an object of the kind is one that the map misses.
    """
    scenes = {line["path"]: read_scene(line["scene"]) for line in _lines(test_images)}
    maps, objects = [], []
    for concept in (c for c in concepts if c.kind == "object"):
        of_latent = neurons.maps(concept.latent)
        assert of_latent is not None, "patches were scored"
        for top, shown in zip(neurons.top(concept.latent), of_latent, strict=False):
            maps.append(shown.ravel())
            objects.append(_cover(scenes[top.path], concept.name, len(shown)))
    return localisation(np.array(maps), np.array(objects)) if maps else None


def _cover(scene: Scene, kind: str, patches: int) -> list[float]:
    each = [cover for thing, cover in zip(scene.objects, covers(scene, patches), strict=True) if thing.kind == kind]
    return each[0] if each else [0.0] * patches**2


def steering_rates(
    vlm: VLM,
    sae: SAE,
    concepts: list[Concept],
    maxima: np.ndarray,
    alive: np.ndarray,
    test_images: Path,
    seed: int,
    reporter: Reporter,
) -> tuple[tuple[ConceptFound, ...], SteeringRates]:
    """Rates of insertion on blank images and of suppression on images of a kind, with their controls.

    ``maxima``: each latent's largest activation on the training images; ``alive``: the latents that fire on them.
    """
    blanks = [blank(background, shade) for background in BACKGROUNDS for shade in SHADES]
    objects = [c for c in concepts if c.kind == "object"]

    reporter.event(StageBegan("inserting"))
    insert = {c.name: Intervention(latents=((c.latent, STRENGTH * c.maximum),)) for c in concepts}
    inserted = _said(vlm, sae, concepts, [blanks] * len(concepts), insert, reporter)
    rng = np.random.default_rng(seed)
    strangers = {c.name: int(rng.choice(np.setdiff1d(alive, [c.latent]))) for c in objects}
    random = {n: Intervention(latents=((k, STRENGTH * float(maxima[k])),)) for n, k in strangers.items()}
    by_chance = _said(vlm, sae, objects, [blanks] * len(objects), random, reporter)
    attached = answers(vlm, blanks, PROMPT, ANSWER_TOKENS, sae=sae, interventions=Intervention())

    beside = beside_objects(test_images)
    pairs = {c.name: [one for one in beside if one.kind != c.name][:SHOWN] for c in objects}
    both, both_by_chance = (_paired(vlm, sae, objects, pairs, change, reporter) for change in (insert, random))

    reporter.event(StageBegan("suppressing"))
    shown = _single(test_images)
    pictures = [shown[c.name] for c in concepts]
    untouched = _said(vlm, sae, concepts, pictures, {}, reporter)
    zero = {c.name: Intervention(latents=((c.latent, 0.0),)) for c in concepts}
    removed = _said(vlm, sae, concepts, pictures, zero, reporter)
    reconstructed = _said(vlm, sae, concepts, pictures, {c.name: Intervention() for c in concepts}, reporter)

    inserted_rate = {c.name: _mean([names(said, c) for said in inserted[c.name]]) for c in concepts}
    suppressed_rate = {c.name: _gone(untouched[c.name], removed[c.name], c) for c in concepts}
    colours = [c for c in concepts if c.kind == "colour"]
    found = tuple(
        ConceptFound(c.name, c.kind, c.latent, round(c.auroc, 4), inserted_rate[c.name], suppressed_rate[c.name])
        for c in concepts
    )
    return found, SteeringRates(
        strength=STRENGTH,
        inserted=_mean([inserted_rate[c.name] for c in objects]),
        suppressed=_mean([suppressed_rate[c.name] for c in objects]),
        random_control=_mean([names(said, c) for c in objects for said in by_chance[c.name]]),
        attached_control=_mean([names(said, c) for c in objects for said in attached]),
        two_named=both,
        two_named_random=both_by_chance,
        random_any_kind=_mean([_names_any(said) for c in objects for said in by_chance[c.name]]),
        attached_suppressed=_mean([_gone(untouched[c.name], reconstructed[c.name], c) for c in objects]),
        colours_inserted=_mean([inserted_rate[c.name] for c in colours]),
        colours_suppressed=_mean([suppressed_rate[c.name] for c in colours]),
    )


def names(answer: str, concept: Concept) -> bool:
    """Whether the whole answer is grammatical and names the concept."""
    stated = parse(answer)
    return stated is not None and concept.name in (stated.kinds if concept.kind == "object" else stated.colours)


def names_both(answer: str, *kinds: str) -> bool:
    stated = parse(answer)
    return stated is not None and sorted(stated.kinds) == sorted(kinds)


def _names_any(answer: str) -> bool:
    stated = parse(answer)
    return stated is not None and bool(stated.kinds)


def _gone(before: list[str], after: list[str], concept: Concept) -> float | None:
    """Of the answers that say the word before, the share that do not after; None when none says it before."""
    said = [later for earlier, later in zip(before, after, strict=True) if mentions(earlier, concept.name)]
    return _mean([not mentions(later, concept.name) for later in said])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return round(sum(known) / len(known), 4) if known else None


def _said(
    vlm: VLM,
    sae: SAE,
    concepts: list[Concept],
    images: list[list[Image.Image]],
    change: Mapping[str, Intervention],
    reporter: Reporter,
) -> dict[str, list[str]]:
    """Answers per concept about its images, batched together. Without a ``change``, the model is untouched."""
    flat = [image for some in images for image in some]
    each = [change.get(c.name) for c, some in zip(concepts, images, strict=True) for _ in some]
    rest = iter(_answers(vlm, sae, flat, each, reporter))
    return {c.name: [next(rest) for _ in some] for c, some in zip(concepts, images, strict=True)}


def _answers(
    vlm: VLM, sae: SAE, images: list[Image.Image], each: Sequence[Intervention | None], reporter: Reporter
) -> list[str]:
    said: list[str] = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        said += answers(vlm, images[part], PROMPT, ANSWER_TOKENS, sae=sae, interventions=each[part], batch_size=BATCH)
        reporter.progress(len(said), len(images), "answers")
        reporter.check()
    return said


def _paired(
    vlm: VLM,
    sae: SAE,
    objects: list[Concept],
    pairs: Mapping[str, list[Beside]],
    change: Mapping[str, Intervention],
    reporter: Reporter,
) -> float | None:
    """How often an answer names the object and the kind that is inserted beside it, and nothing else."""
    asked = [(c.name, one) for c in objects for one in pairs[c.name]]
    images = [one.image for _, one in asked]
    changes = [replace(change[name], tokens=one.tokens) for name, one in asked]
    said = _answers(vlm, sae, images, changes, reporter)
    return _mean([names_both(answer, name, one.kind) for answer, (name, one) in zip(said, asked, strict=True)])


def beside_objects(folder: Path, grid: int = 8, least: int = 2) -> list[Beside]:
    """The test images of single objects that leave ``least`` columns of a ``grid`` x ``grid`` free on one side."""
    found = []
    for line in _lines(folder):
        objects = read_scene(line["scene"]).objects
        if len(objects) == 1:
            left, right = objects[0].x * grid // SIDE, -(-(objects[0].x + objects[0].size) * grid // SIDE)
            free = range(left) if left >= grid - right else range(right, grid)
            if len(free) >= least:
                tokens = tuple(row * grid + column for row in range(grid) for column in free)
                image = Image.open(folder / line["path"]).convert("RGB")
                found.append(Beside(image, objects[0].kind, tokens))
    return found


def _single(folder: Path) -> dict[str, list[Image.Image]]:
    """For each kind and colour, the first test images that show a single object of it."""
    paths: dict[str, list[Path]] = {name: [] for name in (*KINDS, *COLOURS)}
    for line in _lines(folder):
        if len(line["kinds"]) == 1:
            for name in (*line["kinds"], *line["colours"]):
                paths[name].append(folder / line["path"])
    return {name: [Image.open(path).convert("RGB") for path in some[:SHOWN]] for name, some in paths.items()}


def pooled_latents(
    sae: SAE, store: Store, rows: int = 16_384
) -> tuple[Int[np.ndarray, " image"], Float[np.ndarray, "image latent"]]:
    """The largest activation of each latent over the tokens of each image in ``store``.

    Returns the indices into ``store.images`` and a dense float32 matrix: for image sets that fit in memory.
    """
    indices = np.unique(store.image)
    pooled = np.zeros((len(indices), sae.config.w), np.float32)
    place = np.searchsorted(indices, store.image)
    with torch.inference_mode():
        for start in range(0, store.rows, rows):
            a = sae.encode(torch.from_numpy(store.read(start, min(start + rows, store.rows)))).numpy()
            at = place[start : start + rows]
            begins = np.flatnonzero(np.r_[True, at[1:] != at[:-1]])
            seen = at[begins]
            pooled[seen] = np.maximum(pooled[seen], np.maximum.reduceat(a, begins, axis=0))
    return indices, pooled
