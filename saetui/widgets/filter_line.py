"""The filter line over a table, and under it what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from engine.errors import UserError
from engine.query import Rows
from saetui.widgets.words import Words

R = TypeVar("R")


class FilterLine(Vertical):
    """What a person asks of a table in the language of :mod:`engine.query`; whoever lists the rows says its mistake."""

    DEFAULT_CSS = """
    FilterLine { height: auto; }
    FilterLine Input.-textual-compact { padding: 0 1; background: $background; }
    FilterLine Input.-textual-compact:focus { background: $panel; }
    FilterLine .mistake { display: none; height: auto; max-height: 3; padding: 0 1; color: $error; }
    FilterLine.-wrong .mistake { display: block; }
    FilterLine.-wrong Input { color: $error; }
    FilterLine.-folded { display: none; }
    """

    @dataclass
    class Changed(Message):
        """Something else was typed."""

        line: FilterLine

    @dataclass
    class Left(Message):
        """Enter was pressed in it."""

        line: FilterLine

    def __init__(self, placeholder: str, folds: bool = False, **options: Any):
        """``folds``: it takes no room while it is empty and nobody types in it."""
        super().__init__(**options)
        self._input = Input(placeholder=placeholder, id="filter", compact=True)
        self._mistake = Words(classes="mistake")
        self._folds = folds
        self._fold()

    def compose(self) -> tuple[Widget, ...]:
        return self._input, self._mistake

    @property
    def value(self) -> str:
        return self._input.value

    @value.setter
    def value(self, text: str) -> None:
        self._input.value = text
        self._fold()

    @property
    def empty(self) -> str:
        """What a table says whose rows it has all left out."""
        if self.has_class("-wrong"):
            return "This filter is not understood: mend it, or esc clears it."
        return "Nothing answers to this filter: esc clears it."

    @property
    def typing(self) -> bool:
        """Whether keys go into it."""
        return self._input.has_focus

    def write(self, text: str) -> None:
        """Let ``text`` stand there; nobody is told."""
        with self.prevent(Input.Changed):
            self.value = text

    def say(self, mistake: str) -> None:
        """Show what is wrong with it; nothing where it is empty."""
        self.set_class(bool(mistake), "-wrong")
        self._mistake.say(mistake)

    def listed(self, table: Rows[R], rows: Sequence[R]) -> list[R]:
        """Those of ``rows`` that it asks for; none, and it says why, while it is not understood."""
        mistake, found = "", list[R]()
        try:
            found = table.filtered(rows, self.value)
        except UserError as error:
            mistake = str(error)
        self.say(mistake)
        return found

    def focus(self, scroll_visible: bool = True) -> FilterLine:
        self.remove_class("-folded")
        self._input.can_focus = True
        self._input.focus(scroll_visible)
        return self

    def on_descendant_blur(self) -> None:
        self._fold()

    def _fold(self) -> None:
        folded = self._folds and not self.value and not self.typing
        self.set_class(folded, "-folded")
        self._input.can_focus = not folded  # or a screen that has nothing else would let it take the keys, unseen

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(self))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Left(self))
