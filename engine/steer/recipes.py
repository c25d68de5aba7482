"""Steering recipes: settings kept as TOML, to be replayed. Imports no torch.

    format = "saetui-recipe"
    version = 1
    [settings]     those of ``saetui steer`` that differ from its defaults
    [[made_from]]  the SAE, by content hash
    [versions]     of the programs that it was saved with

A setting given beside a recipe overrides the recipe's when it differs from the default of ``saetui steer``.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.config import SteerSettings, from_mapping, to_mapping
from engine.errors import UserError
from engine.files import check_version, read_toml, to_toml, write_text
from engine.workspace import Workspace, provenance

FORMAT, VERSION = "saetui-recipe", 1
_NOT_KEPT = ("recipe", "save_recipe")


def save_recipe(workspace: Workspace, settings: SteerSettings, made_from: Sequence[dict[str, str]] = ()) -> Path:
    """Keep ``settings`` under the name ``settings.save_recipe``; a recipe with other settings is not overwritten."""
    path = workspace.recipe(settings.save_recipe)
    kept = {key: value for key, value in _given(settings).items() if key not in _NOT_KEPT}
    if path.exists() and read_toml(path).get("settings") != kept:
        raise UserError(
            f"There is a recipe {settings.save_recipe} with other settings: take another name, or remove {path}."
        )
    origin = provenance(made_from)
    document = {"format": FORMAT, "version": VERSION, "settings": kept, **origin}
    write_text(path, to_toml(document))
    return path


def load_recipe(workspace: Workspace, given: str) -> dict[str, Any]:
    """The whole document of the recipe named ``given``, or at that path; UserError when there is none."""
    path = _find(workspace, given)
    document = read_toml(path)
    if document.get("format") != FORMAT:
        raise UserError(f"{path} is not a steering recipe (its format is not {FORMAT}): give a file of recipes/.")
    check_version(document.get("version"), VERSION, path)
    if not isinstance(document.get("settings"), dict):
        raise UserError(f"{path} has no table [settings]: it is damaged, save the recipe again.")
    return document


def with_recipe(workspace: Workspace, settings: SteerSettings) -> SteerSettings:
    """``settings`` laid over those of the recipe that they name (see above); as they are when they name none."""
    if not settings.recipe:
        return settings
    kept = load_recipe(workspace, settings.recipe)["settings"]
    return from_mapping(SteerSettings, {**kept, **_given(settings)}, f"Recipe {settings.recipe}")


def _given(settings: SteerSettings) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    defaults = {f.name: f.default for f in dataclasses.fields(settings)}
    changed = {name for name, default in defaults.items() if getattr(settings, name) != default}
    return {key: value for key, value in to_mapping(settings).items() if key in changed}


def _find(workspace: Workspace, given: str) -> Path:
    path = Path(given).expanduser()
    if (os.sep in given or given.endswith(".toml")) and path.is_file():
        return path
    path = workspace.recipe(given.removesuffix(".toml")) if os.sep not in given else path
    if path.is_file():
        return path
    known = sorted(p.stem for p in (workspace.root / "recipes").glob("*.toml"))
    raise UserError(
        f"There is no recipe {given} in {workspace.root}: "
        + (f"it has {', '.join(known[:8])}." if known else "save one with --save-recipe NAME.")
    )
