"""A form made from a settings class, with the same fields, help texts and checks as the command line."""

import dataclasses
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, TypeVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.errors import UserError, sentence_of
from engine.places import changed, changed_values, located_text, recorded_text, split
from engine.runs.tasks import TASKS
from engine.settings import Place, WrongValue, from_mapping, places_of, to_mapping, written
from engine.workspace import Workspace
from saetui.bindings import key
from saetui.formatting import exact
from saetui.widgets.bars import KeyBar
from saetui.widgets.paths import COMPLETED, PathInput
from saetui.widgets.words import Words

T = TypeVar("T")


class Choice(Widget, can_focus=True):
    """A field with a few options: left, right and space step through them."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; }
    Choice:focus { background: $panel; color: $accent; }
    """
    BINDINGS = [
        key("choice.next", "right,l,space", "turn(1)", "Next"),
        key("choice.previous", "left,h", "turn(-1)", "Previous"),
    ]

    def __init__(self, options: list[str], value: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.options, self.value = options, value

    def render(self) -> Text:
        return Text(f"‹ {self.value} ›" if self.has_focus else self.value, no_wrap=True)

    class Changed(Message):
        """Another option was chosen."""

        def __init__(self, choice: "Choice"):
            super().__init__()
            self.choice = choice

    def action_turn(self, by: int) -> None:
        self.value = self.options[(self.options.index(self.value) + by) % len(self.options)]
        self.refresh()
        self.post_message(self.Changed(self))


class FieldError(UserError):
    """The text typed into ``field`` is not valid."""

    def __init__(self, field: str, sentence: str):
        super().__init__(sentence)
        self.field = field


class Form(ModalScreen[dict[str, Any] | None]):
    """A field for each setting of a task. Dismissed with checked values, or None on cancel.

    Places in the workspace are shown, and taken, relative to it; the values have full paths.
    """

    DEFAULT_CSS = """
    Form { align: center middle; }
    Form > Vertical { width: 90; max-width: 100%; height: 100%; background: $surface; border: round $border;
        padding: 0 1; }
    Form VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    Form .field { height: 1; }
    Form .label { width: 18; color: $secondary; }
    Form Input { border: none; height: 1; padding: 0; width: 1fr; background: $surface; }
    Form Input:focus { background: $panel; }
    Form #help { height: auto; min-height: 3; max-height: 5; color: $secondary; border-top: solid $border; }
    Form #note { height: 4; }
    Form .error { color: $error; }
    Form .label.error { text-style: bold; }
    """
    AROUND = 13
    """Lines around the fields."""
    BINDINGS = [
        key("form.close", "escape", "dismiss", "Cancel", show=True),
        # Before the line of text, which would take it as well: the bar shows whose key it is.
        key("form.next", "enter", "app.focus_next", "Next field", show=True, priority=True),
        key("form.forth", "tab,down", "app.focus_next", "Next field"),
        key("form.previous", "shift+tab,up", "app.focus_previous", "Previous field"),
        key("form.submit", "ctrl+s", "submit", "Start", show=True),
        key("form.help", "f1", "app.help", "Help"),
    ]

    def __init__(
        self,
        title: str,
        kind: type,
        values: Mapping[str, Any],
        first: tuple[str, ...] = (),
        known: Mapping[str, Sequence[str]] | None = None,
        others: bool = True,
        workspace: Workspace | None = None,
        task: str = "",
    ):
        """``first``: fields to put first. ``known``: completions of fields. ``others``: whether the fields that are
        not among the ``first`` follow; else they keep their defaults. ``workspace``: where relative places are, else
        where one stands. ``task``: of engine.runs.tasks, which refuses what it cannot do."""
        super().__init__()
        self.heading, self.kind, self.known = title, kind, dict(known or {})
        self.workspace, self.stage = workspace or Workspace(Path.cwd()), TASKS[task] if task else None
        root = self.workspace.root
        self.given = changed_values(values, places_of(kind), lambda text, sort: recorded_text(text, sort, root))
        self.about, self.note = Words(id="help"), Words(id="note")
        named = {f.name: f for f in dataclasses.fields(kind)}
        rest = [f for f in named.values() if f.name not in first] if others else []
        self.fields = [named[name] for name in first] + rest
        self.marks: dict[str, tuple[str, str]] = {}
        self.wrong = ""
        """The field that was refused, until it is edited."""
        self._refused_value = ""
        self.hints = typing.get_type_hints(kind)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self.heading, style="bold"))
            with VerticalScroll(can_focus=False):
                for field in self.fields:
                    with Horizontal(classes="field"):
                        yield Static(Text(_label(field)), classes="label", id=f"l-{field.name}")
                        yield self._editor(field)
            yield from (self.about, self.note)
            yield KeyBar(helps=False)

    def _editor(self, field: Any) -> Widget:
        value = self.given.get(field.name, "" if field.default is MISSING else field.default)
        kind = self.hints[field.name]
        if kind is bool or typing.get_origin(kind) is typing.Literal:
            options = ["no", "yes"] if kind is bool else [str(option) for option in typing.get_args(kind)]
            given = ("yes" if value else "no") if isinstance(value, bool) else value
            shown = options[0] if given in ("", None) else str(given)
            # What is no option is shown, and refused: another one is not put in its place.
            return Choice(options if shown in options else [shown, *options], shown, id=f"f-{field.name}")
        known = self.known.get(field.name)
        if field.metadata.get("place") in COMPLETED:
            return PathInput(_shown(value), known or (), base=self.workspace.root, id=f"f-{field.name}")
        return Input(
            _shown(value), id=f"f-{field.name}", suggester=SuggestFromList(known) if known else None, compact=True
        )

    def on_mount(self) -> None:
        self.query_one("Form > Vertical").styles.max_height = len(self.fields) + self.AROUND
        self.query("Input, Choice").first().focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        name = (event.widget.id or "").removeprefix("f-")
        field = next((f for f in self.fields if f.name == name), None)
        if field is not None:
            self._explain(field)

    def _explain(self, field: Any) -> None:
        _, why = self.marks.get(field.name, ("", ""))
        self.about.say(" ".join(filter(None, (why, field.metadata.get("help", "")))))

    def mark(self, name: str, word: str = "", why: str = "") -> None:
        """Write ``word`` beside the name of a field, and ``why`` before its help; neither: as it was."""
        self.marks[name] = word, why
        self._write_label(name)
        if self.focused is self.editor(name):
            self._explain(next(one for one in self.fields if one.name == name))

    def _write_label(self, name: str) -> None:
        """Write the name of a field anew."""
        field = next(one for one in self.fields if one.name == name)
        word, _ = self.marks.get(name, ("", ""))
        label = self.query_one(f"#l-{name}", Static)
        label.set_class(name == self.wrong, "error")
        before = "! " if name == self.wrong else ""
        label.update(Text.assemble(before, _label(field), " ", (word, self.app.current_theme.accent or "")))

    def _blame(self, name: str) -> None:
        """Mark the field ``name``, and no other, as wrong."""
        before, self.wrong = self.wrong, name
        self._refused_value = self.editor(name).value if name else ""
        for one in filter(None, {before, name}):
            self._write_label(one)

    def editor(self, name: str) -> Input | Choice:
        """Where the field ``name`` is typed or chosen."""
        found = self.query_one(f"#f-{name}")
        assert isinstance(found, (Input, Choice))
        return found

    def on_input_changed(self, event: Input.Changed) -> None:
        self._edited(event.input)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        self._edited(event.choice)

    def _edited(self, editor: Widget) -> None:
        # What changed before it was refused may be told after that.
        if self.wrong and editor is self.editor(self.wrong) and self.editor(self.wrong).value != self._refused_value:
            self._blame("")
            self.say("")
        self.edited()

    def edited(self) -> None:
        """Called when a field has changed. For subclasses to override."""

    def values(self, **instead: Any) -> dict[str, Any]:
        """The checked values of all fields, ``instead`` for some. Raises UserError for the first that is not valid."""
        typed = dict(instead)
        for field in [one for one in self.fields if one.name not in instead]:
            typed[field.name] = _parsed(self.editor(field.name).value.strip(), self.hints[field.name], field)
        try:
            return to_mapping(changed(from_mapping(self.kind, typed, self.heading), self._place))
        except WrongValue as error:
            raise self._refused(error) from None

    def _place(self, text: str, sort: Place) -> str:
        """A place that was typed, in full; a model that is not there may be one of a hub."""
        place = located_text(text, sort, self.workspace.root)
        return text if sort == "model" and place != text and not os.path.exists(split(place, sort)[1]) else place

    def _refused(self, error: WrongValue) -> FieldError:
        return FieldError(error.setting, error.told(_CALLED, self.workspace.root))

    def accepted(self, **instead: Any) -> dict[str, Any]:
        """The same, if the task can be done with them. Raises UserError where it cannot."""
        values = self.values(**instead)
        try:
            if self.stage is not None:
                self.stage.refuse(from_mapping(self.kind, values, self.heading), self.workspace)
        except WrongValue as error:
            raise self._refused(error) from None
        return values

    def say(self, sentence: str, error: bool = False) -> None:
        self.note.set_class(error, "error")
        self.note.say(sentence)

    def action_submit(self) -> None:
        values = self.checked(self.accepted)
        if values is not None:
            self.dismiss(values)

    def checked(self, read: Callable[[], T | None]) -> T | None:
        """What is typed; None when a value is not valid: then the form shows why and focuses its field."""
        try:
            return read()
        except FieldError as error:
            self.blame(error.field, str(error))
        except (UserError, OSError) as error:
            self.say(sentence_of(error), error=True)
        return None

    def blame(self, name: str, sentence: str) -> None:
        """Say what is wrong with the field ``name``, and go there; where the form has no such field, only say it."""
        if name in [one.name for one in self.fields]:
            self._blame(name)
            self.editor(name).focus()
        self.say(sentence, error=True)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(v) for v in value)
    return exact(value) if isinstance(value, float) else str(value)


def _parsed(text: str, kind: Any, field: Any) -> Any:
    """``text`` as a value of type ``kind``; the default of the field for an empty text."""
    if kind is bool:
        return {"yes": True, "no": False}.get(text, text)
    if not text and field.default is MISSING:
        raise FieldError(field.name, f"{_label(field)} is missing: fill it in.")
    if not text:
        return field.default
    if typing.get_origin(kind) is tuple:
        return [written(part.strip(), typing.get_args(kind)[0]) for part in text.split(",") if part.strip()]
    return written(text, kind)


def _label(field: Any) -> str:
    return field.name.replace("_", " ")


_CALLED = {name: name.replace("_", " ") for task in TASKS.values() for name in typing.get_type_hints(task.settings)}
"""What forms call settings."""
