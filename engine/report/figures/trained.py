"""Figures of what training measured: reconstruction against sparsity."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from engine.errors import counted
from engine.report.figures.style import COLOURS, legend, note, panels
from engine.sae.results import FinalMeasurement

MARKS = "osD^vP*X"
_NAMED = 12  # SAEs whose names fit beside their marks


def reconstruction_figure(trained: Sequence[FinalMeasurement], width: float) -> Figure:
    """Held-out FVE, and the share of dead latents, against L0: colours by architecture, marks by size."""
    figure, (fve, dead) = panels(width, 2)
    sizes = sorted({one.w for one in trained})
    architectures = list(dict.fromkeys(one.arch for one in trained))
    for arch, colour in zip(architectures, COLOURS * len(architectures), strict=False):
        for w in sizes:
            some = sorted((one for one in trained if (one.arch, one.w) == (arch, w)), key=lambda one: one.l0 or 0)
            if not some:
                continue
            label, mark = f"{arch}, {counted(w, 'latent')}", MARKS[sizes.index(w) % len(MARKS)]
            for axes, value in ((fve, "fve"), (dead, "dead")):
                points = [(one.l0, getattr(one, value)) for one in some]
                axes.plot(
                    *zip(*points, strict=True), color=colour, linestyle="", marker=mark, markersize=4, label=label
                )
    if len(trained) <= _NAMED:
        for one in trained:
            fve.annotate(one.name, (one.l0, one.fve), xytext=(3, 3), textcoords="offset points", fontsize=6)
    fve.set(xlabel="L0", ylabel="FVE")
    dead.set(xlabel="L0", ylabel="dead latents", ylim=(0, 1))
    legend(figure)
    rows = sorted({one.rows for one in trained})
    held_out = counted(rows[0], "held-out row") if len(rows) == 1 else f"{rows[0]:,} to {rows[-1]:,} held-out rows"
    note(figure, f"{counted(len(trained), 'SAE')} on {held_out} each.")
    return figure
