"""The bar at the top (workspace, modes, live run) and the one at the bottom (active keys)."""

from rich.text import Text
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget

from engine.runs.watch import RunSnapshot
from saetui.formatting import duration, fit, literal, percent

TITLES = {"data": "Data", "train": "Train", "neurons": "Neurons", "steer": "Steer", "hierarchy": "Hierarchy"}


class TopBar(Widget):
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
        bar.append(" saetui", style="bold")
        if roomy:
            bar.append(f" · {fit(literal(self.place), 24)}", style=quiet)
        bar.append("  " if width < 90 else "    ")
        for number, (mode, title) in enumerate(TITLES.items(), 1):
            bar.append(f" {number} ", style=quiet)
            bar.append(title.upper() if mode == self.mode else title, style=accent if mode == self.mode else "")
        room = width - bar.cell_len - 3
        right = [part for part in (self.run, self.terminal if roomy else "") if part]
        while right and sum(map(len, right)) + 3 * (len(right) - 1) > room:
            if len(right) == 1:
                right[0] = fit(right[0], room) if room > 12 else ""
                break
            right.pop()
        shown = literal("   ".join(filter(None, right)))
        bar.append(" " * max(width - bar.cell_len - len(shown) - 1, 1))
        bar.append(shown, style=quiet)
        return bar


class KeyBar(Widget):
    """The active bindings that are marked ``show``, as many as fit, then always ``? help``."""

    DEFAULT_CSS = """
    KeyBar { height: 1; dock: bottom; background: $panel; color: $foreground; }
    """

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Text:
        theme = self.app.current_theme
        key_style, help_text = f"bold {theme.accent or ''}", "? help"
        bar, room = Text(" ", no_wrap=True, end=""), self.size.width - len(help_text) - 2
        seen = set()
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or not active.enabled or binding.action in seen:
                continue
            seen.add(binding.action)
            shown = self.app.get_key_display(binding)
            if bar.cell_len + len(shown) + len(binding.description) + 3 > room:
                break
            bar.append(shown, style=key_style)
            bar.append(f" {binding.description}  ", style=theme.secondary or "")
        bar.append(" " * max(self.size.width - bar.cell_len - len(help_text) - 1, 0))
        bar.append("?", style=key_style)
        bar.append(" help", style=theme.secondary or "")
        return bar


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
