"""The jobs drawer: every run of the workspace, from anywhere; pause, stop, resume, put away, read the log."""

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from engine.errors import UserError, sentence_of
from engine.runs.events import Control
from engine.runs.run import ARCHIVE, Run
from engine.runs.watch import RunSnapshot, archived_runs
from engine.workspace import Workspace
from saetui.bindings import key
from saetui.formatting import literal
from saetui.widgets.bars import KeyBar
from saetui.widgets.dialogs import Pick
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.put_away import PutAway
from saetui.widgets.run_table import COLUMNS, MARKS, RUNS, SETTINGS, SORTS, differing, fitted, grouped, in_words, texts
from saetui.widgets.table import Table
from saetui.widgets.words import Words

__all__ = ["COLUMNS", "MARKS", "RUNS", "RunsDrawer"]
_LOG_LINES = 8
NONE = "No runs yet: start an extraction (1) or a training (2)."


class RunsDrawer(ModalScreen[None]):
    """Over any mode; esc closes it and everything stands where it was."""

    DEFAULT_CSS = """
    RunsDrawer { align: center bottom; }
    RunsDrawer > Vertical { background: $surface; border-top: heavy $accent; padding: 0 1; }
    RunsDrawer > Vertical { height: 56%; min-height: 16; } /* what it covers is sent again when it closes */
    RunsDrawer #log { height: 9; color: $secondary; border-top: solid $border; }
    """
    BINDINGS = [
        key("jobs.help", "question_mark,f1", "app.help", "Help"),
        key("jobs.close", "q,J", "dismiss", "Close"),
        key("jobs.back", "escape", "back", "Back", show=True),
        key("jobs.pause", "p", "control('pause')", "Pause", show=True),
        key("jobs.stop", "x", "control('stop')", "Stop", show=True),
        key("jobs.resume", "r", "resume", "Resume", show=True),
        key("jobs.filter", "slash", "filter", "Filter", show=True),
        key("jobs.sort", "o", "sort", "Sort", show=True),
        key("jobs.group", "b", "group", "Group", show=True),
        key("jobs.archive", "a", "put_away('archive')", "Archive", show=True),
        key("jobs.archived", "A", "archived", "Show archived", show=True),
        key("jobs.remove", "d,delete", "put_away('remove')", "Remove", show=True),
        key("jobs.undo", "u", "undo", "Put back", show=True),
    ]

    def __init__(self, workspace: Workspace, seen: list[RunSnapshot], put_away: PutAway):
        super().__init__()
        self.workspace, self.seen, self.runs, self.put_away = workspace, seen, seen, put_away
        self.group, self.of_archive = "", False
        self._texts: list[tuple[str, ...]] = []
        self._shown: list[int] = []
        self._order = ""
        self.filter, self.sort = FilterLine("filter: state=failed OR task=train", folds=True), ""
        self.end_of_log = Words(id="log")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self.filter
            yield Table((), lambda row: [self._texts[row][place] for place in self._shown], empty=NONE)
            yield self.end_of_log
            yield KeyBar(helps=False, lines=2)

    def on_mount(self) -> None:
        table = self.query_one(Table)
        table.records, table.opens = lambda: RUNS.records(self.runs), False
        table.copied = lambda row: self._told(self.runs[row])
        table.order = lambda heading: RUNS.falls(heading, self.group or self.sort)
        table.focus()
        self.call_after_refresh(self._relist)

    def on_resize(self) -> None:
        self.call_after_refresh(self._relist)

    def runs_changed(self, found: list[RunSnapshot]) -> None:
        """Called by the app when it has looked again; the cursor stays on its run."""
        if found != self.seen and self.query(Table):
            self.seen = found
            self._relist()

    def _relist(self) -> None:
        table = self.query_one(Table)
        here = self.runs[table.cursor].id if self.runs else None
        before, listed = self._texts, [run.id for run in self.runs]
        seen = archived_runs(self.workspace) if self.of_archive else self.seen
        found = self.filter.listed(RUNS, seen)
        self.runs = grouped(found, self.group) if self.group else RUNS.ordered(found, self.sort)
        self.query_one(KeyBar).before = self._foot()
        names, first = differing(self.runs), [self.group] if self.group in SETTINGS else []
        told = {task: list(dict.fromkeys([*first, *found])) for task, found in names.items()}
        self._texts = [texts(run, told[run.task]) for run in self.runs]
        columns = fitted(self._texts, table.size.width)
        self._shown = [place for place, _ in columns]
        none = "No runs are archived: A shows the others again." if self.of_archive else NONE
        table.empty = self.filter.empty if seen else none
        order, self._order = self._order, self.group or self.sort
        same = order == self._order and [column for _, column in columns] == table.columns
        if same and listed == [run.id for run in self.runs] and before:
            for row in [n for n, (now, then) in enumerate(zip(self._texts, before, strict=True)) if now != then]:
                table.refresh_row(row)
            return
        table.set_columns([column for _, column in columns])
        table.show(len(self.runs), next((i for i, run in enumerate(self.runs) if run.id == here), 0))
        if not self.runs:
            self.end_of_log.say("")

    def _foot(self) -> str:
        """What is listed, where it is not all: the archived ones, and how many there are in how many groups."""
        groups = in_words(self.runs, self.group) if self.group and self.runs else ""
        return "   ".join(filter(None, ("archived" if self.of_archive else "", groups)))

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

        options = {"": "the newest first"} | {name: name for name in SORTS}
        self.app.push_screen(Pick("Sort by", options, self.sort), chosen)

    def action_group(self) -> None:
        def chosen(name: str | None) -> None:
            self.group = self.group if name is None else name
            self._relist()

        names = dict.fromkeys(["task", "state", *(name for found in differing(self.runs).values() for name in found)])
        options = {"": "no groups"} | {name: name.replace("_", " ") for name in names}
        self.app.push_screen(Pick("Group by", options, self.group), chosen)

    def action_archived(self) -> None:
        self.of_archive = not self.of_archive
        self._relist()

    def action_put_away(self, how: str) -> None:
        """Archive or remove the selected run; an archived one is put back among the others by the first."""
        if self.runs:
            run = self._path(self.runs[self.query_one(Table).cursor])
            act = self.put_away.unarchive if self.of_archive and how == "archive" else getattr(self.put_away, how)
            self._say(lambda: act(run))

    def action_undo(self) -> None:
        self._say(self.put_away.undo)

    def _say(self, act: Callable[[], str]) -> None:
        try:
            self.app.notify(literal(act()), markup=False)
        except (UserError, OSError) as error:
            self.app.notify(literal(sentence_of(error)), severity="warning", markup=False)
        gone = [run for run in self.seen if self.of_archive or self._path(run).is_there]
        self.seen = gone
        self._relist()

    def action_back(self) -> None:
        if self.filter.value or self.filter.typing:
            self.filter.value = ""
            self.query_one(Table).focus()
        else:
            self.dismiss()

    def _cells(self, row: int) -> tuple[str, ...]:
        return self._texts[row]

    def _told(self, run: RunSnapshot) -> str:
        """A run in full, to be copied: what went wrong, which has no room here, and where it lies."""
        told = (run.id, run.state, run.task, run.name, run.error, str(self._path(run).path.absolute()))
        return "  ".join(filter(None, told))

    def _path(self, run: RunSnapshot) -> Run:
        home = self.workspace.runs / ARCHIVE if self.of_archive else self.workspace.runs
        return Run(home / run.id)

    def on_table_moved(self, event: Table.Moved) -> None:
        run = self.runs[event.row]
        lines = [*filter(None, [run.error]), *self._path(run).printed()]
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
            act(self._path(run))
        except (UserError, OSError) as error:
            self.app.notify(literal(str(error)), severity="warning", markup=False)
