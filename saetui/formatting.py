"""Text from files and models, made safe to show, and what it stands beside: numbers, counts, times."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from rich.cells import cell_len, set_cell_size

from engine.activations.results import RecognisedRows
from engine.errors import counted
from engine.literal import literal as literal
from engine.neurons.quantities import Form
from engine.numbers import UNDEFINED, typed
from engine.numbers import count as count
from engine.numbers import duration as duration
from engine.numbers import exact as exact
from engine.numbers import number as number
from engine.numbers import percent as percent
from engine.numbers import rate as rate
from engine.numbers import short as short
from engine.numbers import signed as signed
from engine.numbers import significant as significant
from engine.numbers import size as size
from engine.numbers import times as times
from engine.sae.results import Imported, Seen

if TYPE_CHECKING:
    from engine.server.protocol import Loading


def loading(event: Loading) -> str:
    """What is being loaded, since when, and how large it is."""
    read = f" · {size(event.bytes)}" if event.bytes > 1e8 else ""
    return f"loading {event.what} · {duration(event.seconds)}{read} · esc cancels"


def fit(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, an ellipsis where it was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def fit_ends(text: str, width: int) -> str:
    """The two ends of ``text`` in at most ``width`` terminal cells: names of classes and runs often begin alike."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    return set_cell_size(text, width - 1 - tail) + "…" + set_cell_size(text[::-1], tail)[::-1]


def cell(value: float | str, form: Form, width: int = 0) -> str:
    """A quantity of a latent in a column of ``width`` (0: of any); a dash where it is undefined."""
    if value != value:
        return UNDEFINED
    match form:
        case "score":
            return number(float(value), width=width)
        case "count":
            return count(int(value), width)
        case "share":
            return percent(float(value), 1, width)
        case "percent":
            return number(100 * float(value), width=width)
        case "value":
            return number(float(value), width=width)
        case "text":
            return str(value)
        case _:
            assert_never(form)


def whole(text: str) -> int | None:
    """The number that a person typed; None for what is none, or has more digits than anything that is counted."""
    found = typed(text, int)
    return int(found) if found is not None and 0 <= found < 10**18 else None


def sizes(found: Imported | Seen) -> str:
    """Kind and sizes of an SAE, or of activations, of another tool."""
    if isinstance(found, RecognisedRows):
        rows = f"{counted(found.rows, 'row')}, {found.d:,} wide, {found.dtype}"
        return f"{rows}, in {counted(found.parts, 'file')} of {found.format}"
    if not found.arch:
        return f"an SAE of {found.format}"
    active = f", {found.k:,} active" if found.k else ""
    return f"{found.arch} of {found.format}, {found.d:,} -> {counted(found.w, 'latent')}{active}"
