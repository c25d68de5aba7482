"""saetui show: any artefact in words, with the chain of what it came from; or a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.workspace import Workspace
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.cli.streams import print_json
from saetui.cli.work import say
from saetui.formatting import count, significant

if TYPE_CHECKING:
    from engine.artefacts import Origin

MOST = 12  # of a list that are printed


def register(app: typer.Typer) -> None:
    app.command("show")(show)


def show(
    artefact: Annotated[str, typer.Argument(help="Path or name of any artefact, or an image.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Describe any artefact and the chain that it came from, or print a picture."""
    from engine.images.kinds import is_read

    if is_read(artefact) and Path(artefact).is_file():
        _show_picture(Path(artefact), json)
        return
    from engine.artefacts import describe

    description = describe(artefact, Workspace.find(workspace))
    if json:
        print_json(description.to_json())
        return
    facts = description.to_json()
    del facts["chain"]
    say(*_facts(facts), *_chain(description.chain))


def _show_picture(path: Path, json: bool) -> None:
    if json:
        from engine.images.opening import read_picture

        width, height = read_picture(path).size
        print_json({"kind": "picture", "path": str(path.resolve()), "width": width, "height": height})
        return
    from saetui.cli.pictures import print_picture

    print_picture(path)


def _facts(facts: dict[str, Any], indent: int = 0) -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            inside = _facts(value, indent + 2)
            lines += [f"{' ' * indent}{key}", *inside] if inside else []
        elif value not in (None, "", [], ()):
            lines += [f"{' ' * indent}{key if i == 0 else '':<12} {words}" for i, words in enumerate(_words(value))]
    return lines


def _words(value: Any) -> list[str]:
    """``value`` in lines: records one below the other, all else in one."""
    if not isinstance(value, (list, tuple)):
        return [_plain(value)]
    if len(value) > MOST:
        return [f"{count(len(value))} (--json lists them)"]
    lines = [_plain(one) for one in value]
    return lines if isinstance(value[0], dict) else [", ".join(lines)]


def _plain(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return count(value)
        case float():
            return significant(value, 6)
        case dict():
            return "  ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
        case list() | tuple():
            return " ".join(map(_plain, value))
        case _:
            return str(value)


def _chain(chain: "Sequence[Origin]", depth: int = 0) -> list[str]:
    lines = []
    for origin in chain:
        words = f"{origin.kind} {origin.name}  sha256 {origin.sha256[:12]}  {origin.state}"
        lines += [f"{'made from' if depth == 0 else '':<12} {'  ' * depth}{words}", *_chain(origin.chain, depth + 1)]
    return lines
