"""The bar at the top (workspace, modes, live run) and the one at the bottom (active keys)."""

from collections.abc import Callable
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.dom import DOMNode
from textual.geometry import Size
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget

from engine.runs.watch import RunSnapshot
from saetui.formatting import duration, fit, fit_ends, literal, percent

Part = tuple[str, str, str, DOMNode | None]
"""A key as it is shown, what it does in words, its action, and whose that is."""
HELP: Part = ("?", "help", "app.help", None)
TITLES = {"data": "Data", "train": "Train", "neurons": "Neurons", "steer": "Steer", "hierarchy": "Hierarchy"}


class Bar(Widget):
    """Lines whose parts do something when they are clicked."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._spots: list[tuple[int, range, str, DOMNode | None]] = []

    def spot(self, bar: Text, start: int, action: str, node: DOMNode | None = None, line: int = 0) -> None:
        """What was appended to ``bar``, a line, from cell ``start`` on does ``action`` of ``node`` when it is
        clicked."""
        self._spots.append((line, range(start, bar.cell_len), action, node))

    async def on_click(self, event: events.Click) -> None:
        for line, cells, action, node in self._spots:
            if event.y == line and event.x in cells:
                await self.app.run_action(action, node)
                return


class TopBar(Bar):
    """Workspace, modes, the live run, the terminal. What does not fit is dropped, rightmost first."""

    DEFAULT_CSS = """
    TopBar { height: 1; dock: top; background: $panel; color: $foreground; }
    """

    mode: reactive[str] = reactive("")
    place: reactive[str] = reactive("")
    run: reactive[str] = reactive("")
    terminal: reactive[str] = reactive("")

    def render(self) -> Text:
        width = self.size.width
        theme = self.app.current_theme
        quiet, accent = theme.secondary or "", f"bold {theme.accent or ''}"
        roomy = width >= 100
        bar = Text(no_wrap=True, end="")
        self._spots.clear()
        bar.append(" saetui", style="bold")
        if roomy:
            bar.append(f" · {fit(literal(self.place), 24)}", style=quiet)
        bar.append("  " if width < 90 else "    ")
        for number, (mode, title) in enumerate(TITLES.items(), 1):
            start = bar.cell_len
            bar.append(f" {number} ", style=quiet)
            bar.append(title.upper() if mode == self.mode else title, style=accent if mode == self.mode else "")
            self.spot(bar, start, f"app.mode('{mode}')")
        room = width - bar.cell_len - 3
        right = [part for part in (self.run, self.terminal if roomy else "") if part]
        while right and sum(map(len, right)) + 3 * (len(right) - 1) > room:
            if len(right) == 1:
                right[0] = fit_ends(right[0], room) if room > 12 else ""  # how long is left stands at the end
                break
            right.pop()
        shown = literal("   ".join(filter(None, right)))
        bar.append(" " * max(width - bar.cell_len - len(shown) - 1, 1))
        start = bar.cell_len
        bar.append(shown, style=quiet)
        if self.run:
            self.spot(bar, start, "app.jobs")
        return bar


class KeyBar(Bar):
    """The active bindings that are marked ``show``, as many as fit, then always what esc does, and ``? help``."""

    DEFAULT_CSS = """
    KeyBar { height: 1; dock: bottom; background: $panel; color: $foreground; }
    """

    before: reactive[str] = reactive("", layout=True)
    """What is said in front of the keys."""

    def __init__(self, goes_back: Callable[[], bool] = lambda: True, helps: bool = True, lines: int = 1) -> None:
        """``goes_back``: whether esc leads anywhere now; only then it is shown. ``helps``: whether ``?`` is a key here,
        as it is in no dialog. ``lines``: the most that it takes."""
        super().__init__()
        self._goes_back, self._helps, self._lines = goes_back, helps, lines
        if lines > 1:
            self.styles.height = "auto"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        self.refresh(layout=self._lines > 1)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._laid(width)[0])

    def render(self) -> Text:
        (*above, left), last = self._laid(self.size.width)
        quiet = self.app.current_theme.secondary or ""
        self._spots.clear()
        bars: list[Text] = []
        for parts in (*above, left):
            bar = Text(" ", no_wrap=True, end="")
            if not bars and self.before:
                bar.append(f"{literal(self.before)}  ", style=quiet)
            for part in parts:
                self._add(bar, part, len(bars))
            bars.append(bar)
        bar.append(" " * (self.size.width + 1 - sum(map(_cells, last)) - bar.cell_len))
        for part in last:
            self._add(bar, part, len(above))
        for bar in bars:
            bar.right_crop(2)
        return Text("\n", no_wrap=True, end="").join(bars)

    def _add(self, bar: Text, part: Part, line: int) -> None:
        (shown, words, action, node), theme, start = part, self.app.current_theme, bar.cell_len
        bar.append(shown, style=f"bold {theme.accent or ''}")
        bar.append(f" {words}  ", style=theme.secondary or "")
        self.spot(bar, start, action, node, line)

    def _laid(self, width: int) -> tuple[list[list[Part]], list[Part]]:
        """The parts of each of as few lines as they need, and those at the end of the last line."""
        left, last = self._parts()
        end = width + 1 - sum(map(_cells, last))
        laid: list[list[Part]] = []
        for most in range(1, self._lines + 1):
            laid, rest = [], left
            used = cell_len(self.before) + 3 if self.before else 1
            while len(laid) < most:
                room = end if len(laid) == most - 1 else width + 2
                fits = [n for n in range(len(rest) + 1) if used + sum(map(_cells, rest[:n])) < room or n == 0]
                laid.append(rest[: fits[-1]])
                rest, used = rest[fits[-1] :], 1
            if not rest:
                break
        return laid, last

    def _parts(self) -> tuple[list[Part], list[Part]]:
        """What stands on the left, the first before all, and what always stands at the end."""
        left, last = dict[str, Part](), dict[str, Part]()
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and (binding.key != "escape" or self._goes_back()):
                part = (self.app.get_key_display(binding), binding.description, binding.action, active.node)
                (last if binding.key == "escape" else left).setdefault(binding.action, part)
        return [part for action, part in left.items() if action not in last], [
            *last.values(),
            *([HELP] if self._helps else []),
        ]


def _cells(part: Part) -> int:
    """Of a key, what it does, and the blanks between them and behind."""
    return len(part[0]) + len(part[1]) + 3


def summary(runs: list[RunSnapshot], seen: float = 0.0) -> str:
    """The live runs in a few words, for the top bar: ``● train x8 43 % 2:10 left``; without one, what has failed since
    ``seen``."""
    live = [run for run in runs if run.live]
    if not live:
        return _failed([run for run in runs if run.failed and (run.ended or run.started) > seen])
    first = live[0]
    parts = ["Ⅱ" if first.state == "paused" else "●", first.label, waiting(first)]
    if first.share is not None:
        parts.append(percent(first.share))
    if first.seconds_left is not None:
        parts.append(f"{duration(first.seconds_left)} left")
    return " ".join(filter(None, parts)) + (f"  +{len(live) - 1}" if len(live) > 1 else "")


def waiting(run: RunSnapshot) -> str:
    """What a run does that tells no progress, and for how long; empty where it does."""
    return f"{run.waits_for} {duration(run.waited)}" if run.waits_for else ""


def _failed(runs: list[RunSnapshot]) -> str:
    if not runs:
        return ""
    return f"✗ {runs[0].label} failed: J" if len(runs) == 1 else f"✗ {len(runs)} runs failed: J"
