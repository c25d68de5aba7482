"""A workspace of SAEs and what they are held against, whose names say nothing, and scores of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import BaselineSettings
from engine.metrics.by_group import mean_ms
from engine.neurons.concept_results import read_concepts, write_concepts
from engine.neurons.results import LatentSpread
from engine.sae.baseline import baseline
from engine.sae.config import weights_sha256
from engine.sae.train import train
from engine.workspace import Provenance, Source, Workspace
from tests.support.scores import SUMMARY, write_scores
from tests.support.stores import write_store
from tests.support.trainings import activations, chosen

TESTS = Path(__file__).parents[1] / "old_workspace/concepts/jump--old.json"
MS = np.random.default_rng(0).uniform(0.1, 0.6, 32)
MS[5] = np.nan


def make(place: Workspace) -> None:
    """Trainings, and directions."""
    write_store(place.activations("a"), activations()[0], tokens=4)
    write_store(place.activations("b"), activations(seed=1)[0], tokens=4)
    usual = {"steps": 6, "lr": 0.1, "eval_every": 50, "checkpoint_every": 50}
    for name, changes in {
        "m": {},
        "q": {"frozen": "decoder", "eval_every": 3, "keep_state": True},  # what changes no weights
        "c": {"frozen": "soft-decoder"},
        "z": {"frozen": "encoder", "seed": 1},
        "y": {"frozen": "decoder", "k": 4},
        "x": {"frozen": "decoder", "activations": "b"},
        "o": {"seed": 1},
    }.items():
        train(chosen(name=name, **usual | changes), place)
    for name, of, changes in (
        ("d1", "pca", {}),
        ("d2", "kmeans", {"seed": 1}),
        ("d3", "random", {"k": 4}),
        ("d4", "random", {"expansion": 1.0}),
        ("d5", "random", {"activations": "b"}),
    ):
        asked = {"activations": "a", "k": 3, "expansion": 2.0, "holdout": 0.1, "device": "cpu"} | changes
        baseline(BaselineSettings(**{"name": name, "of": of} | asked), place)


def scored(place: Workspace, name: str, ms: np.ndarray, on: str = "test", **changes: Any) -> None:
    """Scores of that SAE as it is now, by a judge and on images as ``changes`` has them."""
    of = {"images": "i" * 64, "embeddings": "e" * 64, "model": "v" * 64}
    folder = place.sae(name)
    sources = [Source(kind, "it", "", changes.get(kind, sha256)) for kind, sha256 in of.items()]
    origin = Provenance((Source("sae", name, str(folder), weights_sha256(folder)), *sources))
    mean, _ = mean_ms(ms)
    spread = LatentSpread(mean.mean, float(np.nanmax(ms)), None, mean.n, low=mean.low, high=mean.high)
    said = replace(SUMMARY, sae=name, ms=replace(SUMMARY.ms, sae=spread), pooling=changes.get("pooling", "max"))
    write_scores(place.neurons(name, on), len(ms), said, origin, ms=ms, matched=ms / 2)


def probed(place: Workspace, name: str, better: float, **changes: Any) -> None:
    """Concept tests of that SAE, whose AUROC are better by so much than those of a file that is there."""
    told, folder = read_concepts(TESTS), place.sae(name)
    rest = [one for one in told.origin.made_from if one.kind != "sae"]
    tests = [replace(one, auroc=replace(one.auroc, mean=one.auroc.mean + better)) for one in told.tests]
    mean = float(np.mean([one.auroc.mean for one in tests]))
    of = Source("sae", name, str(folder), weights_sha256(folder))
    write_concepts(
        replace(
            told,
            path=str(place.root / f"concepts/{name}--t.json"),
            tests=tuple(tests),
            latents=replace(told.latents, auroc=replace(told.latents.auroc, mean=mean)),
            settings=replace(told.settings, **changes),
            origin=Provenance((of, *rest)),
        ),
        place,
    )
