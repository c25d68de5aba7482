"""Small screens over a mode: help, a one-line question, a choice from a list; and the command palette."""

import asyncio
import textwrap
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.containers import Vertical, VerticalScroll
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.suggester import Suggester
from textual.widgets import Input, Static, TextArea

from engine.errors import UserError, sentence_of
from saetui.bindings import key
from saetui.formatting import literal
from saetui.glossary import QUANTITIES, TERMS
from saetui.widgets.paths import PathInput, completed
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
    """The keys that work on the active screen, listed from its bindings, and the terms that screens use."""

    AUTO_FOCUS = "VerticalScroll"  # not the line above it, which would take the keys
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > Vertical { width: 80; max-width: 100%; max-height: 100%; height: auto; background: $surface;
        border: round $border; padding: 0 1; }
    Help VerticalScroll { height: auto; max-height: 100%; scrollbar-size-vertical: 1; }
    Help Input.-textual-compact { background: $surface; padding: 0; }
    Help Input.-textual-compact:focus { background: $panel; }
    """
    BINDINGS = [
        key("help.close", "q,question_mark,f1", "dismiss", "Close"),
        key("help.back", "escape", "back", "Out of the search, or close"),
        key("help.search", "slash", "search", "Search keys and terms"),
        key("help.down", "j,down", "scroll(1)", "Down"),
        key("help.up", "k,up", "scroll(-1)", "Up"),
        key("help.page_down", "ctrl+d,pagedown,space", "scroll(15)", "Page down"),
        key("help.page_up", "ctrl+u,pageup", "scroll(-15)", "Page up"),
    ]

    def __init__(self, shown: Iterable[Action], search: str = ""):
        super().__init__()
        self._shown = sorted(shown, key=lambda a: (_ORDER.get(a.group, 0), a.group))
        self._line = Input(search, placeholder="/ searches keys and terms, as: sort, MS, depth", compact=True)
        self._body = Static()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self._line
            with VerticalScroll():
                yield self._body

    def on_mount(self) -> None:
        self._show()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.query_one(VerticalScroll).focus()

    def _show(self) -> None:
        self._body.update(self._text(self._line.value))
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def _text(self, search: str) -> Text:
        words = search.casefold().split()
        theme = self.app.current_theme
        accent, quiet = theme.accent or "", theme.secondary or ""
        text, group = Text(), ""

        def wanted(*parts: str) -> bool:
            return all(word in " ".join(parts).casefold() for word in words)

        for action in self._shown:
            if not wanted(action.description, action.id, *action.keys, *map(_spelt, action.keys)):
                continue
            if action.group != group:
                group = action.group
                text.append(f"\n{group}\n", style="bold")
            text.append(f"  {' '.join(action.keys):<18} ", style=accent)
            text.append(f"{action.description:<32} ")
            text.append(f"{action.id}\n", style=quiet)
        terms = {term: about for term, about in TERMS.items() if wanted(term, about)}
        if terms:
            text.append("\nterms\n", style="bold")
        for term, about in terms.items():
            text.append(f"  {term:<18} ", style=accent)
            text.append_text(_hanging(about, 21, self._width))
            for what, said in QUANTITIES[term].facts.items() if words and term in QUANTITIES else ():
                text.append(f"    {what:<16} ", style=quiet)
                text.append_text(_hanging(said, 21, self._width))
        if not text:
            text.append(f"\nNothing here answers to {search!r}: esc clears it.")
        elif not words:
            text.append("\nRemap any key by its id under [keys] in the file that saetui config names.")
        return text

    @property
    def _width(self) -> int:
        """Terminal cells of a line."""
        return min(self.app.size.width, 80) - 5

    def on_resize(self) -> None:
        self._show()

    def action_search(self) -> None:
        self._line.focus()

    def action_back(self) -> None:
        if not (self._line.value or self._line.has_focus):
            self.dismiss()
        self._line.value = ""
        self.query_one(VerticalScroll).focus()

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def _spelt(shown: str) -> str:
    """A key as it is written in the config file."""
    return shown.replace("^", "ctrl+")


def _hanging(text: str, indent: int, width: int) -> Text:
    """``text`` in lines of ``width``; all but the first, which something stands before, are indented."""
    lines = textwrap.wrap(text, max(width - indent, 12))
    return Text(("\n" + " " * indent).join(lines) + "\n")


_ORDER = {"table": 1, "pane": 2, "app": 3}


class _Completions(Suggester):
    def __init__(self, known: Sequence[str], places: Container[str], base: Path):
        super().__init__(use_cache=False, case_sensitive=True)
        self._known, self._places, self._base = known, places, base

    async def get_suggestion(self, value: str) -> str | None:
        begun = value.casefold()
        found = next((one for one in self._known if begun and one.casefold().startswith(begun)), None)
        if found is not None and found != value:
            return found
        word, blank, path = value.partition(" ")
        rest = await asyncio.to_thread(completed, path.strip(), self._base) if blank and word in self._places else None
        return f"{word} {rest}" if rest else None


class Ask(ModalScreen[str | None]):
    """A question answered with a line of text at the bottom of the screen; esc cancels (None)."""

    DEFAULT_CSS = """
    Ask { align: left bottom; background: $background 0%; }
    Ask Vertical { height: auto; background: $panel; }
    Ask Input { border: none; height: 1; padding: 0 1; background: $panel; }
    Ask Static { height: 1; padding: 0 1; color: $secondary; background: $panel; }
    Ask .error { height: auto; max-height: 5; color: $error; } /* all of what was wrong, on narrow screens, too */
    """
    BINDINGS = [
        key("ask.close", "escape", "dismiss", "Cancel"),
        key("ask.complete", "tab", "complete", "Complete"),
        key("ask.earlier", "up", "recall(1)", "What was typed before", priority=True),
        key("ask.later", "down", "recall(-1)", "What was typed after that", priority=True),
    ]

    def __init__(
        self,
        question: str,
        value: str = "",
        known: Mapping[str, str] | None = None,
        lines: Iterable[str] = (),
        places: Container[str] = (),
        earlier: Sequence[str] = (),
        check: Callable[[str], object] | None = None,
        base: Path | None = None,
    ):
        """``known``: first words to complete, each with the hint shown while it is typed. ``lines``: whole ones.
        ``places``: first words after which paths are completed; without them, and with ``base``, a path is asked for.
        ``earlier``: what was typed before, the newest first. ``check``: what it raises for an answer that cannot be is
        said, and the question stays. ``base``: what relative paths are from.
        """
        super().__init__()
        self._question, self._value, self._known = question, value, dict(known or {})
        self._completions = _Completions([*self._known, *lines, *earlier], places, base or Path())
        self._earlier, self._back, self._begun = earlier, -1, value
        self._check, self._base = check, None if places else base

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static()
            if self._base is not None:
                yield PathInput(self._value, list(self._known), base=self._base)
            else:
                yield Input(self._value, suggester=self._completions, compact=True)

    async def action_complete(self) -> None:
        line = self.query_one(Input)
        if line.cursor_at_end and (found := await self._completions.get_suggestion(line.value)):
            self._write(found)

    def action_recall(self, by: int) -> None:
        """Further back or forth among the earlier lines that begin as what was typed."""
        fits = [one for one in self._earlier if one.startswith(self._begun)]
        self._back = max(min(self._back + by, len(fits) - 1), -1)
        self._write(fits[self._back] if self._back >= 0 else self._begun)

    def _write(self, text: str) -> None:
        line = self.query_one(Input)
        with line.prevent(Input.Changed):
            line.value = text
        line.cursor_position = len(text)
        self._hint(text)

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._hint(self._value)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._begun, self._back = event.value, -1
        self._hint(event.value)

    def _hint(self, typed: str) -> None:
        word = typed.partition(" ")[0]
        matching = [name for name in self._known if name.startswith(word)] if word else []
        self._say(self._known.get(word) or "  ".join(matching[:12]) or self._question)

    def _say(self, words: str, error: bool = False) -> None:
        line = self.query_one(Static)
        line.set_class(error, "error")
        line.update(Text(literal(words), no_wrap=not error))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        answer = event.value.strip()
        try:
            if answer and self._check is not None:
                self._check(answer)
        except (UserError, OSError) as error:
            self._say(sentence_of(error), error=True)
            return
        self.dismiss(answer)


class AskText(ModalScreen[str | None]):
    """A question answered with a text of several lines, typed or pasted; esc cancels (None)."""

    DEFAULT_CSS = """
    AskText { align: left bottom; background: $background 0%; }
    AskText Vertical { height: auto; background: $panel; }
    AskText Static { height: 1; padding: 0 1; color: $secondary; background: $panel; }
    AskText TextArea { height: auto; min-height: 1; max-height: 8; border: none; padding: 0 1; background: $panel; }
    """
    BINDINGS = [
        key("text.close", "escape", "dismiss", "Cancel", priority=True),
        key("text.submit", "enter", "submit", "Ask", priority=True),
        key("text.line", "ctrl+j,shift+enter,alt+enter", "line", "New line", priority=True),
        key("text.earlier", "pageup", "recall(1)", "Earlier text", priority=True),
        key("text.later", "pagedown", "recall(-1)", "Later text", priority=True),
    ]

    def __init__(self, question: str, value: str = "", earlier: Sequence[str] = ()):
        """``earlier``: texts to go back to, the newest first."""
        super().__init__()
        self._question, self._earlier, self._back = question, [value, *(one for one in earlier if one != value)], 0
        self._area = TextArea(value, compact=True, highlight_cursor_line=False)

    def compose(self) -> ComposeResult:
        earlier = "   pgup an earlier one" if self._earlier[1:] else ""
        with Vertical():
            yield Static(Text(literal(f"{self._question}   enter asks   ^j a new line{earlier}"), no_wrap=True))
            yield self._area

    def on_mount(self) -> None:
        self._area.focus()
        self._area.move_cursor(self._area.document.end)

    def action_submit(self) -> None:
        self.dismiss(self._area.text.strip())

    def action_line(self) -> None:
        self._area.insert("\n")

    def action_recall(self, by: int) -> None:
        self._back = max(min(self._back + by, len(self._earlier) - 1), 0)
        self._area.text = self._earlier[self._back]
        self._area.move_cursor(self._area.document.end)


class Pick(ModalScreen[str | None]):
    """A list to pick one option from; esc cancels (None)."""

    DEFAULT_CSS = """
    Pick { align: center middle; }
    Pick > Vertical { max-width: 96%; max-height: 80%; background: $surface; border: round $border; }
    Pick Static { height: 1; padding: 0 1; color: $secondary; }
    """
    BINDINGS = [key("pick.close", "escape,q", "dismiss", "Cancel", show=True)]

    def __init__(self, question: str, options: Mapping[str, str], current: str = ""):
        """``options``: value to return -> text to show. The cursor starts on the value ``current``."""
        super().__init__()
        self._question, self._options, self._current = question, list(options.items()), current

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            longest = max((cell_len(shown) for _, shown in self._options), default=0)
            box.styles.width, box.styles.height = max(longest + 5, 64), min(len(self._options), 20) + 4
            yield Static(Text(literal(self._question)))
            yield Table((Column("", 0, "left"),), lambda row: (self._options[row][1],))

    def on_mount(self) -> None:
        row = next((i for i, (value, _) in enumerate(self._options) if value == self._current), 0)
        self.query_one(Table).show(len(self._options), row)
        self.query_one(Table).focus()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.dismiss(self._options[event.row][0])


def _with_keys(action: Action) -> str:
    return f"{' '.join(action.keys):<12} {action.description}  ({action.id})"


class ActionsProvider(Provider):
    """The command palette, over the same actions as help and the command line."""

    async def discover(self) -> Hits:
        for action in actions(self.screen):
            yield DiscoveryHit(_with_keys(action), self._run(action))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in actions(self.screen):
            text = _with_keys(action)
            if (score := matcher.match(text)) > 0:
                yield Hit(score, matcher.highlight(text), self._run(action))

    def _run(self, action: Action) -> Callable[[], Any]:
        async def run() -> None:
            await self.app.run_action(action.action, action.node)

        return run
