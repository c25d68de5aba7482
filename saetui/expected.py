"""What work is expected to take, in the words that commands and forms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import counted
from saetui.formatting import duration, size

if TYPE_CHECKING:
    from engine.runs.expected_plan import ExpectedPlan


def sums_of_plan(found: ExpectedPlan) -> Iterator[str]:
    """How many stages there are, what they will write, and how long that will take."""
    there = sum(one.state == "there" for one in found.stages)
    passes = sum(one.scorings > 0 for one in found.passes)
    scored = f", scored in {passes:,} pass{'es' * (passes != 1)}" if passes else ""
    yield f"{counted(len(found.stages), 'stage')}: {there:,} there, {len(found.stages) - there:,} to do{scored}"
    yield f"to write: {size(found.left)}{_without(found.unsized)}; {size(found.free)} free"
    known = found.seconds or not found.untimed
    yield f"time: {duration(found.seconds)}{_without(found.untimed)}" if known else "time: not known"


def named_by_judge(found: ExpectedPlan) -> dict[str, str]:
    """By judge, what tells its scores from those of another; nothing where all are by one."""
    judges = list(dict.fromkeys(one.judge for one in found.stages if one.judge))
    last = [Path(judge).name for judge in judges]
    if len(judges) < 2:
        return {}
    return {one: f" by {name if last.count(name) == 1 else one}" for one, name in zip(judges, last, strict=True)}


def _without(unknown: int) -> str:
    return f", without {counted(unknown, 'stage')} of which it is not known" if unknown else ""
