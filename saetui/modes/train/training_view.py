"""The selected training: its charts or, in their place, the end of its log."""

from collections.abc import Iterable, Sequence

from rich.text import Text
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from saetui.formatting import literal
from saetui.modes.train.charts import Charts, Curves
from saetui.modes.train.words import Words


class TrainingView(Vertical):
    DEFAULT_CSS = """
    TrainingView #title { height: 1; padding: 0 1; display: none; text-style: bold; }
    TrainingView #log { width: 1fr; display: none; padding: 0 1; }
    TrainingView #log Static { height: auto; }
    """

    def compose(self) -> Iterable[Widget]:
        yield Words(id="title")
        yield Charts()
        with VerticalScroll(id="log"):
            yield Words()

    def show(self, title: str, curves: Sequence[Curves]) -> None:
        self.query_one("#title", Words).say(Text(literal(title), no_wrap=True))
        self.query_one(Charts).show(curves)

    def show_log(self, lines: Sequence[str]) -> None:
        if self.query_one("#log Words", Words).say(Text(literal("\n".join(lines)) or "Nothing in its log.")):
            self.query_one("#log", VerticalScroll).scroll_end(animate=False)
