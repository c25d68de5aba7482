"""Steering recipes: settings kept as TOML, to be replayed. Imports no torch.

    format = "saetui-recipe"
    version = 1
    [settings]     those of ``saetui steer`` that differ from its defaults
    [[made_from]]  the SAE, by content hash
    [versions]     of the programs that it was saved with

A setting given beside a recipe overrides the recipe's when it differs from the default of ``saetui steer``.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine.config import SteerSettings
from engine.errors import UserError
from engine.files import check_version, path_of, read_toml, to_toml, write_text
from engine.links import check_own
from engine.places import located, recorded, workspace_of
from engine.records import from_json, to_json
from engine.sae.config import weights_sha256
from engine.settings import from_mapping, to_mapping
from engine.workspace import Provenance, Source, Workspace, versions

FORMAT, VERSION = "saetui-recipe", 1


@dataclass(frozen=True)
class Recipe:
    """Settings of a steered answer, kept."""

    settings: SteerSettings
    made_from: tuple[Source, ...]

    def over(self, settings: SteerSettings) -> SteerSettings:
        """``settings`` laid over those of the recipe."""
        return replace(self.settings, **{name: getattr(settings, name) for name in _changed(settings)})

    def warning(self, sha256: str) -> str:
        """What to say when the SAE with this content hash is not the one that the recipe was saved with; else empty."""
        other = next((one for one in self.made_from if one.kind == "sae" and one.sha256 != sha256), None)
        if other is None:
            return ""
        return f"The SAE {other.name} is not the one that the recipe was saved with: answers may differ."


def save_recipe(workspace: Workspace, settings: SteerSettings, made_from: Sequence[Source] = ()) -> Path:
    """Keep ``settings`` under the name ``settings.save_recipe``; a recipe with other settings is not overwritten."""
    path = workspace.recipe(settings.save_recipe)
    check_own(path)
    names = _changed(settings) - {"recipe", "save_recipe"}
    now = recorded(settings, workspace.root)
    kept = {key: value for key, value in to_mapping(now).items() if key in names}
    if kept_before := check_other(workspace, settings):
        _check_sae(kept_before, settings.save_recipe, made_from)
    origin = to_json(recorded(Provenance(tuple(made_from), versions()), workspace.root))
    document = {"format": FORMAT, "version": VERSION, "settings": kept, **origin}
    write_text(path, to_toml(document))
    return path


def keep_recipe(workspace: Workspace, settings: SteerSettings) -> Path:
    """As :func:`save_recipe`, with the content hash of the SAE that ``settings`` name."""
    folder = workspace.existing("saes", settings.sae)
    return save_recipe(workspace, settings, [Source("sae", folder.name, str(folder), weights_sha256(folder))])


def check_other(workspace: Workspace, settings: SteerSettings) -> Recipe | None:
    """The recipe that is there under the name ``settings.save_recipe``. UserError when it says something else."""
    path = workspace.recipe(settings.save_recipe)
    if not path.exists():
        return None
    kept = load_recipe(workspace, str(path))
    now = located(recorded(settings, workspace.root), workspace.root)
    if kept.settings != replace(now, recipe="", save_recipe=""):
        raise UserError(f"There is a recipe {settings.save_recipe} with other settings: take another name.")
    return kept


def _check_sae(kept: Recipe, name: str, made_from: Sequence[Source]) -> None:
    """UserError where it was saved with another SAE."""
    if any(kept.warning(one.sha256) for one in made_from if one.kind == "sae"):
        raise UserError(f"There is a recipe {name}, saved with another SAE of this name: take another name.")


def load_recipe(workspace: Workspace, given: str) -> Recipe:
    """The recipe named ``given``, or at that path; UserError when there is none."""
    path = _find(workspace, given)
    document = read_toml(path)
    if document.get("format") != FORMAT:
        raise UserError(f"{path} is not a steering recipe (its format is not {FORMAT}): give a file of recipes/.")
    check_version(document.get("version"), VERSION, path)
    origin = Provenance(from_json(tuple[Source, ...], document.get("made_from", []), f"{path}: made_from"))
    root = workspace_of(path) if path.parent.name == "recipes" else workspace.root
    return Recipe(located(settings_in(document, path), root), located(origin, root).made_from)


def settings_in(document: Mapping[str, Any], path: Path) -> SteerSettings:
    """The settings of the recipe that was read from ``path``. UserError where they are none."""
    given = document.get("settings")
    if not isinstance(given, dict):
        raise UserError(f"{path} has no table [settings]: it is damaged, save the recipe again.")
    return from_mapping(SteerSettings, given, f"Recipe {path.stem}")


def open_recipe(workspace: Workspace, given: str) -> tuple[SteerSettings, str]:
    """The settings of a recipe, and a warning (or nothing) when its SAE is no longer the one that it was saved with."""
    recipe = load_recipe(workspace, given)
    return recipe.settings, recipe.warning(weights_sha256(workspace.existing("saes", recipe.settings.sae)))


def with_recipe(workspace: Workspace, settings: SteerSettings) -> SteerSettings:
    """``settings`` laid over those of the recipe that they name (see above); as they are when they name none."""
    return load_recipe(workspace, settings.recipe).over(settings) if settings.recipe else settings


def _changed(settings: SteerSettings) -> set[str]:
    """The settings that differ from their defaults."""
    return {field.name for field in fields(settings) if getattr(settings, field.name) != field.default}


def _find(workspace: Workspace, given: str) -> Path:
    path = path_of(given)
    if (os.sep in given or given.endswith(".toml")) and path.is_file():
        return path
    path = workspace.recipe(given.removesuffix(".toml")) if os.sep not in given else path
    if path.exists():  # what is no file is said by who reads it
        return path
    known = sorted(p.stem for p in (workspace.root / "recipes").glob("*.toml"))
    raise UserError(
        f"There is no recipe {given} in {workspace.root}: "
        + (f"it has {', '.join(known[:8])}." if known else "save one with --save-recipe NAME.")
    )
