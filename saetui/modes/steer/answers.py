"""The three answers: streaming, beside one another, with the words marked that are new."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from saetui.modes.steer.setup import ANSWERS, Answers
from saetui.modes.steer.word_diff import changed_words, marked

TITLES = {"untouched": "untouched", "attached": "SAE attached", "steered": "steered"}
BEFORE = {"attached": "untouched", "steered": "attached"}  # what an answer is compared with


class AnswerBox(VerticalScroll):
    """One answer under its title."""

    DEFAULT_CSS = """
    AnswerBox { height: 1fr; min-height: 2; border-top: solid $border; border-title-color: $secondary; padding: 0 1;
        scrollbar-size-vertical: 1; }
    AnswerBox:focus { border-top: solid $accent; }
    AnswerBox Static { height: auto; }
    AnswerBox.-old Static { color: $secondary; }
    """

    def __init__(self, answer: str):
        super().__init__(id=answer)
        self.answer = answer
        self.border_title = TITLES[answer]

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def show(self, text: str, before: str | None, old: bool, running: bool) -> None:
        """``before``: the answer to compare with, if there is one. ``old``: ``text`` is what was said last time."""
        body = self.query_one(Static)
        shown = marked(before, text, f"bold {self.app.current_theme.accent or ''}")
        if running:
            shown.append("▏")
        self.set_class(old, "-old")
        if body.content != shown:
            body.update(shown)
        title = TITLES[self.answer]
        if before is not None and text and not running:
            new = sum(is_new for _, is_new in changed_words(before, text))
            title += f" · {new} new word{'s' * (new != 1)}" if new else f" · same as {BEFORE[self.answer]}"
        self.border_title = title


class AnswersView(Container):
    """Side by side; a parent that is narrow may lay them out one above another."""

    DEFAULT_CSS = """
    AnswersView { layout: horizontal; height: 1fr; }
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.texts: Answers = {}
        self._begun: set[str] = set()  # answers that are of the present question, at least their beginning
        self._going = ""

    def compose(self) -> ComposeResult:
        for answer in ANSWERS:
            yield AnswerBox(answer)

    def show_all(self) -> None:
        """Draw everything again."""
        self._show(*ANSWERS)

    def put(self, texts: Answers) -> None:
        """Show answers that are complete."""
        self.texts, self._begun, self._going = dict(texts), set(ANSWERS), ""
        self.show_all()

    def expect(self) -> None:
        """Others are on the way; what stands there stays, dimmed, until its successor begins."""
        self._begun.clear()
        self._going = ""
        self.show_all()

    def begin(self, answer: str) -> None:
        """That answer is being generated now (empty: none is)."""
        ended, self._going = self._going, answer
        self._show(*(name for name in ANSWERS if name in (ended, answer)))

    def hear(self, answer: str, piece: str) -> None:
        """``piece`` comes next in ``answer``."""
        so_far = self.texts.get(answer, "") if answer in self._begun else ""
        self.texts[answer] = so_far + piece
        self._begun.add(answer)
        self._show(*(name for name in ANSWERS if answer in (name, BEFORE.get(name))))

    def _show(self, *answers: str) -> None:
        for answer in answers:
            before, old = BEFORE.get(answer, ""), answer not in self._begun
            compared = None if old or before not in self._begun else self.texts.get(before)
            box = self.query_one(f"#{answer}", AnswerBox)
            box.show(self.texts.get(answer, ""), compared, old, answer == self._going)
