"""Small screens over a mode: help, a one-line question, a choice from a list; and the command palette."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.containers import Vertical, VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from engine.errors import UserError, sentence_of
from saetui.bindings import key
from saetui.formatting import literal
from saetui.widgets.paths import PathInput
from saetui.widgets.table import Column, Table


@dataclass(frozen=True)
class Action:
    """An action that keys trigger on the active screen."""

    id: str
    keys: tuple[str, ...]
    description: str
    action: str
    node: DOMNode

    @property
    def group(self) -> str:
        """The part of its id before the dot."""
        return self.id.partition(".")[0]


def actions(screen: Screen[object]) -> list[Action]:
    """The active actions of ``screen`` that have an id: the source of help, palette and command line."""
    found: dict[str, tuple[list[str], Binding, DOMNode]] = {}
    for active in screen.active_bindings.values():
        if active.binding.id and active.enabled:
            shown = screen.app.get_key_display(active.binding)
            found.setdefault(active.binding.id, ([], active.binding, active.node))[0].append(shown)
    return [Action(id, tuple(keys), b.description, b.action, node) for id, (keys, b, node) in found.items()]


class Help(ModalScreen[None]):
    """The keys that work on the active screen, listed from its bindings."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 76; max-width: 100%; max-height: 100%; height: auto; background: $surface;
        border: round $border; padding: 0 1; }
    """
    BINDINGS = [
        key("help.close", "escape,q,question_mark,f1", "dismiss", "Close"),
        key("help.down", "j,down", "scroll(1)", "Down"),
        key("help.up", "k,up", "scroll(-1)", "Up"),
        key("help.page_down", "ctrl+d,pagedown,space", "scroll(15)", "Page down"),
        key("help.page_up", "ctrl+u,pageup", "scroll(-15)", "Page up"),
    ]

    def __init__(self, shown: Iterable[Action]):
        super().__init__()
        self._shown = list(shown)

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self._text())

    def _text(self) -> Text:
        accent = self.app.current_theme.accent or ""
        text = Text()
        group = ""
        for action in sorted(self._shown, key=lambda a: (_ORDER.get(a.group, 0), a.group)):
            if action.group != group:
                group = action.group
                text.append(f"\n{group}\n", style="bold")
            text.append(f"  {' '.join(action.keys):<18}", style=accent)
            text.append(f"{action.description:<32}")
            text.append(f"{action.id}\n", style=self.app.current_theme.secondary or "")
        text.append("\nRemap any of them by its id under [keys] in the config file that saetui doctor names.")
        return text

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


_ORDER = {"table": 1, "pane": 2, "app": 3}


class Ask(ModalScreen[str | None]):
    """A question answered with a line of text at the bottom of the screen; esc cancels (None)."""

    DEFAULT_CSS = """
    Ask { align: left bottom; background: $background 0%; }
    Ask Vertical { height: 2; background: $panel; }
    Ask Input { border: none; height: 1; padding: 0 1; background: $panel; }
    Ask Static { height: 1; padding: 0 1; color: $secondary; background: $panel; }
    Ask .error { color: $error; }
    """
    BINDINGS = [key("ask.close", "escape", "dismiss", "Cancel")]

    def __init__(
        self,
        question: str,
        value: str = "",
        known: Mapping[str, str] | None = None,
        check: Callable[[str], object] | None = None,
        base: Path | None = None,
    ):
        """``known``: first words to complete, each with the hint shown while it is typed. ``check``: what it raises for
        an answer that cannot be is said, and the question stays. ``base``: paths are asked for, and completed, from
        here."""
        super().__init__()
        self._question, self._value, self._known = question, value, dict(known or {})
        self._check, self._base = check, base

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static()
            if self._base is not None:
                yield PathInput(self._value, list(self._known), base=self._base)
            else:
                yield Input(self._value, suggester=SuggestFromList(self._known, case_sensitive=False), compact=True)

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._hint(self._value)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._hint(event.value)

    def _hint(self, typed: str) -> None:
        word = typed.partition(" ")[0]
        matching = [name for name in self._known if name.startswith(word)] if word else []
        self._say(self._known.get(word) or "  ".join(matching[:12]) or self._question)

    def _say(self, words: str, error: bool = False) -> None:
        line = self.query_one(Static)
        line.set_class(error, "error")
        line.update(Text(literal(words), no_wrap=True))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        answer = event.value.strip()
        try:
            if answer and self._check is not None:
                self._check(answer)
        except (UserError, OSError) as error:
            self._say(sentence_of(error), error=True)
            return
        self.dismiss(answer)


class Pick(ModalScreen[str | None]):
    """A list to pick one option from; esc cancels (None)."""

    DEFAULT_CSS = """
    Pick { align: center middle; }
    Pick > Vertical { width: 64; max-width: 96%; max-height: 80%; background: $surface; border: round $border; }
    Pick Static { height: 1; padding: 0 1; color: $secondary; }
    """
    BINDINGS = [key("pick.close", "escape,q", "dismiss", "Cancel", show=True)]

    def __init__(self, question: str, options: Mapping[str, str], current: str = ""):
        """``options``: value to return -> text to show. The cursor starts on the value ``current``."""
        super().__init__()
        self._question, self._options, self._current = question, list(options.items()), current

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.styles.height = min(len(self._options), 20) + 4
            yield Static(Text(literal(self._question)))
            yield Table((Column("", 0, "left"),), lambda row: (self._options[row][1],))

    def on_mount(self) -> None:
        row = next((i for i, (value, _) in enumerate(self._options) if value == self._current), 0)
        self.query_one(Table).show(len(self._options), row)
        self.query_one(Table).focus()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.dismiss(self._options[event.row][0])


class ActionsProvider(Provider):
    """The command palette, over the same actions as help and the command line."""

    async def discover(self) -> Hits:
        for action in actions(self.screen):
            yield DiscoveryHit(f"{action.description}  ({action.id})", self._run(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in actions(self.screen):
            text = f"{action.description}  ({action.id})"
            if (score := matcher.match(text)) > 0:
                yield Hit(score, matcher.highlight(text), self._run(action))

    def _run(self, action: Action) -> Callable[[], Any]:
        async def run() -> None:
            await self.app.run_action(action.action, action.node)

        return run
