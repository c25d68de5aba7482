"""The file in which steering scores are kept. Imports no torch."""

from dataclasses import replace
from pathlib import Path

from engine.errors import UserError
from engine.files import check_version, read_json, write_json
from engine.places import located, recorded, workspace_of
from engine.records import from_json, to_json
from engine.steer.results import Steerability
from engine.workspace import Workspace

FORMAT, VERSION = "saetui-steerability", 1
SCORES, ANSWERS = "scores.json", "answers.jsonl"


def write_steerability(result: Steerability, workspace: Workspace) -> None:
    """Keep ``result`` where it says."""
    said = {"format": FORMAT, "version": VERSION, **to_json(recorded(result, workspace.root))}
    write_json(Path(result.path), said)


def read_steerability(path: Path) -> Steerability:
    """The result in ``path``. UserError for what is none."""
    said = read_json(path, "remove it and run saetui steerability again")
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise UserError(f"{path} is no result of saetui steerability: give a {SCORES} of steerability/.")
    check_version(said.get("version"), VERSION, path)
    found = located(from_json(Steerability, said, str(path)), workspace_of(path.parent))
    return replace(found, path=str(path))
