"""The figure of how much of their dictionaries SAEs have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from engine.errors import counted
from engine.records import from_json
from engine.report.figures.style import COLOURS, legend, note, panels
from engine.sae.stability_file import told


@dataclass(frozen=True)
class Nearest:
    cosine: tuple[float, ...]


@dataclass(frozen=True)
class Random:
    there: tuple[float, ...]
    back: tuple[float, ...]
    matched: tuple[float, ...]


@dataclass(frozen=True)
class PairOfSAEs:
    """What a result of ``saetui stability`` says of two SAEs, latent by latent."""

    first: str
    second: str
    there: Nearest
    back: Nearest
    matched: Nearest
    random: Random


def read_pairs(path: Path) -> tuple[PairOfSAEs, ...]:
    """UserError for what is no such result."""
    return from_json(tuple[PairOfSAEs, ...], told(path).get("latents"), str(path))


def stability_figure(pairs: Sequence[PairOfSAEs], width: float) -> Figure:
    """Cosines by rank: of each latent with its nearest in the other SAE, both ways; and of the pairs of a one-to-one
    matching. Dotted: directions drawn at random, as many."""
    figure, (nearest, matched) = panels(width, 2)
    for number, pair in enumerate(pairs):
        colour, label = COLOURS[number % len(COLOURS)], f"{pair.first}, {pair.second}"
        both = ([*pair.there.cosine, *pair.back.cosine], [*pair.random.there, *pair.random.back])
        for axes, (found, random) in ((nearest, both), (matched, (pair.matched.cosine, pair.random.matched))):
            for values, style, name in ((found, "-", label), (random, ":", f"{label}: random directions")):
                share = (np.arange(len(values)) + 0.5) / max(len(values), 1)
                axes.plot(share, np.sort(values)[::-1], color=colour, linestyle=style, label=name)
    nearest.set(xlabel="share of the latents", ylabel="cosine with the nearest latent", xlim=(0, 1))
    matched.set(xlabel="share of the pairs", ylabel="cosine, matched one to one", xlim=(0, 1))
    legend(figure)
    sizes = [f"{len(one.there.cosine):,} and {len(one.back.cosine):,}" for one in pairs]
    note(figure, f"{counted(len(pairs), 'pair')} of SAEs. Their latents: {', '.join(dict.fromkeys(sizes))}.")
    return figure
