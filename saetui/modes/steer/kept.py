"""What is kept of steering: every version that was answered, and the recipes that a person saves."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.errors import UserError
from engine.records import from_json, to_json
from engine.steer.recipes import keep_recipe
from engine.workspace import free_name, recipes, short_slug
from saetui.background import look_up
from saetui.modes.mode import Mode
from saetui.modes.steer import recipes_screen
from saetui.modes.steer.answers import AnswersView
from saetui.modes.steer.setup import Setup, SetupEditor, setup_of_recipe
from saetui.modes.steer.versions import Version, Versions
from saetui.modes.steer.versions_screen import VersionsScreen
from saetui.widgets.dialogs import Ask

T = TypeVar("T")


def suggested_name(setup: Setup, taken: Container[str]) -> str:
    """What a recipe of ``setup`` may be called: all its latents, each with its strength and sign."""
    latents = [slot.in_a_word(setup.mode) for slot in setup.rack if slot.on]
    return free_name(short_slug("_".join(latents)), taken) if latents else ""


class Kept:
    """Versions and recipes of the workspace that ``mode`` shows, and the dialogs about them."""

    def __init__(self, mode: Mode, editor: SetupEditor, answers: AnswersView):
        self._mode, self._editor, self._answers = mode, editor, answers
        self._services = mode.services
        self._versions = Versions(self._services.session.path.with_suffix(".versions.jsonl"))

    def last(self, name: str, kind: type[T]) -> T | None:
        """What was remembered under ``name``; None for nothing, and for what is damaged."""
        try:
            last: T = from_json(kind, self._mode.remembered[name], f"A kept {name}")
        except (UserError, KeyError):
            return None
        return last

    def add(self, version: Version) -> None:
        self._mode.remember(version=to_json(version))
        add = partial(self._versions.add, version)
        look_up(self._mode, "versions", add, lambda _: None, self._services.say, supersede=False, unasked=True)

    def pick_version(self) -> None:
        """Take back an earlier one, answers and all; the model is not asked."""

        def chosen(version: Version) -> None:
            self._editor.restore(version.setup)
            self._answers.put(version.answers)
            self._mode.remember(version=to_json(version))

        def take(found: list[Version]) -> None:
            if found:
                self._services.ask(VersionsScreen(found), chosen)
            else:
                self._services.say("Nothing has been asked in this workspace yet: r asks.", "information")

        look_up(self._mode, "history", self._versions.read, take, self._services.say)

    def ask_recipe_name(self) -> None:
        """Save the setup as a recipe."""
        setup = self._editor.setup
        if not setup.sae:
            self._services.say(setup.lacks)
            return

        def given(name: str) -> None:
            keep = partial(keep_recipe, self._services.workspace, setup.settings(save_recipe=name))
            look_up(self._mode, "recipe", keep, saved, self._services.say)

        def saved(path: Path) -> None:
            self._services.say(f"Saved as {path}.", "information")

        self._services.ask(Ask("Save as the recipe", suggested_name(setup, recipes(self._services.workspace))), given)

    def pick_recipe(self) -> None:
        """Take over what a recipe says."""
        workspace = self._services.workspace

        def take(found: tuple[Setup, str]) -> None:
            setup, warning = found
            if warning:
                self._services.say(warning)
            self._editor.change(setup)

        def chosen(kept: recipes_screen.KeptRecipe) -> None:
            look_up(self._mode, "recipe", partial(setup_of_recipe, workspace, kept.name), take, self._services.say)

        def listed(found: list[recipes_screen.KeptRecipe]) -> None:
            if found:
                self._services.ask(recipes_screen.RecipesScreen(found), chosen)
            else:
                self._services.say("There is no recipe yet: w saves one.")

        look_up(self._mode, "recipes", partial(recipes_screen.read, workspace), listed, self._services.say)
