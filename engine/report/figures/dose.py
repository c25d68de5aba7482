"""The figure of what strengths of latents gain and cost."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from engine.errors import UserError, counted
from engine.numbers import exact
from engine.report.figures.style import COLOURS, CONTROL, legend, note, panels
from engine.steer.results import Dose, DosePoint, Steerability


def dose_figure(results: Sequence[Steerability], width: float) -> Figure:
    """Concept score and damage over strength, in multiples of each latent's maximum: the mean over latents, thin lines
    for each of them. Dashed: the SAE attached, no latent changed."""
    figure, (gain, cost) = panels(width, 2)
    sizes, strengths = [], set[float]()
    for number, result in enumerate(results):
        if not result.doses:
            raise UserError(f"{result.path} has no doses: run saetui steerability with --part dose.")
        maxima = {one.latent: one.maximum for one in result.latents}
        colour, label = COLOURS[number % len(COLOURS)], f"{result.sae} in {result.vlm}"
        for axes, quantity in ((gain, "concept"), (cost, "damage")):
            _curves(axes, result.doses, maxima, quantity, colour, label)
        strengths |= {_multiple(one, maxima[dose.latent]) for dose in result.doses for one in _steered(dose)}
        recommended = [one for one in result.doses if one.recommended is not None]
        sizes.append(
            f"{result.sae}: {counted(len(result.doses), 'latent')}, {len(recommended):,} of them with a gain for "
            f"{result.settings.most_damage:g} nats at most"
        )
    for axes, label in ((gain, "cosine with the concept"), (cost, "damage: KL of the next token, nats")):
        axes.set(xlabel="strength, in maxima of the latent", ylabel=label, xscale="log")
        axes.set_xticks(sorted(strengths), [exact(one) for one in sorted(strengths)])
        axes.xaxis.set_minor_locator(NullLocator())
    legend(figure)
    note(figure, f"{'; '.join(sizes)}. Thin: single latents.")
    return figure


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
    axes.plot(known, [np.mean(by_strength[one]) for one in known], color=colour, marker="o", markersize=3, label=label)
    attached = [getattr(one, quantity) for dose in doses for one in dose.points if one.condition == "attached"]
    axes.axhline(float(np.mean(attached)), color=CONTROL, linestyle="--", linewidth=0.8, label="SAE attached")


def _steered(dose: Dose) -> list[DosePoint]:
    return [one for one in dose.points if one.condition == "steered" and one.value is not None]


def _multiple(point: DosePoint, maximum: float) -> float:
    return round((point.value or 0.0) / maximum, 6)
