"""The selected training: its charts or, in their place, the end of its log."""

from collections.abc import Iterable, Sequence
from typing import Any

from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from saetui.modes.train.charts import Charts, Curves
from saetui.widgets.words import Words


class TrainingView(Vertical):
    DEFAULT_CSS = """
    TrainingView #title { height: 1; padding: 0 1; display: none; text-style: bold; text-wrap: nowrap; }
    TrainingView #log { width: 1fr; display: none; padding: 0 1; }
    TrainingView #log Static { height: auto; }
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.title, self.charts, self.log_lines = Words(id="title"), Charts(), Words()

    def compose(self) -> Iterable[Widget]:
        yield self.title
        yield self.charts
        with VerticalScroll(id="log"):
            yield self.log_lines

    def show(self, title: str, curves: Sequence[Curves]) -> None:
        self.title.say(title)
        self.charts.show(curves)

    def show_log(self, lines: Sequence[str]) -> None:
        if self.log_lines.say("\n".join(lines) or "Nothing in its log."):
            self.query_one("#log", VerticalScroll).scroll_end(animate=False)
