"""Forms that ask a worker about what is typed, and say it before anything begins: what an import finds, for one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from textual.timer import Timer

from engine.activations.results import ANSWERS, Question, RecognisedRows
from engine.config import ImportSettings, RecogniseSettings
from engine.runs.attached import Attached
from engine.sae.results import Seen
from engine.workspace import Workspace, free_name, short_slug
from saetui.background import look_up
from saetui.bindings import key
from saetui.formatting import size, sizes
from saetui.widgets.form import FieldError, Form

QUIET = 0.8  # seconds without a key after which what is typed is asked about


class AskingForm(Form):
    """Asks a worker for ``TASK`` by itself when typing rests, and on f2. What it says stands below the fields."""

    TASK = ""
    BINDINGS = [key("form.estimate", "f2", "estimate", "Estimate", show=True)]

    def __init__(self, *given: Any, **options: Any):
        super().__init__(*given, **options)
        self._asked: Attached | None = None
        self._about: dict[str, Any] | None = None
        self._resting: Timer | None = None

    def edited(self) -> None:
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(QUIET, self._rested)

    def _rested(self) -> None:
        try:
            wanted = self.wanted()
        except FieldError as error:
            self.unready(error)
            return
        if wanted is not None and wanted != self._about:
            self.estimate(wanted)

    def unready(self, error: FieldError) -> None:
        """What is typed cannot be: who submits it hears of it. For subclasses to override."""

    def wanted(self) -> dict[str, Any] | None:
        """Settings of the task as they are typed; None where there is nothing to ask yet. May raise UserError."""
        return self.accepted()

    def action_estimate(self) -> None:
        wanted = self.checked(self.wanted)
        if wanted is not None:
            self.estimate(wanted)

    def estimate(self, values: dict[str, Any]) -> None:
        self._forget()
        self._about = values
        self._asked = Attached(self.workspace, self.TASK, values)
        self.say("Looking …")
        look_up(self, self.TASK, self._asked.result, self._answered, self.refused)

    def _answered(self, result: Any) -> None:
        if result is not None:
            self.told(result)

    def told(self, result: Any) -> None:
        """What the task has found. For subclasses to override."""

    def refused(self, sentence: str) -> None:
        self.say(sentence, error=True)

    def _forget(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def on_unmount(self) -> None:
        self._forget()


Imports = Literal["an SAE", "activations"]
_MODES: dict[Imports, str] = {"an SAE": "Train (2)", "activations": "Data (1)"}
_RECOGNISED = tuple(one.name for one in fields(RecogniseSettings))
_PLAIN_NAMES = re.compile(r"trainer_\d+|checkpoints|ae|sae|ae_\d+|sae_weights|")
"""Of files and folders, that say nothing of what is in them."""


class ImportForm(AskingForm):
    """Dismissed with the settings of ``import``. It says what is at the source. What its files do not say, and is
    likely, stands in its field, marked as proposed, until somebody types something else or confirms the form."""

    TASK = "recognise"
    AROUND = 18
    DEFAULT_CSS = """
    ImportForm #note { height: auto; min-height: 4; max-height: 9; }
    """

    def __init__(
        self,
        workspace: Workspace,
        what: Imports,
        values: Mapping[str, Any],
        first: tuple[str, ...],
        known: Mapping[str, Sequence[str]],
        taken: Collection[str],
    ):
        """``first``: the fields that it has. ``taken``: names that are not free."""
        options = {"workspace": workspace, "task": "import", "others": False}
        super().__init__(f"Import {what}", ImportSettings, values, first, known, **options)
        self.what, self.taken = what, taken
        self.proposed: dict[str, str] = {}
        """Values of fields that nobody has typed."""
        self._found: Seen | None = None
        self._refusal = ""

    def wanted(self) -> dict[str, Any] | None:
        """What is typed: a proposal is no answer until the form is confirmed."""
        typed = {one.name: self.editor(one.name).value.strip() for one in self.fields}
        if not typed["source"]:
            return None
        values = self.accepted() if typed["name"] else self.accepted(name="unnamed")
        plain = {one.name: one.default for one in fields(ImportSettings)}
        open_ = [name for name, value in self.proposed.items() if typed[name] == value]
        return {name: plain[name] if name in open_ else values[name] for name in _RECOGNISED}

    def unready(self, error: FieldError) -> None:
        if error.field == "source":  # all else is asked of what is there
            self.refused(str(error))

    def edited(self) -> None:
        for name in [one for one, value in self.proposed.items() if self.editor(one).value != value]:
            del self.proposed[name]
            self.mark(name)
        super().edited()

    def estimate(self, values: dict[str, Any]) -> None:
        self._found, self._refusal = None, ""
        super().estimate(values)

    def told(self, result: Seen) -> None:
        found: Imports = "activations" if isinstance(result, RecognisedRows) else "an SAE"
        if found != self.what:
            self.refused(f"There is {sizes(result)}: it is imported in {_MODES[found]}, by i.")
            return
        self._found = result
        self._take_back()
        if not self.editor("name").value:
            self._propose("name", free_name(_stem(_place(result)), self.taken), "")
        for question in result.questions:
            self._ask(question)
        self.say(in_words(result))

    @property
    def answered(self) -> bool:
        """Whether it is known what is at the source, or that nothing is."""
        return bool(self._found or self._refusal)

    def _take_back(self) -> None:
        """What was proposed of another source, or before another answer."""
        for name in self.proposed:
            self._put(name, "")
        for name in self.marks:
            self.mark(name)
        self.proposed.clear()

    def _ask(self, question: Question) -> None:
        name = _field(question)
        if name not in [one.name for one in self.fields]:
            return
        if question.likely and not self.editor(name).value:
            self._propose(name, question.likely, question.why)
        else:
            why = f" ({question.why})" if question.why else ""
            self.mark(name, "(asked)", f"Asked: {ANSWERS[question.setting]}{why}.")

    def _propose(self, name: str, value: str, why: str) -> None:
        self.proposed[name] = value
        self._put(name, value)
        self.mark(name, "(proposed)", f"Proposed ({why})." if why else "")

    def _put(self, name: str, value: str) -> None:
        editor = self.editor(name)
        editor.value = value
        editor.refresh()

    def refused(self, sentence: str) -> None:
        self._refusal = sentence
        self._take_back()
        super().refused(sentence)

    def action_submit(self) -> None:
        """Not while it is known that it would be refused: what is at fault can be mended here."""
        values = self.checked(self.accepted)
        if values is None:
            return
        known = self.wanted() == self._about
        open_ = [one for one in self._found.questions if _unanswered(one, values)] if known and self._found else []
        if open_:
            self.blame(_field(open_[0]), f"Its files do not say the {_words(open_[0])}: fill it in.")
        elif known and self._refusal and not values["source"].startswith("hf:"):  # which an import fetches
            self.refused(self._refusal)
            self.blame("source", self._refusal)
        else:
            self.dismiss(values)


def _unanswered(question: Question, values: Mapping[str, Any]) -> bool:
    plain = {one.name: one.default for one in fields(ImportSettings)}
    return bool(values[_field(question)] == plain[_field(question)])


def _field(question: Question) -> str:
    """The setting that answers it."""
    return question.setting.replace("-", "_")


def _words(question: Question) -> str:
    return question.setting.replace("-", " ")


def _place(found: Seen) -> str:
    return found.place if isinstance(found, RecognisedRows) else found.file


def _stem(file: str) -> str:
    """A name for the SAE in ``file``: the innermost part of its path that says something."""
    parts = [Path(file).stem, *reversed(Path(file).parent.parts)]
    return short_slug(next(part for part in (*parts, "imported") if not _PLAIN_NAMES.fullmatch(part)))


def in_words(found: Seen) -> str:
    """What was recognised, and what is asked, as the form says it."""
    room = f"; {size(found.bytes)} to write, {size(found.free)} free" if found.bytes else ""
    asked = [_asked(one) for one in found.questions]
    head = ["Its files do not say:"] if asked else ["Nothing more is asked."]
    return "\n".join([f"{sizes(found)}{room}", *found.notes, *head, *asked])


def _asked(question: Question) -> str:
    likely = f" {question.likely}, proposed" if question.likely else f" ({ANSWERS[question.setting]})"
    return f"  {_words(question)}{likely}" + (f": {question.why}" if question.why else "")
