"""The selected training: its charts or, in their place, what is known of an SAE that was trained elsewhere, or the end
of its log."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table as Grid
from rich.text import Text
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from saetui.formatting import literal
from saetui.modes.train.charts import Charts, Curves
from saetui.widgets.words import Words


class TrainingView(Vertical):
    DEFAULT_CSS = """
    TrainingView #title { height: 1; padding: 0 1; display: none; text-style: bold; text-wrap: nowrap; }
    TrainingView #log, TrainingView #facts { width: 1fr; display: none; padding: 0 1; }
    TrainingView #facts:focus { background-tint: $foreground 2%; }
    TrainingView.-facts #facts { display: block; }
    TrainingView.-facts Charts { display: none; }
    TrainingView #log Static, TrainingView #facts Static { height: auto; }
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.title, self.charts, self.log_lines, self.facts = Words(id="title"), Charts(), Words(), Static()
        self._told: Sequence[tuple[str, str]] = ()

    def compose(self) -> Iterable[Widget]:
        yield self.title
        yield self.charts
        with VerticalScroll(id="facts", can_focus=True):
            yield self.facts
        with VerticalScroll(id="log"):
            yield self.log_lines

    def show(self, title: str, curves: Sequence[Curves], facts: Sequence[tuple[str, str]] = ()) -> None:
        self.title.say(title)
        self.charts.show(curves)
        self.set_class(bool(facts), "-facts")
        if facts != self._told:
            self._told = facts
            self.facts.update(self._grid(facts))

    def _grid(self, facts: Sequence[tuple[str, str]]) -> Grid:
        grid = Grid.grid(padding=(0, 2, 0, 0))
        grid.add_column(style=self.app.current_theme.secondary or "", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, fact in facts:
            grid.add_row(name, Text(literal(fact)))
        return grid

    def focus_shown(self) -> None:
        (self.query_one("#facts") if self.has_class("-facts") else self.charts).focus()

    def show_log(self, lines: Sequence[str]) -> None:
        if self.log_lines.say("\n".join(lines) or "Nothing in its log."):
            self.query_one("#log", VerticalScroll).scroll_end(animate=False)
