"""Text from files and models, made safe to show."""

from typing import assert_never

from rich.cells import cell_len, set_cell_size

from engine.activations.results import RecognisedRows
from engine.errors import counted
from engine.literal import literal as literal
from engine.neurons.quantities import Form
from engine.sae.results import Imported, Seen


def fit(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, an ellipsis where it was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def fit_ends(text: str, width: int) -> str:
    """The two ends of ``text`` in at most ``width`` terminal cells: names of classes and runs often begin alike."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    return set_cell_size(text, width - 1 - tail) + "…" + set_cell_size(text[::-1], tail)[::-1]


def duration(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def number(value: float | None) -> str:
    """A score with two decimals and no leading zero, ``.61``; a dash for None and NaN."""
    return "–" if value is None or value != value else f"{value:.2f}".replace("0.", ".", 1)


def percent(share: float | None, digits: int = 0) -> str:
    return "–" if share is None or share != share else f"{share:.{digits}%}"


def cell(value: float | str, form: Form) -> str:
    """A quantity of a latent in a table; a dash where it is undefined."""
    if value != value:
        return "–"
    match form:
        case "score":
            return number(float(value))
        case "count":
            return f"{int(value):,}"
        case "share":
            return percent(float(value), 1)
        case "percent":
            return f"{100 * float(value):.2f}"
        case "value":
            return f"{float(value):.2f}"
        case "text":
            return str(value)
        case _:
            assert_never(form)


def whole(text: str) -> int | None:
    """The number that a person typed; None for what is none, or has more digits than anything that is counted."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def size(count: float) -> str:
    """Bytes in decimal units: ``61.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 999.5 else f"{count:,.0f} TB"


def sizes(found: Imported | Seen) -> str:
    """Kind and sizes of an SAE, or of activations, of another tool."""
    if isinstance(found, RecognisedRows):
        rows = f"{counted(found.rows, 'row')}, {found.d:,} wide, {found.dtype}"
        return f"{rows}, in {counted(found.parts, 'file')} of {found.format}"
    if not found.arch:
        return f"an SAE of {found.format}"
    active = f", {found.k:,} active" if found.k else ""
    return f"{found.arch} of {found.format}, {found.d:,} -> {counted(found.w, 'latent')}{active}"


def rate(value: float, unit: str) -> str:
    """Units per second: two digits below ten, whole numbers above."""
    return f"{value:,.0f} {unit}/s" if value >= 10 else f"{value:.2g} {unit}/s"
