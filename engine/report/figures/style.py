"""How all figures look, and how they are written: the same bytes for the same results."""

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.errors import UserError, reason
from engine.files import atomic_path

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which people who see few colours can tell apart; the light yellow left out."""
CONTROL = "#777777"
DPI = 300  # of PNG
_PAGE = 5  # inches
_LETTERS = 20  # of 6 points, in an inch
_HANDLE = 8  # letters, of a line of the legend before its label
_ROWS = 2  # of a legend or a note, for which panels have room
_ROW, _LINE = 0.15, 0.1  # inches, of a row of the legend and a line of the note
_LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "pdf.fonttype": 42,  # text that can be selected, as journals ask for
    "svg.hashsalt": "saetui",
    "text.parse_math": False,  # names and paths are not TeX
}


@contextmanager
def look() -> Iterator[None]:
    """Inside, whatever is drawn looks so, whatever a person's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, _LOOK))
        yield


def panels(width: float, number: int) -> tuple[Figure, list[Axes]]:
    """A figure of ``number`` panels, side by side where ``width`` (inches) is that of a page, else below each other."""
    beside = width >= _PAGE
    figure = Figure(figsize=(width, width * (0.48 if beside else 0.7 * number)), layout="constrained")
    shape = (1, number) if beside else (number, 1)
    return figure, list(figure.subplots(*shape, squeeze=False).flat)


def legend(figure: Figure) -> None:
    """One for all panels, above them: each label once."""
    found = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    room = int(figure.get_figwidth() * _LETTERS * 0.8)
    labels = [textwrap.fill(label, room - _HANDLE) for label in found]
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    columns = max(room // (longest + _HANDLE), 1)
    lines = sum(label.count("\n") + 1 for label in labels)
    _grow(figure, math.ceil(lines / columns) - _ROWS, _ROW)
    figure.legend(list(found.values()), labels, loc="outside upper center", ncols=columns)


def note(figure: Figure, text: str) -> None:
    """What must stand with the figure wherever it goes: sizes, controls, what the marks are."""
    lines = textwrap.wrap(text, int(figure.get_figwidth() * _LETTERS))
    _grow(figure, len(lines) - _ROWS, _LINE)
    figure.supxlabel("\n".join(lines), fontsize=6, color=CONTROL)


def _grow(figure: Figure, more: int, each: float) -> None:
    """Make room for ``more`` rows of ``each`` inches, so that panels keep theirs."""
    figure.set_figheight(figure.get_figheight() + max(more, 0) * each)


def write(figure: Figure, path: Path) -> None:
    """As the ending of ``path`` says, in one step. UserError when the disk refuses."""
    kind = path.suffix[1:].lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[kind]
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=metadata)
    except OSError as error:
        raise UserError(f"Cannot write {path} ({reason(error)}): make room or give another --out.") from error
