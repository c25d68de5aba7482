"""The figure of what strengths of latents gain and cost."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from engine.errors import UserError, counted
from engine.metrics.means import mean_of
from engine.metrics.results import Interval
from engine.numbers import exact
from engine.report.figures.style import COLOURS, CONTROL, legend, note, panels
from engine.steer.results import Condition, Dose, DosePoint, Steerability

_OTHERS: Mapping[Condition, tuple[str, str]] = {
    "random_latent": ("s", "random latent"),
    "random_direction": ("^", "random direction of equal norm"),
}
"""Controls of steering that are drawn: a mark, and what they are called."""


def dose_figure(results: Sequence[Steerability], width: float) -> Figure:
    """Concept score and damage over strength, in multiples of each latent's maximum: the mean over latents with its
    95 % interval (engine.metrics.means), thin lines for each of them. Dashed: the SAE attached, no latent changed. With
    bars: random latents and directions of equal norm, at the one strength at which they were tried."""
    figure, (gain, cost) = panels(width, 2)
    sizes, strengths = [], set[float]()
    for number, (result, name) in enumerate(zip(results, called(results), strict=True)):
        if not result.doses:
            raise UserError(f"{result.path} has no doses: run saetui steerability with --part dose.")
        maxima = {one.latent: one.maximum for one in result.latents}
        colour = COLOURS[number % len(COLOURS)]
        for axes, quantity in ((gain, "concept"), (cost, "damage")):
            _curves(axes, result.doses, maxima, quantity, colour, f"{name} in {result.vlm}")
        _others(gain, result, colour, name)
        strengths |= {_multiple(one, maxima[dose.latent]) for dose in result.doses for one in _steered(dose)}
        recommended = [one for one in result.doses if one.recommended is not None]
        sizes.append(
            f"{name}: {counted(len(result.doses), 'latent')}, {len(recommended):,} of them with a gain for "
            f"{result.settings.most_damage:g} nats at most"
        )
    for axes, label in ((gain, "cosine with the concept"), (cost, "damage: KL of the next token, nats")):
        axes.set(xlabel="strength, in maxima of the latent", ylabel=label, xscale="log")
        axes.set_xticks(sorted(strengths), [exact(one) for one in sorted(strengths)])
        axes.xaxis.set_minor_locator(NullLocator())
    legend(figure)
    marks = "Bands and bars: 95 % of the mean over latents. Thin: single latents."
    note(figure, f"{'; '.join(sizes)}. {marks} Random: tried at one strength, for the word alone.")
    return figure


def called(results: Sequence[Steerability]) -> list[str]:
    """The SAE of each; that of its folder where several are of one SAE."""
    saes = [one.sae for one in results]
    return [one.sae if saes.count(one.sae) == 1 else Path(one.path).parent.name for one in results]


def _curves(
    axes: Axes, doses: Sequence[Dose], maxima: dict[int, float], quantity: str, colour: str, label: str
) -> None:
    by_strength: dict[float, list[float]] = {}
    for dose in doses:
        points = _steered(dose)
        strengths = [_multiple(one, maxima[dose.latent]) for one in points]
        values = [getattr(one, quantity) for one in points]
        axes.plot(strengths, values, color=colour, linewidth=0.3, alpha=0.4)
        for strength, value in zip(strengths, values, strict=True):
            by_strength.setdefault(strength, []).append(value)
    known = sorted(by_strength)
    means = [mean_of(np.array(by_strength[one])) for one in known]
    axes.plot(known, [one.mean or 0.0 for one in means], color=colour, marker="o", markersize=3, label=label)
    low, high = ([math.nan if end is None else end for end in ends] for ends in zip(*map(_ends, means), strict=True))
    axes.fill_between(known, low, high, color=colour, alpha=0.2, linewidth=0)
    attached = [getattr(one, quantity) for dose in doses for one in dose.points if one.condition == "attached"]
    axes.axhline(float(np.mean(attached)), color=CONTROL, linestyle="--", linewidth=0.8, label="SAE attached")


def _others(axes: Axes, result: Steerability, colour: str, name: str) -> None:
    """Controls that are measured at the strength of the settings alone: the same score of the same picture's word. None
    where that is no one multiple of the maxima."""
    multiples = {round(one.value / one.maximum, 6) for one in result.latents}
    if result.word is None or len(multiples) != 1:
        return
    (multiple,) = multiples
    for one in result.word.conditions:
        if one.condition not in _OTHERS or one.score.mean is None:
            continue
        mark, label = _OTHERS[one.condition]
        low, high = _ends(one.score)
        bar = None if low is None or high is None else [[max(one.score.mean - low, 0)], [max(high - one.score.mean, 0)]]
        axes.errorbar(
            [multiple], [one.score.mean], yerr=bar, color=colour, marker=mark, markerfacecolor="white", markersize=4,
            capsize=2, linestyle="", label=f"{name}: {label}, n {one.score.n:,}",
        )  # fmt: skip


def _ends(found: Interval) -> tuple[float | None, float | None]:
    return found.low, found.high


def _steered(dose: Dose) -> list[DosePoint]:
    return [one for one in dose.points if one.condition == "steered" and one.value is not None]


def _multiple(point: DosePoint, maximum: float) -> float:
    return round((point.value or 0.0) / maximum, 6)
