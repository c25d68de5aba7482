"""The file in which a fidelity is kept. Imports no torch."""

from dataclasses import replace
from pathlib import Path

from engine.errors import UserError
from engine.files import check_version, read_json, write_json
from engine.places import located, recorded, workspace_of
from engine.records import from_json, to_json
from engine.steer.fidelity.results import Fidelity
from engine.workspace import Workspace

FORMAT, VERSION = "saetui-fidelity", 1


def write_fidelity(result: Fidelity, workspace: Workspace) -> None:
    """Keep ``result`` where it says."""
    said = {"format": FORMAT, "version": VERSION, **to_json(recorded(result, workspace.root))}
    write_json(Path(result.path), said)


def read_fidelity(path: Path) -> Fidelity:
    """The result in ``path``. UserError for what is none."""
    said = read_json(path, "remove it and run saetui fidelity again")
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise UserError(f"{path} is no result of saetui fidelity: give a file of fidelity/.")
    check_version(said.get("version"), VERSION, path)
    found = located(from_json(Fidelity, said, str(path)), workspace_of(path))
    return replace(found, path=str(path))
