"""Figures of what scoring found: MS beside its controls, depth by Matryoshka group, top images."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from engine.errors import UserError, counted
from engine.images.thumbnails import Thumbnails
from engine.neurons.cropping import Frame
from engine.neurons.file import Neurons
from engine.neurons.labels import Labels
from engine.numbers import number
from engine.report.figures.style import COLOURS, CONTROL, legend, note, panels
from engine.report.pictures import GRID, heat_of
from engine.reporter import Reporter

PICTURE = 192  # pixels: sharp at 300 dots an inch where eight stand in 6.75 inches
MATCHED = "matched raw neurons"
APART = 0.1  # groups, between the bars of SAEs
DEVIATES = 1.96  # standard errors, each side of a mean of many latents


def ms_figure(scored: Sequence[Neurons], width: float) -> Figure:
    """MS by rank, as the paper draws it (arXiv 2504.02821): latents, and their matched raw neurons, each sorted.

    Only latents for which both have an MS, so that the two curves are of the same ones.
    """
    figure, (ranked, gained) = panels(width, 2)
    sizes = []
    for neurons, colour in zip(scored, _colours(scored), strict=True):
        both = ~np.isnan(neurons.ms) & ~np.isnan(neurons.matched)
        if not both.any():
            raise UserError(f"{neurons.path.name} has no latent with an MS and a matched neuron: score more images.")
        ms, matched = neurons.ms[both], neurons.matched[both]
        share = (np.arange(len(ms)) + 0.5) / len(ms)
        name = neurons.summary.sae
        ranked.plot(share, np.sort(ms)[::-1], color=colour, label=name)
        control = f"{name}: {MATCHED}" if len(scored) == 1 else None
        ranked.plot(share, np.sort(matched)[::-1], color=colour, linestyle=":", label=control)
        gained.plot(share, np.sort(ms - matched)[::-1], color=colour, label=name)
        sizes.append(f"{name}: {counted(len(ms), 'latent')}, {_units(neurons)}")
    _of_each(ranked, scored)
    _levels(ranked, scored)
    gained.axhline(0, color=CONTROL, linewidth=0.6)
    ranked.set(xlabel="share of the latents", ylabel="MS", xlim=(0, 1))
    gained.set(xlabel="share of the latents", ylabel="gain over the matched neuron", xlim=(0, 1))
    legend(figure)
    judges = ", ".join(dict.fromkeys(one.summary.embed_with for one in scored))
    note(figure, f"{'; '.join(sizes)}. Judge: {judges}. Matched: raw neurons that fire on as many of them.")
    return figure


def _of_each(axes: Axes, scored: Sequence[Neurons]) -> None:
    """One entry in the legend for the controls of several SAEs, in the colours of these."""
    if len(scored) > 1:
        axes.plot([], [], color=CONTROL, linestyle=":", label=f"{MATCHED} of each")


def _units(neurons: Neurons) -> str:
    """Of what MS is."""
    images, patches = counted(neurons.summary.images, "image"), neurons.summary.patches
    return images if patches is None else f"{patches:,} patches of {images}"


def _levels(axes: Axes, scored: Sequence[Neurons]) -> None:
    """Means of what has no sparsity: raw neurons, and all pairs of images; one line each where all scores agree."""
    for label, style, value in (
        ("raw neurons, mean", "--", lambda one: one.summary.ms.raw.mean),
        ("all pairs of images", "-.", lambda one: one.summary.ms.baseline),
    ):
        values = list(dict.fromkeys(value(one) for one in scored))
        if len(values) == 1 and values[0] is not None:
            axes.axhline(values[0], color=CONTROL, linestyle=style, linewidth=0.8, label=label)


def hierarchy_figure(scored: Sequence[Neurons], width: float, lacking: Sequence[str] = ()) -> Figure:
    """Depth in the taxonomy, and MS, by Matryoshka group: means over latents, with 95 % of the normal distribution.

    All of ``scored`` have depths; ``lacking``: SAEs that were asked for and have none.
    """
    figure, (deep, mono) = panels(width, 2)
    sizes, random = [], {}
    for order, (neurons, colour) in enumerate(zip(scored, _colours(scored), strict=True)):
        found = neurons.summary.hierarchy
        if found is None:
            raise UserError(f"{neurons.path.name} has no depths: score images with a taxonomy (folders in folders).")
        name, depth, group = neurons.summary.sae, neurons.depth, neurons.group
        aside = min(APART, 0.8 / len(scored)) * (order - (len(scored) - 1) / 2)
        _by_group(deep, depth, group, aside, colour, "-", name)
        _by_group(mono, neurons.ms, group, aside, colour, "-", name)
        _by_group(mono, neurons.matched, group, aside, colour, ":", f"{name}: {MATCHED}" if len(scored) == 1 else None)
        random[name] = (found.expected, colour)
        trend = f", trend rho {number(found.trend.rho, 3)} (p {number(found.trend.p, 2)})" if found.trend.rho else ""
        left_out = int(np.isnan(depth).sum())
        sizes.append(f"{name}: {counted(len(depth) - left_out, 'latent')}, {left_out:,} left out{trend}")
    _of_each(mono, scored)
    _random(deep, random)
    last = max(int(neurons.group.max()) for neurons in scored)
    for axes, label in ((deep, "depth"), (mono, "MS")):  # groups without a value have their place, too
        axes.set(xlabel="Matryoshka group, the coarsest first", ylabel=label, xlim=(-0.5, last + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure)
    without = f" Without depths: {', '.join(lacking)}." if lacking else ""
    note(figure, f"{'; '.join(sizes)}.{without} Bars: 95 % of the mean over latents.")
    return figure


def _random(axes: Axes, expected: Mapping[str, tuple[float | None, str]]) -> None:
    """The depth of images drawn at random beside each SAE, by name, in its colour; once where it is the same of all."""
    if len({value for value, _ in expected.values()}) == 1 and len(expected) > 1:
        expected = {"": (next(iter(expected.values()))[0], CONTROL)}
    for name, (value, colour) in expected.items():
        if value is not None:
            label = f"{name}: random images" if name else "random images"
            axes.axhline(value, color=colour, linestyle="--", linewidth=0.8, label=label)


def _by_group(
    axes: Axes, values: np.ndarray, group: np.ndarray, aside: float, colour: str, style: str, label: str | None
) -> None:
    rows = [(g, values[(group == g) & ~np.isnan(values)]) for g in np.unique(group).tolist()]
    known = [(g, of.mean(), DEVIATES * of.std(ddof=1) / math.sqrt(len(of)) if len(of) > 1 else math.nan)
             for g, of in rows if len(of)]  # fmt: skip
    if known:
        place, mean, half = (np.array(column) for column in zip(*known, strict=True))
        axes.errorbar(
            place + aside, mean, yerr=half, color=colour, linestyle=style, marker="o", markersize=3, capsize=2,
            elinewidth=0.8, label=label,
        )  # fmt: skip


def top_images_figure(
    neurons: Neurons, latents: Sequence[int], pictures: int, width: float, reporter: Reporter
) -> Figure:
    """A row a latent: what it is called, its MS beside its matched neuron's, and the images that fire it most.

    Where there are maps, a frame stands around the strongest patch; where crops were judged, around its crop.
    """
    thumbnails = Thumbnails(neurons.summary.settings.images, PICTURE)
    labels = Labels.of(neurons.path, neurons.summary.sae, neurons.sae_sha256)
    side = width / (pictures + 2)
    figure = Figure(figsize=(width, side * len(latents) + 0.3), layout="constrained")
    grid = figure.subplots(
        len(latents), pictures + 1, squeeze=False, gridspec_kw={"width_ratios": [2, *([1] * pictures)]}
    )
    missing = 0
    for row, latent in enumerate(latents):
        reporter.check()
        reporter.progress(row, len(latents), "latents")
        called = labels.text(latent) or " · ".join(neurons.names_of(latent)[:2])
        scores = f"MS {number(neurons.ms[latent], 2)} ± {number(_half(neurons, latent), 2)}"
        control = f"matched {number(neurons.matched[latent], 2)}"
        support = neurons.summary.in_units(int(neurons.support[latent]))
        told = grid[row][0]
        told.text(0, 0.5, f"{latent}  {called}\n{scores}\n{control}\n{support}", va="center", fontsize=6)
        maps = neurons.maps(latent)
        strongest = [_part(place, maps.shape[1:]) for _, place, _ in heat_of(maps)] if maps is not None else []
        frames = neurons.frames(latent) or strongest
        for axes in grid[row]:
            axes.set_axis_off()
        for place, (axes, image) in enumerate(zip(grid[row][1:], neurons.top(latent), strict=False)):
            try:
                pixels = thumbnails.load(image.path)
            except (UserError, OSError):
                missing += 1
                continue
            axes.imshow(pixels)
            if frames and (frame := frames[place]):
                _frame(axes, frame, pixels.shape[:2])
    judge = f"{_units(neurons)}, judge {neurons.summary.embed_with}"
    lacking = f" {counted(missing, 'picture')} could not be read." if missing else ""
    note(figure, f"{neurons.summary.sae}: {judge}. Matched: a raw neuron that fires on as many of them.{lacking}")
    return figure


def _part(place: int, grid: tuple[int, ...]) -> Frame:
    rows, columns = (min(side, GRID) for side in grid)  # as heat_of reduces it
    row, column = divmod(place, columns)
    return column / columns, row / rows, (column + 1) / columns, (row + 1) / rows


def _frame(axes: Axes, part: Frame, pixels: tuple[int, ...]) -> None:
    left, top, right, bottom = (share * side for share, side in zip(part, pixels[::-1] * 2, strict=True))
    corner = (left - 0.5, top - 0.5)
    axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=COLOURS[1], linewidth=0.8))


def _half(neurons: Neurons, latent: int) -> float:
    return float(neurons.high[latent] - neurons.low[latent]) / 2


def _colours(of: Sequence[object]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(of))]
