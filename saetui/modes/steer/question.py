"""What is asked, of which model, and how latents are changed meanwhile: three lines, and the dialogs that edit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from rich.text import Text

from engine.config import InterventionMode
from engine.models.asked import check_vlm
from engine.steer.interventions import parse_tokens
from engine.workspace import neurons_of, saes
from saetui.formatting import literal
from saetui.modes.steer.setup import Setup, SetupEditor
from saetui.services import Served
from saetui.widgets.dialogs import Ask, AskText, Pick
from saetui.widgets.words import Words

LONGER = 8  # tokens by which an answer becomes longer or shorter
LONGEST = 512
PROMPTS = 20  # remembered
MODES: tuple[InterventionMode, ...] = get_args(InterventionMode)


class QuestionLines(Served, Words):
    """Each value after the key that changes it."""

    DEFAULT_CSS = """
    QuestionLines { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, editor: SetupEditor, **options: Any):
        super().__init__(**options)
        self._editor = editor

    @property
    def setup(self) -> Setup:
        return self._editor.setup

    def show(self, keys: Mapping[str, str]) -> None:
        """Draw the setup anew. ``keys``: the key of each action, by its id."""
        setup = self.setup
        accent, quiet = f"bold {self.app.current_theme.accent or ''}", self.app.current_theme.secondary or ""
        text = Text()

        def part(what: str, label: str, value: str, end: str = "   ") -> None:
            text.append(keys.get(f"steer.{what}", ""), style=accent)
            text.append(f" {label} ", style=quiet)
            text.append(literal(value) + end)

        part("prompt", "prompt", setup.prompt.replace("\n", " ⏎ "), "\n")
        part("mode", "mode", setup.mode)
        part("tokens", "tokens", setup.tokens)
        text.append(keys.get("steer.shorter", "<"), style=accent)
        part("longer", "new", str(setup.max_new_tokens))
        part("error", "error", "kept" if setup.keep_error else "dropped", "\n")
        part("sae", "SAE", setup.sae or "none")
        part("vlm", "model", setup.vlm or "none", "")
        self.say(text)

    def edit(self, kind: str = "", **values: Any) -> None:
        """Change these values; edits of the same ``kind`` in a row are undone together."""
        self._editor.change(replace(self.setup, **values), kind)

    def ask_prompt(self) -> None:
        kept = self.services.session.recall("steer", "prompts", list[Any]())
        prompts = [prompt for prompt in kept if isinstance(prompt, str)]

        def given(prompt: str) -> None:
            self.services.remember("steer", prompts=[prompt, *(p for p in prompts if p != prompt)][:PROMPTS])
            if prompt == self.setup.prompt:
                self._editor.ask()  # enter asks, as it says, the same question too
            else:
                self.edit(prompt=prompt)

        self.services.ask(AskText("What to ask", self.setup.prompt, prompts), given)

    def next_mode(self) -> None:
        self.edit("mode", mode=MODES[(MODES.index(self.setup.mode) + 1) % len(MODES)])

    def ask_tokens(self) -> None:
        def given(text: str) -> None:
            if self.services.guard(lambda: parse_tokens(text)):
                self.edit(tokens=text)

        question = "Visual tokens to steer: all, or indices like 0,3,5-9"
        self.services.ask(Ask(question, self.setup.tokens, {"all": question}, check=parse_tokens), given)

    def lengthen(self, by: int) -> None:
        self.edit("length", max_new_tokens=max(min(self.setup.max_new_tokens + by, LONGEST), LONGER))

    def switch_error(self) -> None:
        self.edit("error", keep_error=not self.setup.keep_error)

    def pick_sae(self) -> None:
        workspace = self.services.workspace

        def chosen(sae: str) -> None:
            self._editor.change(self.setup.of_sae(sae, neurons_of(workspace, sae)))

        names = saes(workspace)
        if names:
            self.services.ask(Pick("Steer with the SAE", {name: name for name in names}, self.setup.sae), chosen)
        else:
            self.services.say(Setup().lacks)

    def ask_model(self) -> None:
        known = {"demo": "the small LLaVA that comes with saetui", "hf:": "hf:ORG/NAME of a LLaVA-class model"}
        question = Ask("Model: hf:ORG/NAME, a local directory, or demo", self.setup.vlm, known, check=check_vlm)
        self.services.ask(question, lambda vlm: self.edit(vlm=vlm))
