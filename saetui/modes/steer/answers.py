"""The three answers: streaming, beside one another, with the words marked that are new."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll

from engine.errors import counted
from engine.steer.results import ANSWERS, AnswerName, Steered
from saetui.modes.steer.word_diff import changed_words, marked
from saetui.widgets.words import Words

TITLES: dict[AnswerName, str] = {"untouched": "untouched", "attached": "SAE attached", "steered": "steered"}
BEFORE: dict[AnswerName, AnswerName] = {"attached": "untouched", "steered": "attached"}  # what it is compared with


class AnswerBox(VerticalScroll):
    """One answer under its title."""

    DEFAULT_CSS = """
    AnswerBox { height: 1fr; min-height: 2; border-top: solid $border; border-title-color: $secondary; padding: 0 1;
        scrollbar-size-vertical: 1; }
    AnswerBox:focus { border-top: solid $accent; }
    AnswerBox Static { height: auto; }
    AnswerBox.-old Static { color: $secondary; }
    """

    def __init__(self, answer: AnswerName):
        super().__init__(id=answer)
        self.answer = answer
        self.border_title = TITLES[answer]
        self.body = Words()

    def compose(self) -> ComposeResult:
        yield self.body

    def show(self, text: str, before: str | None, old: bool, running: bool) -> None:
        """``before``: the answer to compare with, if there is one. ``old``: ``text`` is what was said last time."""
        shown = marked(before, text, f"bold {self.app.current_theme.accent or ''}")
        if running:
            shown.append("▏")
        self.set_class(old, "-old")
        self.body.say(shown)
        title = TITLES[self.answer]
        if before is not None and text and not running:
            new = sum(is_new for _, is_new in changed_words(before, text))
            title += f" · {counted(new, 'new word')}" if new else f" · same as {BEFORE[self.answer]}"
        self.border_title = title


class AnswersView(Container):
    """Side by side; a parent that is narrow may lay them out one above another."""

    DEFAULT_CSS = """
    AnswersView { layout: horizontal; height: 1fr; }
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.texts: dict[AnswerName, str] = {}
        self._begun: set[AnswerName] = set()  # answers that are of the present question, at least their beginning
        self._going: AnswerName | None = None

    def compose(self) -> ComposeResult:
        for answer in ANSWERS:
            yield AnswerBox(answer)

    @property
    def shown(self) -> Steered:
        """What stands there; empty where nothing does yet."""
        return Steered(**{name: self.texts.get(name, "") for name in ANSWERS})

    def show_all(self) -> None:
        """Draw everything again."""
        self._show(*ANSWERS)

    def put(self, answers: Steered) -> None:
        """Show answers that are complete."""
        self.texts, self._begun, self._going = {name: getattr(answers, name) for name in ANSWERS}, set(ANSWERS), None
        self.show_all()

    def expect(self) -> None:
        """Others are on the way; what stands there stays, dimmed, until its successor begins."""
        self._begun.clear()
        self._going = None
        self.show_all()

    def begin(self, answer: AnswerName | None) -> None:
        """That answer is being generated now (None: none is)."""
        ended, self._going = self._going, answer
        self._show(*(name for name in ANSWERS if name in (ended, answer)))

    def hear(self, answer: AnswerName, piece: str) -> None:
        """``piece`` comes next in ``answer``."""
        so_far = self.texts.get(answer, "") if answer in self._begun else ""
        self.texts[answer] = so_far + piece
        self._begun.add(answer)
        self._show(*(name for name in ANSWERS if answer in (name, BEFORE.get(name))))

    def _show(self, *answers: AnswerName) -> None:
        for answer in answers:
            before, old = BEFORE.get(answer), answer not in self._begun
            compared = self.texts.get(before) if before in self._begun and before and not old else None
            box = self.query_one(f"#{answer}", AnswerBox)
            box.show(self.texts.get(answer, ""), compared, old, answer == self._going)
