"""Figures of what was measured on held-out rows: reconstruction against sparsity."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from engine.errors import counted
from engine.report.figures.reconstruction import Reconstruction
from engine.report.figures.style import COLOURS, CONTROL, legend, note, panels

MARKS, STROKES = "osD^vph<>", "x+1234|_"
_NAMED = 12  # SAEs whose names fit beside their marks
_SIZES = (3.0, 7.0)  # of marks, in points: the smallest and the largest dictionary


def reconstruction_figure(measured: Sequence[Reconstruction], width: float) -> Figure:
    """Held-out FVE, and the share of dead latents, against L0. Marks by architecture, of controls by what they are, as
    large as the dictionary; colours by hook point, where all are at one by architecture."""
    figure, (fve, dead) = panels(width, 2)
    places = list(dict.fromkeys(one.at for one in measured))
    kinds = sorted(dict.fromkeys((one.control != "", one.control or one.arch) for one in measured))
    trained = [kind for control, kind in kinds if not control]
    controls = [kind for control, kind in kinds if control]
    sizes = sorted({one.w for one in measured})

    def colour(control: bool, kind: str, at: str) -> str:
        if len(places) > 1:
            return COLOURS[places.index(at) % len(COLOURS)]
        return CONTROL if control else COLOURS[trained.index(kind) % len(COLOURS)]

    for control, kind in kinds:
        mark = STROKES[controls.index(kind) % len(STROKES)] if control else MARKS[trained.index(kind) % len(MARKS)]
        some = sorted((one for one in measured if (one.control or one.arch) == kind), key=lambda one: one.l0)
        for axes, value in ((fve, "fve"), (dead, "dead")):
            for one in some:
                hue, size = colour(control, kind, one.at), _size(one.w, sizes)
                axes.plot(
                    [one.l0], [getattr(one, value)], color=hue, linestyle="", marker=mark, markersize=size, alpha=0.8
                )
        shown = CONTROL if len(places) > 1 else colour(control, kind, places[0])
        name = f"control: {kind}" if control else kind
        fve.plot([], [], color=shown, linestyle="", marker=mark, markersize=5, label=name)
    if len(places) > 1:
        for at in places:
            fve.plot([], [], color=colour(False, "", at), linewidth=4, label=at)
    if len(measured) <= _NAMED:
        for one in measured:
            fve.annotate(one.name, (one.l0, one.fve), xytext=(3, 3), textcoords="offset points", fontsize=6)
    fve.set(xlabel="L0", ylabel="FVE")
    dead.set(xlabel="L0", ylabel="dead latents", ylim=(0, 1.03))
    legend(figure)
    grow = f" Marks grow with the dictionary: {sizes[0]:,} to {counted(sizes[-1], 'latent')}." if len(sizes) > 1 else ""
    note(figure, f"{'; '.join(_told(measured, at) for at in places)}.{grow}")
    return figure


def _size(w: int, sizes: Sequence[int]) -> float:
    least, most = _SIZES
    return least + (most - least) * sizes.index(w) / (len(sizes) - 1) if len(sizes) > 1 else 4.0


def _told(measured: Sequence[Reconstruction], at: str) -> str:
    """Of how many SAEs, and on how many rows each."""
    some = [one for one in measured if one.at == at]
    controls = sum(one.control != "" for one in some)
    rows = sorted({one.rows for one in some})
    held_out = counted(rows[0], "held-out row") if len(rows) == 1 else f"{rows[0]:,} to {rows[-1]:,} held-out rows"
    those = [counted(number, what) for number, what in ((len(some) - controls, "SAE"), (controls, "control")) if number]
    return f"{f'{at}: ' if at else ''}{' and '.join(those)} on {held_out}{' each' if len(some) > 1 else ''}"
