"""The trainings of a workspace as mode Train shows them: looked at in a thread, a little at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.files import stamp
from engine.reporter import Failed, Measured, Progress, StageBegan, Warned, kind_of
from engine.runs.events import Logged
from engine.runs.run import Run
from engine.workspace import Workspace, neurons_files, sae_of
from saetui.formatting import number, percent

if TYPE_CHECKING:
    from engine.runs.trainings import Training
    from engine.sae.preview import Preview
    from saetui.modes.train.charts import Line

LOOK = 0.5  # seconds between looks at the files
BREATH = 0.02  # the same while a long log is being read for the first time
MEASURED = ("fve", "fve_without_outliers", "l0", "dead", "ms", "ms_matched")
_LINES = 400


@dataclass(frozen=True, eq=False)
class Seen:
    """What a look found. ``lines``: by training, by measurement."""

    rows: list[Training] = field(default_factory=list)
    lines: Mapping[str, Mapping[str, Line]] = field(default_factory=dict)
    scored: frozenset[str] = frozenset()
    """SAEs that have scores."""
    preview: Preview | None = None
    """Of the selected training."""
    log: tuple[str, ...] = ()
    """The end of the log of the selected training, where it is wanted."""


class TrainWatch:
    """Reads what has changed since the last look; a preview and a log only of the selected training."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.selected = ""
        self.with_log = False
        self.more = False
        """Whether logs go on beyond what the last look has read of them."""
        self._trainings: Any = None
        self._lines: dict[str, tuple[Training, Mapping[str, Line]]] = {}
        self._rows: list[Training] | None = None
        self._all_lines: Mapping[str, Mapping[str, Line]] = {}
        self._preview: tuple[Any, Preview | None] = (None, None)
        self._seen: tuple[Any, ...] | None = None
        self._one_at_a_time = threading.Lock()
        self._wake = threading.Event()

    def select(self, name: str, with_log: bool) -> None:
        """Whose preview is read, and whether its log is: at once rather than at the next look."""
        self.selected, self.with_log = name, with_log
        self._wake.set()

    def looks(self, wanted: Callable[[], bool]) -> Iterator[Seen]:
        """What is there now, then what has changed, as long as it is ``wanted``. For a thread."""
        always = True
        while wanted():
            seen = self.look(always)
            if seen is not None:
                yield seen
            always = False
            self._wake.wait(BREATH if self.more else LOOK)
            self._wake.clear()

    def look(self, always: bool = False) -> Seen | None:
        """Everything as it is now; None when it is as it was (unless ``always``). Slow: for a thread. Never raises."""
        from engine.runs.trainings import Trainings

        with self._one_at_a_time:
            self._trainings = self._trainings or Trainings(self.workspace)
            rows, self.more = self._trainings.refresh()
            if rows is not self._rows:
                self._rows, self._all_lines = rows, {row.name: self._lines_of(row) for row in rows}
            lines = self._all_lines
            run = next((row.run for row in rows if row.name == self.selected), None)
            log = tail(Run(self.workspace.runs / run)) if run and self.with_log else ()
            scored = frozenset(map(sae_of, neurons_files(self.workspace)))
            now = (rows, scored, self._preview_of(self.selected), log)
            if now == self._seen and not always:
                return None
            self._seen = now
            return Seen(rows, lines, *now[1:])

    def _lines_of(self, row: Training) -> Mapping[str, Line]:
        known = self._lines.get(row.name)
        if known is None or known[0] != row:
            known = self._lines[row.name] = row, lines_of(row)
        return known[1]

    def _preview_of(self, name: str) -> Preview | None:
        """The newest preview that can be read: one that is damaged is replaced by the next measurement."""
        from engine.sae.preview import PREVIEW, read_preview

        folder = self.workspace.root / "saes" / name
        try:
            seen = (name, stamp(folder / PREVIEW)) if name else None
            if seen != self._preview[0]:
                self._preview = seen, read_preview(folder) if seen and seen[1] else None
        except (UserError, OSError):
            self._preview = None, None
        return self._preview[1]


def lines_of(row: Training) -> dict[str, Line]:
    """The measurements of ``row`` as arrays over its steps; what was never measured is left out."""
    import numpy as np

    steps = np.array([one.step for one in row.history], float)
    lines = {}
    for name in MEASURED:
        values = np.array([_value(getattr(one, name)) for one in row.history], float)
        if np.isfinite(values).any():
            lines[name] = steps, values
    if not any(one.outliers for one in row.history):  # then it is FVE itself
        lines.pop("fve_without_outliers", None)
    batch = row.settings.batch_size if row.settings else 0
    paces = [(step, pace * batch) for step, pace in row.pace] if batch else []
    for name, points in (("loss", row.loss), ("rate", paces)):
        if points:
            x, y = np.array(points, float).T
            lines[name] = x, y
    return lines


def tail(run: Run) -> tuple[str, ...]:
    """The end of what a run has reported (its progress is on the charts) and of what its libraries have printed."""
    reported = [in_words(logged) for logged in run.last_events() if not isinstance(logged.event, Progress)]
    return (*reported[-_LINES:], *run.printed()[-_LINES:])


def in_words(logged: Logged) -> str:
    when, kind = time.strftime("%H:%M:%S", time.localtime(logged.time)), kind_of(logged.event)
    match logged.event:
        case Measured(step, values):
            fve, l0, dead = (_value(values.get(name)) for name in ("fve", "l0", "dead"))
            return f"{when}  measured  step {step}  FVE {number(fve)}  L0 {number(l0, 1)}  dead {percent(dead, 1)}"
        case StageBegan(words) | Warned(words) | Failed(words):
            return f"{when}  {kind}  {words}"
    return f"{when}  {kind}"


def _value(found: Any) -> float:
    return float(found) if isinstance(found, (int, float)) else float("nan")
