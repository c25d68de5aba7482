"""The jobs drawer: every run of the workspace, from anywhere; pause, stop, resume, read the log."""

import time
from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.errors import UserError
from engine.query import RowField, Rows
from engine.runs.events import Control
from engine.runs.run import Run
from engine.runs.watch import RunSnapshot
from engine.workspace import Workspace
from saetui.bindings import key
from saetui.formatting import duration, literal, percent
from saetui.widgets.dialogs import Pick
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Column, Table
from saetui.widgets.words import Words

MARKS = {
    "running": "●",
    "starting": "○",
    "paused": "Ⅱ",
    "done": "✓",
    "stopped": "■",
    "failed": "✗",
    "died": "✗",
    "damaged": "!",
}
COLUMNS = (
    Column("", 1, "left"),
    Column("run", 28, "left", ends=True),
    Column("makes", 18, "left", ends=True),
    Column("state", 8, "left"),
    Column("done", 5),
    Column("left", 8),
    Column("stage", 0, "left"),
)
RUNS: Rows[RunSnapshot] = Rows(
    "Runs",
    {
        "run": RowField("text", lambda run: run.id),
        "makes": RowField("text", lambda run: run.name, ("name",)),
        "task": RowField("text", lambda run: run.task),
        "state": RowField("text", lambda run: run.state),
        "done": RowField("number", lambda run: run.share if run.live else None),
        "left": RowField("time", lambda run: run.seconds_left),
        "stage": RowField("text", lambda run: run.error or (run.stage if run.live else "")),
        "age": RowField("time", lambda run: time.time() - run.started if run.started else None),
    },
)
"""What the filter line may ask of runs, and what they are sorted by."""
_LOG_LINES = 8


class RunsDrawer(ModalScreen[None]):
    """Over any mode; esc closes it and everything stands where it was."""

    DEFAULT_CSS = """
    RunsDrawer { align: center bottom; }
    RunsDrawer > Vertical { height: 70%; background: $surface; border-top: heavy $accent; padding: 0 1; }
    RunsDrawer #log { height: 9; color: $secondary; border-top: solid $border; }
    RunsDrawer #keys { height: 1; color: $secondary; }
    """
    BINDINGS = [
        key("jobs.close", "q,J", "dismiss", "Close", show=True),
        key("jobs.back", "escape", "back", "Out of the filter, or close"),
        key("jobs.pause", "p", "control('pause')", "Pause", show=True),
        key("jobs.stop", "x", "control('stop')", "Stop", show=True),
        key("jobs.resume", "r", "resume", "Resume", show=True),
        key("jobs.filter", "slash", "filter", "Filter", show=True),
        key("jobs.sort", "o", "sort", "Sort", show=True),
    ]

    def __init__(self, workspace: Workspace, seen: list[RunSnapshot]):
        super().__init__()
        self.workspace, self.seen, self.runs = workspace, seen, seen
        self.filter, self.sort = FilterLine("filter: state=failed OR task=train", folds=True), ""
        self.end_of_log = Words(id="log")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self.filter
            yield Table(COLUMNS, self._cells, empty="No runs yet: start an extraction (1) or a training (2).")
            yield self.end_of_log
            yield Static("p pause   x stop   r resume   / filter   o sort   esc close", id="keys")

    def on_mount(self) -> None:
        self.query_one(Table).records = lambda: RUNS.records(self.runs)
        self.query_one(Table).show(len(self.runs))
        self.query_one(Table).focus()

    def runs_changed(self, found: list[RunSnapshot]) -> None:
        """Called by the app when it has looked again; the cursor stays on its run."""
        if found != self.seen and self.query(Table):
            self.seen = found
            self._relist()

    def _relist(self) -> None:
        table = self.query_one(Table)
        here = self.runs[table.cursor].id if self.runs else None
        self.runs = RUNS.ordered(self.filter.listed(RUNS, self.seen), self.sort)
        if self.seen:
            table.empty = self.filter.empty
        table.show(len(self.runs), next((i for i, run in enumerate(self.runs) if run.id == here), 0))
        if not self.runs:
            self.end_of_log.say("")

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        self._relist()

    def on_filter_line_left(self, event: FilterLine.Left) -> None:
        self.query_one(Table).focus()

    def on_table_headed(self, event: Table.Headed) -> None:
        self.sort = RUNS.clicked(event.field, self.sort)
        self._relist()

    def action_filter(self) -> None:
        self.filter.focus()

    def action_sort(self) -> None:
        def chosen(sort: str | None) -> None:
            self.sort = self.sort if sort is None else sort
            self._relist()

        options = {"": "the newest first"} | {name: name for name in RUNS.fields}
        self.app.push_screen(Pick("Sort by", options, self.sort), chosen)

    def action_back(self) -> None:
        if self.filter.value or self.filter.typing:
            self.filter.value = ""
            self.query_one(Table).focus()
        else:
            self.dismiss()

    def _cells(self, row: int) -> tuple[str, ...]:
        run = self.runs[row]
        left = duration(run.seconds_left) if run.seconds_left is not None else ""
        return (
            MARKS[run.state],
            run.id,
            run.name,
            run.state,
            percent(run.share) if run.share is not None and run.live else "",
            left,
            run.error or (run.stage if run.live else ""),
        )

    def on_table_moved(self, event: Table.Moved) -> None:
        run = self.runs[event.row]
        lines = [*filter(None, [run.error]), *Run(self.workspace.runs / run.id).printed()]
        self.end_of_log.say("\n".join(lines[-_LOG_LINES:]) or "(nothing in its log)")

    def action_control(self, what: Control) -> None:
        self._with_run(lambda run: run.control(what), needs_live=True)

    def action_resume(self) -> None:
        self._with_run(Run.resume, needs_live=False)

    def _with_run(self, act: Callable[[Run], None], needs_live: bool) -> None:
        if not self.runs:
            return
        run = self.runs[self.query_one(Table).cursor]
        if needs_live and run.state == "damaged":
            self.app.notify(literal(run.error), severity="warning", markup=False)
            return
        if needs_live and not run.live:
            self.app.notify(f"{run.id} has ended already ({run.state}).", markup=False)
            return
        try:
            act(Run(self.workspace.runs / run.id))
        except (UserError, OSError) as error:
            self.app.notify(literal(str(error)), severity="warning", markup=False)
