"""The table of trainings: its columns, as many as there is room for, and what is said of the selected one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import events
from textual.message import Message

from engine.errors import counted
from saetui.formatting import count, duration, exact, number, percent, short, size
from saetui.modes.train.training_list import TRAININGS, TrainingList, falls, last
from saetui.widgets.runs_drawer import MARKS
from saetui.widgets.table import Column, Table

if TYPE_CHECKING:
    from engine.runs.trainings import Training
    from engine.sae.config import SAEConfig

NAME = 16  # columns that a name has beside the figures that matter most
WHOLE = (
    30  # columns that a name has, if it is so long, before the other figures: names of a grid differ in their middles
)
MATTER = 4  # figures, by rank
SOMETIMES = frozenset({"twin", "ms", "ms_matched", "speed"})  # columns that few trainings have a figure for


@dataclass(frozen=True)
class Figure:
    """A column that is left out where there is little room, those of the highest ``rank`` first."""

    name: str
    column: Column
    rank: int
    text: Callable[[Training], str]


FIGURES = (
    Figure("fve", Column("FVE", 5), 0, lambda row: number(last(row, "fve"), 3, 5)),
    Figure("twin", Column("twin", 5), 3, lambda row: number(row.twin.last.fve, 3, 5) if row.twin else ""),
    Figure("l0", Column("L0", 5), 2, lambda row: number(last(row, "l0"), 1, 5)),
    Figure("dead", Column("dead", 5), 4, lambda row: percent(last(row, "dead"), width=5)),
    Figure("ms", Column("MS", 4), 5, lambda row: number(last(row, "ms"), width=4)),
    Figure("ms_matched", Column("raw", 4), 6, lambda row: number(last(row, "ms_matched"), width=4)),
    Figure("speed", Column("tok/s", 6), 7, lambda row: "" if row.tokens_per_s is None else short(row.tokens_per_s)),
    Figure("left", Column("left", 7), 1, lambda row: stage(row) if row.eta is None else duration(row.eta)),
)


class TrainingTable(Table):
    """Lists the trainings, and tells when its width is another one: which columns it has depends on it."""

    class Resized(Message):
        pass

    def __init__(self, trainings: TrainingList):
        super().__init__((), lambda row: self._texts[row], empty="…", id="trainings")
        self.trainings = trainings
        self.records = lambda: TRAININGS.records(trainings.rows)
        self.order = lambda heading: falls(heading, trainings.sort)
        self._order = ""
        self._texts: list[tuple[str, ...]] = []
        self._listed: list[str] = []

    def watch_cursor(self, before: int, now: int) -> None:
        self.trainings.place = now  # at once: the next key may be one that stops it
        super().watch_cursor(before, now)

    def on_resize(self, event: events.Resize) -> None:
        self.post_message(self.Resized())

    def relist(self) -> None:
        """Show the trainings as they are; only rows that say something else are painted again."""
        trainings = self.trainings
        longest = max((cell_len(row.name) for row in trainings.seen.rows), default=0)
        figures = fitting(self.size.width, told(trainings.seen.rows), longest)
        columns = columns_of(figures)
        names = [row.name for row in trainings.rows]
        before, self._texts = self._texts, [texts(row, figures, trainings.overlaid) for row in trainings.rows]
        same = (columns, names, trainings.sort) == (self.columns, self._listed, self._order)
        if not same or not names or trainings.place != self.cursor:
            self._listed, self._order = names, trainings.sort
            self.set_columns(columns)
            self.show(len(names), trainings.place)
            return
        for row, (now, then) in enumerate(zip(self._texts, before, strict=True)):
            if now != then:
                self.refresh_row(row)


def told(rows: Sequence[Training]) -> set[str]:
    """Those ``SOMETIMES`` there that any training has a figure for."""
    return {one.name for one in FIGURES if one.name in SOMETIMES and any(one.text(row).strip(" –") for row in rows)}


def fitting(width: int, told: Set[str] = SOMETIMES, longest: int = 0) -> list[Figure]:
    """Those of the figures that there is room for beside a name; of those ``SOMETIMES`` there, the ones ``told``.
    ``longest``: columns of the longest name."""
    taken, found = 1 + 12 + 4, []
    left_out = SOMETIMES - told
    for figure in sorted((one for one in FIGURES if one.name not in left_out), key=lambda one: one.rank):
        taken += figure.column.width + 1
        name = NAME if figure.rank < MATTER else max(NAME, min(longest, WHOLE))
        if taken + name > width:
            break
        found.append(figure)
    return [figure for figure in FIGURES if figure in found]


def columns_of(figures: Sequence[Figure]) -> list[Column]:
    """Those of the table."""
    always = (Column("", 2, "left"), Column("training", 0, "left", ends=True), Column("step", 11))
    return [*always, *(figure.column for figure in figures)]


def texts(row: Training, figures: Sequence[Figure], overlaid: dict[str, int]) -> tuple[str, ...]:
    mark = MARKS.get(row.state, "!") + ("+" if row.name in overlaid else "")
    step = short(row.step) if row.step == row.steps else f"{short(row.step)}/{short(row.steps)}"
    step = "–" if row.config or row.asked else step
    step = duration(row.waited) if row.waits_for else step
    return mark, row.name, step, *(figure.text(row) for figure in figures)


def stage(row: Training) -> str:
    """How far it is."""
    return row.waits_for or ("import" if row.config and row.config.origin else row.state)


def in_a_line(row: Training, overlaid: dict[str, int]) -> str:
    """A training where there is no table: mark, name, step, and the time left."""
    return "  ".join(texts(row, [figure for figure in FIGURES if figure.name == "left"], overlaid))


def details(row: Training, scored: bool) -> str:
    """A training in a few lines: pace, settings, what can be done next, and what went wrong, which may be long."""
    lines = [" · ".join(_pace(row)), " · ".join(_asked(row)), _over(row), _outliers(row), _twin(row)]
    if row.state == "done" and not scored:
        lines.append("Not scored yet: s scores its latents.")
    elif row.asked and row.state in ("stopped", "died", "failed"):
        lines.append("c asks for it again.")
    elif row.state in ("stopped", "died", "unfinished"):
        kept = f"goes on from its checkpoint of step {count(row.kept)}" if row.kept is not None else "begins it again"
        lines.append(f"r {kept}.")
    return "\n".join(filter(None, [*lines, row.error or ""]))


def _pace(row: Training) -> list[str]:
    pace = [f"{row.waits_for} since {duration(row.waited)}, no step yet"] if row.waits_for else []
    if row.tokens_per_s is not None:
        pace.append(f"{short(row.tokens_per_s)} tokens/s")
    if row.waiting is not None:
        pace.append(f"waiting for data {percent(row.waiting, 1)}")
    if row.memory and (gpu := row.memory.gpu):
        pace.append(f"GPU {size(gpu.used)} of {size(gpu.total)}")
    if row.memory:
        pace.append(f"memory {size(row.memory.rss)}")
    return pace


def _over(row: Training) -> str:
    """What its figures are over, and the intervals of those that are means over latents."""
    rows = row.checked.rows if row.checked else last(row, "rows", 0)
    told = [f"FVE, L0, dead: n {counted(int(rows), 'held-out row' if not row.checked else 'row')}"] if rows else []
    for title, name in (("MS", "ms"), ("raw", "ms_matched")):
        n, low, high = (last(row, f"{name}_{of}") for of in ("latents", "low", "high"))
        if n == n and low == low:
            told.append(f"{title} {number(low)} to {number(high)}, n {counted(int(n), 'latent')}")
    return " · ".join(told)


def _outliers(row: Training) -> str:
    """FVE without the rows far longer than others, which alone may carry most of the variance."""
    share = last(row, "outliers", 0.0)
    if not share:
        return ""
    return f"FVE {number(last(row, 'fve_without_outliers'), 3)} without outliers, {percent(share, 2)} of the rows"


def _twin(row: Training) -> str:
    """What it must be better than."""
    if (twin := row.twin) is None:
        return ""
    ms = f", MS {number(twin.last.ms)}" if twin.last.ms is not None else ""
    return f"{twin.name}, the same with {twin.frozen} frozen: FVE {number(twin.last.fve, 3)}{ms}"


def _asked(row: Training) -> list[str]:
    asked = row.settings
    if row.config:
        return _kept(row.config)
    if asked is None:
        return [f"import of {row.asked.source}"] if row.asked else []
    made = [asked.arch, f"x{exact(asked.expansion)}", f"k {asked.k}", f"{counted(asked.batch_size, 'token')} a step"]
    made += [f"seed {asked.seed}", *([f"{asked.frozen} frozen"] if asked.frozen != "none" else [])]
    made += [f"MonoLoss {exact(asked.mono)}"] if asked.mono else []
    return made + ([f"on {asked.activations}"] if asked.activations else [])


def _kept(sae: SAEConfig) -> list[str]:
    """An SAE that was not trained here."""
    made = [sae.arch, f"{sae.d:,} -> {counted(sae.w, 'latent')}", *([f"k {sae.k}"] if sae.k else [])]
    from engine.sae.config import control

    why = control(sae)
    return [*made, *([why] if why else []), *_elsewhere(sae)]


def _elsewhere(sae: SAEConfig) -> list[str]:
    if sae.origin:
        return [f"of {sae.origin.format}"]
    return [] if sae.directions else ["not trained here"]


def facts(row: Training) -> list[tuple[str, str]]:
    """What is known of an SAE that was not trained here, in full."""
    sae = row.config
    if sae is None:
        return []
    known = [
        ("kind", " · ".join(_kept(sae))),
        ("groups", ", ".join(f"{end:,}" for end in sae.groups)),
        ("reads", f"{sae.tokens or '?'} of {sae.hook or '?'} of {sae.model or '?'}"),
        ("scale", f"its inputs were divided by {exact(sae.scale)} in training" if sae.scale != 1 else ""),
        *(("from", one.path) for one in sae.provenance.made_from),
        *((("note", note) for note in sae.origin.notes) if sae.origin else ()),
    ]
    if (found := row.checked) is not None:
        scale = f"; divided by {exact(found.scale)} they give FVE {number(found.fve_scaled)}" if found.scale else ""
        figures = f"FVE {number(found.fve)}, L0 {number(found.l0, 1)}, dead {percent(found.dead, 1)}{scale}"
        known.append(("checked", f"{counted(found.rows, 'row')} of {found.store}: {figures}"))
    if sae.origin and sae.origin.said:
        known.append(("its config", json.dumps(sae.origin.said, ensure_ascii=False, indent=1)))
    return [(name, words) for name, words in known if words]
