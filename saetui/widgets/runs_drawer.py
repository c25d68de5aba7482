"""The jobs drawer: every run of the workspace, from anywhere; pause, stop, resume, read the log."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.errors import UserError
from engine.runs import run as jobs
from engine.runs.watch import RunSnapshot
from engine.workspace import Workspace
from saetui.bindings import key
from saetui.formatting import duration, literal, percent
from saetui.widgets.table import Column, Table

MARKS = {"running": "●", "starting": "○", "paused": "Ⅱ", "done": "✓", "stopped": "■", "failed": "✗", "died": "✗"}
COLUMNS = (
    Column("", 1, "left"),
    Column("run", 28, "left"),
    Column("makes", 18, "left"),
    Column("state", 8, "left"),
    Column("done", 5),
    Column("left", 8),
    Column("stage", 0, "left"),
)
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
        key("jobs.close", "escape,q,J", "dismiss", "Close", show=True),
        key("jobs.pause", "p", "control('pause')", "Pause", show=True),
        key("jobs.stop", "x", "control('stop')", "Stop", show=True),
        key("jobs.resume", "r", "resume", "Resume", show=True),
    ]

    def __init__(self, workspace: Workspace, seen: list[RunSnapshot]):
        super().__init__()
        self.workspace, self.runs = workspace, seen

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Table(COLUMNS, self._cells, empty="No runs yet: start an extraction (1) or a training (2).")
            yield Static(id="log", markup=False)
            yield Static("p pause   x stop   r resume   esc close", id="keys")

    def on_mount(self) -> None:
        self.query_one(Table).show(len(self.runs))
        self.query_one(Table).focus()

    def seen(self, found: list[RunSnapshot]) -> None:
        """Called by the app when it has looked again; the cursor stays on its run."""
        if found == self.runs or not self.query(Table):
            return
        table = self.query_one(Table)
        here = self.runs[table.cursor].id if self.runs else None
        self.runs = found
        table.show(len(found), next((i for i, job in enumerate(found) if job.id == here), 0))

    def _cells(self, row: int) -> tuple[str, ...]:
        job = self.runs[row]
        left = duration(job.seconds_left) if job.seconds_left is not None else ""
        return (
            MARKS.get(job.state, "?"),
            job.id,
            job.name,
            job.state,
            percent(job.share) if job.share is not None and job.live else "",
            left,
            job.error or (job.stage if job.live else ""),
        )

    def on_table_moved(self, event: Table.Moved) -> None:
        job = self.runs[event.row]
        lines = [job.error] if job.error else []
        try:
            with open(self.workspace.runs / job.id / "log.txt", "rb") as log:
                log.seek(max(log.seek(0, 2) - 8192, 0))
                lines += log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            pass  # nothing printed, or removed meanwhile
        self.query_one("#log", Static).update(Text(literal("\n".join(lines[-_LOG_LINES:]) or "(nothing in its log)")))

    def action_control(self, wish: str) -> None:
        self._with_run(lambda run: run.control(wish), needs_live=True)

    def action_resume(self) -> None:
        self._with_run(jobs.resume, needs_live=False)

    def _with_run(self, act, needs_live: bool) -> None:
        if not self.runs:
            return
        job = self.runs[self.query_one(Table).cursor]
        if needs_live and not job.live:
            self.app.notify(f"{job.id} has ended already ({job.state}).", markup=False)
            return
        try:
            act(jobs.Run(self.workspace.runs / job.id))
        except (UserError, OSError) as error:
            self.app.notify(literal(str(error)), severity="warning", markup=False)
