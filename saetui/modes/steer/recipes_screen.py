"""The recipes of a workspace as a list to choose from."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import SteerSettings
from engine.errors import UserError
from engine.query import RowField, Rows
from engine.steer.recipes import load_recipe
from engine.workspace import Workspace, recipes
from saetui.widgets.choose_row import ChooseRow
from saetui.widgets.table import Column

COLUMNS = (
    Column("recipe", 20, "left", ends=True),
    Column("sae", 10, "left", ends=True),
    Column("latents", 16, "left"),
    Column("image", 8, "left", ends=True),
    Column("prompt", 0, "left"),
)


@dataclass(frozen=True)
class KeptRecipe:
    """A recipe, or why it cannot be read."""

    name: str
    settings: SteerSettings | None = None
    problem: str = ""

    @property
    def latents(self) -> str:
        return ", ".join(self.settings.latent) if self.settings else ""

    def says(self, setting: str) -> str:
        return str(getattr(self.settings, setting)) if self.settings else ""


def read(workspace: Workspace) -> list[KeptRecipe]:
    """All of them; one that is damaged says so. Reads files: for a thread."""
    found = []
    for name in recipes(workspace):
        try:
            found.append(KeptRecipe(name, load_recipe(workspace, name).settings))
        except UserError as error:
            found.append(KeptRecipe(name, problem=str(error)))
    return found


class RecipesScreen(ChooseRow[KeptRecipe]):
    """Enter takes over what a recipe says."""

    def __init__(self, kept: list[KeptRecipe]):
        super().__init__(COLUMNS, cells, RECIPES, kept, "pencil sae=x8*")


def cells(kept: KeptRecipe) -> tuple[str, ...]:
    prompt = kept.says("prompt") or kept.problem
    return kept.name, kept.says("sae"), kept.latents, kept.says("image"), prompt


RECIPES: Rows[KeptRecipe] = Rows(
    "Recipes",
    {
        "recipe": RowField("text", lambda kept: kept.name, ("name",)),
        "sae": RowField("text", lambda kept: kept.says("sae")),
        "latents": RowField("text", lambda kept: kept.latents),
        "image": RowField("text", lambda kept: kept.says("image")),
        "prompt": RowField("text", lambda kept: kept.says("prompt")),
        "vlm": RowField("text", lambda kept: kept.says("vlm"), ("model",)),
        "mode": RowField("text", lambda kept: kept.says("mode")),
    },
)
