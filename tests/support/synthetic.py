"""A workspace with plausible scores of any number of latents, made in seconds, for tests of the workbench.

Contents follow from integers and exact arithmetic, so that a seed gives the same ones on any machine.
"""

import json
from pathlib import Path

import numpy as np

from engine.demo.world import write_images
from engine.files import file_sha256, write_text
from engine.images import open_images
from engine.metrics.classes import commonest
from engine.metrics.hierarchy import depths, group_of, hierarchy
from engine.neurons.file import write_neurons
from engine.neurons.names import read_vocabulary
from engine.neurons.results import ScoredImage, Summary
from engine.records import from_json, to_json
from engine.sae.config import WEIGHTS, SAEConfig, write_config
from engine.workspace import MARKER
from tests.support.scores import made_from

NAME, IMAGES = "synthetic", "drawn"
GRID, NAMES, NEAR, BINS, D_TEXT = 4, 5, 8, 24, 128
_WITH_WEIGHTS = 4096  # the most latents for which the SAE has weights
_D = 192  # width of the demo's encoder, which the SAE names as its model


def write_synthetic(folder: Path, w: int = 65_536, images: int = 2_000, top: int = 16, seed: int = 0) -> Path:
    """Write the workspace ``folder``: drawn images, an SAE ``synthetic`` (with weights if it is small), its scores."""
    rng = np.random.default_rng([seed, w, images, top])
    write_text(folder / MARKER, "# Drawn for a test.\n")
    pictures = write_images(folder / "images" / IMAGES, images, seed)
    records = [
        ScoredImage(entry.path, entry.label, _taxonomy(entry.label), f"{number:064x}")
        for number, entry in enumerate(open_images(pictures).entries)
    ]
    groups = tuple(sorted({max(1, w // 16), max(1, w // 4), w}))
    sae = _write_sae(folder / "saes" / NAME, w, groups, rng)
    words = read_vocabulary()
    latents = _latents(w, top, [record.taxonomy for record in records], groups, len(words), rng)
    labels = [record.label for record in records]
    latents["class_image"], latents["class_share"] = commonest(latents["top_images"], labels)
    word_latents, word_scores = _of_words(latents["names"], latents["name_scores"], len(words))
    path = folder / "neurons" / f"{NAME}--{IMAGES}.h5"
    summary = _summary(latents, [record.taxonomy for record in records], groups, str(pictures))
    origin = made_from(NAME, sae)
    mean = np.zeros(D_TEXT)
    write_neurons(path, latents, records, words, word_latents, word_scores, summary, origin, mean)
    return folder


def _taxonomy(label: str | None) -> tuple[str, ...]:
    """Group, kind and fill, from the folder's name."""
    return tuple((label or "").split("_")[1:])


def _write_sae(folder: Path, w: int, groups: tuple[int, ...], rng: np.random.Generator) -> str:
    config = SAEConfig(
        arch="matryoshka-batchtopk", d=_D, w=w, k=8, groups=groups, model="demo", hook="layer:4", tokens="patches"
    )
    write_config(folder, config)
    if w > _WITH_WEIGHTS:
        return "0" * 64
    from safetensors.numpy import save_file

    weights = {
        name: (rng.random(shape) - 0.5).astype(np.float32) for name, shape in config.shapes(threshold=True).items()
    }
    save_file(weights, folder / WEIGHTS)
    return file_sha256(folder / WEIGHTS)


def _top_images(w: int, top: int, paths: list[tuple[str, ...]], rng: np.random.Generator) -> np.ndarray:
    """Top images of each latent, all of one taxon (perhaps the root); some latents have few, some none."""
    taxa = [(), *sorted({path[:depth] for path in paths for depth in range(1, len(path) + 1)})]
    first = np.array([next(n for n, path in enumerate(paths) if path[: len(taxon)] == taxon) for taxon in taxa])
    size = np.array([sum(path[: len(taxon)] == taxon for path in paths) for taxon in taxa])  # they are consecutive
    taxon = rng.integers(len(taxa), size=w)
    number = np.minimum(size[taxon], np.where(rng.random(w) < 0.02, 0, np.where(rng.random(w) < 0.05, 3, top)))
    step = 1 + (rng.random(w) * (size[taxon] // np.maximum(number, 1))).astype(np.int64)
    step = np.minimum(step, np.maximum(size[taxon] // np.maximum(number, 1), 1))  # no image twice
    place = (rng.integers(size[taxon])[:, None] + step[:, None] * np.arange(top)) % size[taxon][:, None]
    return np.where(np.arange(top) < number[:, None], first[taxon][:, None] + place, -1)


def _latents(
    w: int, top: int, paths: list[tuple[str, ...]], groups: tuple[int, ...], words: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    top_images = _top_images(w, top, paths, rng)
    fires = top_images[:, 0] >= 0
    support = np.where(fires, np.minimum((top_images >= 0).sum(axis=1) + rng.integers(0, 90, w), len(paths)), 0)
    ms = np.where(support >= 2, rng.random(w) * 1.2 - 0.2, np.nan)
    half = 0.01 + 0.2 / np.maximum(support, 1)
    maximum = np.where(fires, 1 + 30 * rng.random(w), 0)
    fading = 1 - np.arange(top) / (2 * top)
    activations = np.where(top_images >= 0, maximum[:, None] * fading, 0)
    maps = np.zeros((w, top, GRID * GRID), np.float16)
    cells = rng.integers(0, GRID * GRID, (w, top, 1))
    np.put_along_axis(maps, cells, activations[..., None].astype(np.float16), axis=2)
    depth, mode = depths(top_images, paths)
    others = (np.arange(w)[:, None] + rng.integers(1, max(w, 2), (2, w, NEAR))) % w
    scores = (0.9 - 0.1 * np.arange(NEAR)) * rng.random((w, 1))
    return {
        "ms": ms,
        "low": ms - half,
        "high": ms + half,
        "support": support,
        "effective_support": support * 0.75,
        "matched": ms * 0.5 + 0.1 * rng.random(w),
        "token_frequency": support / (len(paths) * GRID * GRID),
        "image_frequency": support / len(paths),
        "mean": maximum * 0.5,
        "maximum": maximum,
        "histogram": support[:, None] // (2 + np.arange(BINS)),
        "group": group_of(groups, w),
        "depth": depth,
        "depth_mode": mode,
        "partner": others[0, :, 0],
        "jaccard": scores[:, 0],
        "top_images": top_images,
        "top_activations": activations,
        "maps": maps.reshape(w, top, GRID, GRID),
        "names": np.where(fires[:, None], (rng.integers(words, size=(w, 1)) + np.arange(NAMES) * 7) % words, -1),
        "name_scores": np.where(fires[:, None], (0.9 - 0.1 * np.arange(NAMES)) * rng.random((w, 1)), np.nan),
        "near": others[0],
        "near_cosines": scores,
        "cofiring": others[1],
        "cofiring_scores": scores[::-1],
        "directions": (2 * rng.integers(0, 2, (w, D_TEXT)) - 1) / D_TEXT**0.5,
    }


def _of_words(names: np.ndarray, scores: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray]:
    """For each word, the latents named by it with the largest cosines, padded with -1 and NaN."""
    latent, place = np.nonzero(names >= 0)
    word, score = names[latent, place], scores[latent, place]
    order = np.lexsort((latent, -score, word))
    word, score, latent = word[order], score[order], latent[order]
    rank = np.arange(len(word)) - np.searchsorted(word, word)
    kept = rank < NEAR
    of_words, of_scores = np.full((words, NEAR), -1), np.full((words, NEAR), np.nan)
    of_words[word[kept], rank[kept]], of_scores[word[kept], rank[kept]] = latent[kept], score[kept]
    return of_words, of_scores


def _summary(
    latents: dict[str, np.ndarray], paths: list[tuple[str, ...]], groups: tuple[int, ...], images: str
) -> Summary:
    """What ``score`` says of such latents; rounded, as sums may differ in their last digits between machines."""
    ms, fires = latents["ms"], latents["support"] > 0
    scored = ms[~np.isnan(ms)]
    spread = {"mean": scored.mean(), "best": scored.max(), "worst": scored.min()}
    raw = {"mean": 0.02, "best": 0.03, "worst": 0.01}
    whole = {
        "sae": NAME,
        "images": len(paths),
        "broken": 0,
        "tokens": "patches",
        "pooling": "max",
        "model": "demo",
        "hook": "layer:4",
        "embed_with": "demo:encoder",
        "ms": {
            "sae": spread | {"latents": len(scored)},
            "raw": raw,
            "raw_relu": raw,
            "matched": {"mean": np.nanmean(latents["matched"]), "share_beaten": 0.9, "latents": len(scored)},
            "baseline": 0.015,
            "lift": scored.mean() - 0.015,
            "median_support": np.median(latents["support"][fires]),
        },
        "alive": int(fires.sum()),
        "dead": int((~fires).sum()),
        "frequency": {"l0": latents["token_frequency"].sum(), "dense": 0.0, "median": 0.001},
        "hierarchy": to_json(hierarchy(latents["top_images"], paths, groups, ms)),
        "uniqueness": {"latents": int(fires.sum()), "pairs": 0, "above_zero": 0, "above_half": 0},
        "named": int(fires.sum()),
        "settings": {"sae": NAME, "images": images, "embed_with": "demo:encoder", "name": IMAGES, "pooling": "max"},
    }
    rounded = json.loads(json.dumps(whole, default=float), parse_float=lambda text: round(float(text), 9))
    return from_json(Summary, rounded, "The summary")
