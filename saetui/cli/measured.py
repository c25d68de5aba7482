"""How an SAE is told by the results of it: fidelity, steerability and stability, each beside its controls."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from engine.explained import EXPLAINED, Explanation
from saetui.cli.earned import score
from saetui.cli.work import columns, screen_width, wrapped

if TYPE_CHECKING:
    from engine.artefacts.measured import Measurement


def lines(found: "Iterable[Measurement]") -> list[str]:
    """A small table for each result, in brackets intervals of 95 %."""
    return [line for one in found for line in ["", *_table(one)]]


def explained(found: "Iterable[Measurement]") -> dict[str, Explanation]:
    """What is told of each of their figures."""
    return {
        f"measured.{one.kind}.{figure.name}": EXPLAINED[figure.quantity]
        for one in found
        for figure in one.figures
        if figure.quantity
    }


def _table(one: "Measurement") -> Sequence[str]:
    on = f" ({', '.join(one.on)})" if one.on else ""
    head = f"{one.kind[:1].upper()}{one.kind[1:]}: {one.about}{on}; in brackets intervals of 95 %"
    untouched = any(figure.untouched for figure in one.figures)
    heads = ["", "this SAE", "n", *(["untouched"] if untouched else []), one.figures[0].control]
    rows = []
    for figure in one.figures:
        digits = 3 if 0.995 <= (figure.score.mean or 0) < 1 else 2  # what two would round to 1
        ours, plain, beside = (score(of, digits) for of in (figure.score, figure.untouched, figure.beside))
        rows.append([figure.name, ours, f"{figure.score.n:,}", *([plain] if untouched else []), beside])
    more = f"saetui show {one.shown_by} says more"
    return [*wrapped(head, screen_width()), *columns(heads, rows, right=[2], cut=0), *wrapped(more, screen_width())]
