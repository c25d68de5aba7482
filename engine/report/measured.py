"""What was measured of an SAE, each figure beside its control: in numbers, curves and distributions."""

from dataclasses import dataclass

import numpy as np

from engine.artefacts.entries import SAEEntry
from engine.demo.results import DemoDone
from engine.errors import counted
from engine.neurons.file import Neurons
from engine.neurons.quantities import FIELDS
from engine.neurons.results import Summary
from engine.numbers import count, number, percent
from engine.report.charts import Chart, Points, distribution, training_curve
from engine.report.explained import Explained, Number, explanations, of_fields
from engine.runs.trainings import Training
from engine.sae.results import MeasuredStep

MEASURED: tuple[tuple[str, str, tuple[tuple[str, str], ...], bool], ...] = (
    ("FVE", "fve", (("held-out FVE", "fve"),), True),
    ("L0", "l0", (("held-out L0", "l0"),), False),
    ("Dead latents", "dead", (("dead", "dead"),), False),
    ("Dense latents", "dense", (("dense", "dense"),), False),
    ("MS of held-out images", "ms_mean", (("latents", "ms"), ("matched raw neurons", "ms_matched")), False),
)
"""Title, explanation, the fields of a MeasuredStep that are drawn together, and whether the axis ends at 1."""

PLACES = (
    ("strongest patch on the object", "peak", "a random patch", "chance_peak"),
    ("of the map on the object", "mass", "an even map", "chance_mass"),
)
"""Of figures of where maps lie: name and field, and those of the control."""


@dataclass(frozen=True)
class Figure:
    """A number worth a large print."""

    name: str
    number: Number
    controls: tuple[tuple[str, Number], ...] = ()
    """What it is to be compared with, by name."""
    beside: tuple[tuple[str, Number], ...] = ()
    """What belongs to it."""


def training_curves(name: str, training: Training | None, entry: SAEEntry | None) -> list[Chart]:
    history: list[MeasuredStep] = list(training.history) if training else []
    rows = max((one.rows for one in history), default=0)
    held_out = f"{counted(len(history), 'measurement')} on {counted(rows, 'held-out row')}"
    loss: Points = (training.loss if training else []) or [(one.step, one.loss) for one in history]
    charts = [training_curve("Training loss", "loss", f"{counted(len(loss), 'step')} of the log", {"loss": loss})]
    for title, about, fields, whole in MEASURED:
        series = {label: _known(history, field) for label, field in fields}
        charts.append(training_curve(title, about, held_out, series, whole))
    return [chart for chart in charts if chart]


def _known(history: list[MeasuredStep], field: str) -> Points:
    return [(one.step, float(value)) for one in history if (value := getattr(one, field)) is not None]


def distributions(neurons: Neurons, source: str) -> list[Chart]:
    """Of the scores, each with its control on the same axes."""
    summary = neurons.summary
    ms, matched = neurons.ms, neurons.matched
    scored, controlled = int((ms == ms).sum()), int((matched == matched).sum())
    both = f"{counted(scored, 'latent')} with an MS, {controlled:,} with a matched neuron"
    of = f"{counted(neurons.w, 'latent')}, {counted(summary.images, 'image')}"
    gain = ms - matched
    charts = [
        distribution(
            "MS beside its matched control",
            "ms",
            both,
            "MS",
            {"latents": ms, "matched raw neurons": matched},
            {"baseline": summary.ms.baseline},
        ),
        distribution(
            "What each latent has over its control",
            "gain",
            both,
            "MS - MS of the matched neuron",
            {"latents": gain},
            {"no gain": 0.0},
        ),
        distribution(
            "Support",
            "support",
            of,
            f"{'images' if summary.patches is None else 'patches'} that fire it; a matched neuron fires on as many",
            {"latents": neurons.support},
            logarithmic=True,
        ),
        distribution(
            "Frequency on tokens",
            "token_frequency",
            f"{counted(neurons.w, 'latent')}, the scored tokens of {counted(summary.images, 'image')}",
            "share of tokens",
            {"latents": neurons.token_frequency},
            logarithmic=True,
        ),
    ]
    return [chart for chart in charts if chart]


def figures(
    name: str, entry: SAEEntry | None, neurons: Neurons | None, source: str, demo: tuple[DemoDone, str] | None
) -> tuple[list[Figure], dict[str, Explained]]:
    """The figures at the top, and what is told of every number of the page. ``source``: the neurons file; ``demo``: its
    result and its run."""
    training = f"saes/{name}/training.json"
    where: dict[str, tuple[str, str]] = {}
    found: list[Figure] = []
    if entry and entry.result:
        found += _of_training(entry)
    rows = f"{counted(entry.result.rows, 'held-out row')}" if entry and entry.result else ""
    where |= {key: (rows, training) for key in ("fve", "l0", "dead", "dense", "k_asked")}
    where["loss"] = ("one batch a step", f"{training} and the events of its run")
    if neurons is not None:
        found += [*_of_scores(neurons.summary), *_of_places(neurons)]
        where |= _of_neurons(neurons, source)
    if demo:
        where |= _of_demo(*demo)
    return found, explanations(where)


def _of_training(entry: SAEEntry) -> list[Figure]:
    assert entry.result is not None
    result = entry.result
    asked = (("k", Number(count(result.k), "k_asked")),) if result.k else ()
    dense = (("dense", Number(percent(result.dense, 1), "dense")),)
    return [
        Figure("FVE, held-out", Number(number(result.fve, 3), "fve")),
        Figure("L0, held-out", Number(number(result.l0, 1), "l0"), beside=asked),
        Figure("dead", Number(percent(result.dead, 1), "dead"), beside=dense),
    ]


def _of_scores(summary: Summary) -> list[Figure]:
    ms = summary.ms
    return [
        Figure(
            "mean MS",
            Number(number(ms.sae.mean, 3), "ms_mean"),
            (
                ("matched neurons", Number(number(ms.matched.mean, 3), "matched_mean")),
                ("raw neurons", Number(number(ms.raw.mean, 3), "raw_mean")),
                ("baseline", Number(number(ms.baseline, 3), "baseline")),
            ),
        ),
        Figure("beat their matched neuron", Number(percent(ms.matched.share_beaten, 1), "beaten")),
        Figure(
            "latents alive",
            Number(count(summary.alive), "alive"),
            beside=(("dead on these images", Number(count(summary.dead), "dead_scored")),),
        ),
    ]


def _of_places(neurons: Neurons) -> list[Figure]:
    """Whether maps lie on the objects, where those are told: means over the latents, each beside what chance gives."""
    return [
        Figure(
            name,
            Number(percent(_mean(neurons, measured), 1), f"mean_{measured}"),
            ((by_chance, Number(percent(_mean(neurons, chance), 1), f"mean_{chance}")),),
        )
        for name, measured, by_chance, chance in PLACES
        if _known_of(neurons, measured)
    ]


def _known_of(neurons: Neurons, field: str) -> int:
    """Latents that have a value in ``field``."""
    values = neurons.values(FIELDS[field]) if field in FIELDS else np.empty(0)
    return int(np.isfinite(values).sum())


def _mean(neurons: Neurons, field: str) -> float:
    return float(np.nanmean(neurons.values(FIELDS[field])))


def _of_neurons(neurons: Neurons, source: str) -> dict[str, tuple[str, str]]:
    summary = neurons.summary
    ms, said = summary.ms, f"{source}: summary"
    images, latents = counted(summary.images, "image"), counted(neurons.w, "latent")
    units = images if summary.patches is None else f"{summary.patches:,} patches of {images}"
    with_ms = f"{counted(ms.sae.latents, 'latent')} with an MS, {units}"
    with_both = f"{counted(ms.matched.latents, 'latent')} with both, {units}"
    tops = f"{neurons.top_images.shape[1]} top images a latent"
    return of_fields(summary, source) | {
        "class_share": (f"its top images, {neurons.top_images.shape[1]} at most", f"{source}: latents/class_share"),
        "depth": (f"its top images, {neurons.top_images.shape[1]} of them", f"{source}: latents/depth"),
        **{
            f"mean_{field}": (counted(known, "latent"), f"{source}: latents/{field}")
            for _, *fields in PLACES
            for field in fields[::2]
            if (known := _known_of(neurons, field))
        },
        "ms_mean": (with_ms, said),
        "matched_mean": (with_both, said),
        "beaten": (with_both, said),
        "raw_mean": (units, said),
        "baseline": (f"all pairs of {units}", said),
        "alive": (f"{latents}, {images}", said),
        "dead_scored": (f"{latents}, {images}", said),
        "activation": ("one image", f"{source}: latents/top_activations"),
        "strongest": ("the patches of one image", f"{source}: latents/maps"),
        "count": (latents, source),
        "images": (images, f"{source}: images"),
        "group_ms": (f"the latents of this line, {units}", f"{source}: latents/ms"),
        "group_std": (f"the latents of this line, {units}", said),
        "group_matched": (f"the latents of this line, {units}", f"{source}: latents/matched"),
        "group_depth": (f"the latents of this line with all of their {tops}", said),
        "expected_depth": (f"all pairs of {images}", said),
        "rho": (f"latents with all of their {tops}", said),
    }


def _of_demo(done: DemoDone, run: str) -> dict[str, tuple[str, str]]:
    source = f"{run}/status.json"
    kinds = counted(sum(one.kind == "object" for one in done.concepts), "kind")
    return {
        "auroc": ("the test images", source),
        "inserted": (f"mean over {kinds}, each on blank images of every background in two shades", source),
        "suppressed": (f"mean over {kinds}, each on up to 8 test images that show nothing else", source),
        "demo_peak": (f"the top test images of the best latents of {kinds}", source),
        "demo_mass": (f"the top test images of the best latents of {kinds}", source),
    }
