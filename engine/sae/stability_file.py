"""The file in which is kept what SAEs have in common. Costs no torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import check_version, read_json, write_json
from engine.places import located, recorded, workspace_of
from engine.records import from_json, to_json
from engine.sae.results import StabilityMeasured
from engine.workspace import Workspace

FORMAT, VERSION = "saetui-stability", 1


def write_stability(measured: StabilityMeasured, latents: list[dict[str, Any]], workspace: Workspace) -> None:
    """Keep it where it says, with what is said of every latent, pair by pair."""
    said = to_json(recorded(measured, workspace.root))
    del said["path"]
    write_json(Path(measured.path), {"format": FORMAT, "version": VERSION, **said, "latents": latents})


def read_stability(path: Path) -> StabilityMeasured:
    """The result in ``path``, in sum. UserError for what is none."""
    said = told(path)
    found = from_json(StabilityMeasured, {**said, "path": ""}, str(path))
    return replace(located(found, workspace_of(path)), path=str(path))


def told(path: Path) -> dict[str, Any]:
    """All that the file says. UserError for what is no result of ``saetui stability``."""
    said = read_json(path, "remove it and run saetui stability again")
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise UserError(f"{path} is no result of saetui stability: give one that lies in stability/.")
    check_version(said.get("version"), VERSION, path)
    return said
