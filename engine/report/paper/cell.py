"""A cell of a table: what the SAEs that it is of score, beside the published value."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.errors import counted
from engine.report.results import PaperCell


@dataclass(frozen=True)
class Value:
    """What one SAE has of a cell."""

    value: float
    n: int | None
    of: str
    """What n counts: latent, row, ..."""
    control: float | None = None
    low: float | None = None
    """As ``high``, of an interval of 95 % over what n counts."""
    high: float | None = None
    twin: float | None = None
    shared: bool = False
    """n counts the same things for every SAE, as raw neurons or held-out rows, and not latents of its own."""


def cell(published: float, found: Sequence[tuple[str, Value]]) -> PaperCell:
    """The mean of ``found``, the values of SAEs by their names, with n of them all; empty without any.

    Its interval is of what n counts, the SAEs as they are: that of a mean of independent values, whose ends are apart
    from it by the root of the sum of the squares of theirs, over their number; by the mean of theirs, and n is the
    largest, where n counts the same for all. What one of them lacks, the mean does.
    """
    if not found:
        return PaperCell(published)
    values = [value for _, value in found]
    ours = sum(one.value for one in values) / len(values)
    shared = all(one.shared for one in values)
    apart = sum if shared else lambda ends: math.hypot(*ends)
    n = _all(values, lambda one: one.n)
    below = _all(values, lambda one: None if one.low is None else one.value - one.low)
    above = _all(values, lambda one: None if one.high is None else one.high - one.value)
    return PaperCell(
        published=published,
        ours=ours,
        difference=ours - published,
        control=_mean(_all(values, lambda one: one.control)),
        twin=_mean(_all(values, lambda one: one.twin)),
        n="" if n is None else counted(int(max(n) if shared else sum(n)), values[0].of),
        saes=tuple(name for name, _ in found),
        low=None if below is None else ours - apart(below) / len(values),
        high=None if above is None else ours + apart(above) / len(values),
    )


def _all(values: Sequence[Value], of: Callable[[Value], float | None]) -> list[float] | None:
    """None unless all are known."""
    known = [found for one in values if (found := of(one)) is not None]
    return known if len(known) == len(values) else None


def _mean(values: list[float] | None) -> float | None:
    return None if values is None else sum(values) / len(values)
