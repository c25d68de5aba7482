"""A form made from a settings class: the same fields, sentences and checks as the command line has."""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.config import from_mapping, to_mapping
from engine.errors import UserError
from saetui.keys import key
from saetui.text import literal


class Choice(Widget, can_focus=True):
    """One of a few words: left, right and space turn it."""

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
        return Text(f"‹ {self.value} ›" if self.has_focus else f"  {self.value}", no_wrap=True)

    def action_turn(self, by: int) -> None:
        self.value = self.options[(self.options.index(self.value) + by) % len(self.options)]
        self.refresh()
        self.post_message(events.DescendantFocus(self))


class Form(ModalScreen[dict[str, Any] | None]):
    """Fields for the settings of ``kind``. Dismissed with values that ``kind`` takes, or None."""

    DEFAULT_CSS = """
    Form { align: center middle; }
    Form > Vertical { width: 90; max-width: 100%; height: auto; max-height: 100%; background: $surface;
        border: round $border; padding: 0 1; }
    Form VerticalScroll { height: auto; max-height: 1fr; }
    Form .field { height: 1; }
    Form .label { width: 18; color: $secondary; }
    Form Input { border: none; height: 1; padding: 0; width: 1fr; background: $surface; }
    Form Input:focus { background: $panel; }
    Form #help { height: 2; color: $secondary; }
    Form #note { height: auto; max-height: 5; }
    Form #keys { height: 1; color: $secondary; }
    Form .error { color: $error; }
    """
    BINDINGS = [
        key("form.close", "escape", "dismiss", "Cancel", show=True),
        key("form.next", "tab,down", "app.focus_next", "Next field"),
        key("form.previous", "shift+tab,up", "app.focus_previous", "Previous field"),
        key("form.submit", "enter,ctrl+s", "submit", "Start", show=True),
        key("form.estimate", "f2", "estimate", "Estimate", show=True),
    ]

    def __init__(
        self,
        title: str,
        kind: type,
        values: Mapping[str, Any],
        first: tuple[str, ...] = (),
        checks: Mapping[str, Any] | None = None,
        can_estimate: bool = False,
    ):
        """``first``: fields that come first. ``can_estimate``: f2 asks the pane (``estimate(values)``)."""
        super().__init__()
        self.heading, self.kind, self.given = title, kind, dict(values)
        self.can_estimate = can_estimate
        named = {f.name: f for f in dataclasses.fields(kind)}
        self.fields = [named[name] for name in first] + [f for f in named.values() if f.name not in first]
        self.hints = typing.get_type_hints(kind)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self.heading, style="bold"))
            with VerticalScroll(can_focus=False):
                for field in self.fields:
                    with Horizontal(classes="field"):
                        yield Static(Text(field.name.replace("_", " ")), classes="label")
                        yield self._editor(field)
            yield Static(id="help", markup=False)
            yield Static(id="note", markup=False)
            yield Static("enter start   esc cancel" + ("   f2 estimate" if self.can_estimate else ""), id="keys")

    def _editor(self, field: Any) -> Widget:
        value = self.given.get(field.name, "" if field.default is MISSING else field.default)
        kind = self.hints[field.name]
        if kind is bool:
            return Choice(["no", "yes"], "yes" if value else "no", id=f"f-{field.name}")
        if typing.get_origin(kind) is typing.Literal:
            options = [str(o) for o in typing.get_args(kind)]
            return Choice(options, str(value) if str(value) in options else options[0], id=f"f-{field.name}")
        return Input(_shown(value), id=f"f-{field.name}")

    def on_mount(self) -> None:
        self.query("Input, Choice").first().focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        name = (event.widget.id or "").removeprefix("f-")
        field = next((f for f in self.fields if f.name == name), None)
        if field is not None:
            self.query_one("#help", Static).update(Text(field.metadata.get("help", "")))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.action_submit()

    def values(self) -> dict[str, Any]:
        """What the fields say, checked. UserError for the first that makes no sense."""
        typed = {}
        for field in self.fields:
            editor = self.query_one(f"#f-{field.name}")
            text = editor.value if isinstance(editor, (Input, Choice)) else ""
            kind = self.hints[field.name]
            if kind is bool:
                typed[field.name] = text == "yes"
            elif text.strip() or field.default is not MISSING:
                typed[field.name] = _parsed(text.strip(), kind, field)
        return to_mapping(from_mapping(self.kind, typed, self.heading))

    def say(self, sentence: str, error: bool = False) -> None:
        note = self.query_one("#note", Static)
        note.set_class(error, "error")
        note.update(Text(literal(sentence)))

    def action_submit(self) -> None:
        try:
            self.dismiss(self.values())
        except UserError as error:
            self.say(str(error), error=True)

    def action_estimate(self) -> None:
        if not self.can_estimate:
            return
        try:
            values = self.values()
        except UserError as error:
            self.say(str(error), error=True)
            return
        self.say("Estimating …")
        self.estimate(values)

    def estimate(self, values: dict[str, Any]) -> None:
        """Overridden by forms that can."""


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parsed(text: str, kind: Any, field: Any) -> Any:
    """The value that ``text`` means for a field of type ``kind``; its default for an empty text."""
    if not text and field.default is not MISSING:
        return field.default if field.default not in ((), None) else type(field.default)()
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return [_parsed(part.strip(), item, field) for part in text.split(",") if part.strip()]
    if kind in (int, float):
        try:
            return kind(text.replace("_", "").replace(",", "")) if kind is int else float(text)
        except ValueError:
            raise UserError(f"{field.name.replace('_', ' ')} is {text!r}: it must be a number.") from None
    return text
