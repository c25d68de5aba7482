"""saetui show: any artefact in words, with the chain of what it came from; or a picture."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.workspace import Workspace
from saetui.cli.options import JsonOption, WorkspaceOption
from saetui.formatting import literal

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


def register(app: typer.Typer) -> None:
    app.command("show")(show)


def show(
    artefact: Annotated[str, typer.Argument(help="Path or name of any artefact, or an image.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Describe any artefact and the chain that it came from, or print a picture."""
    if Path(artefact).suffix.lower() in PICTURES and Path(artefact).is_file():
        _show_picture(Path(artefact), json)
        return
    from engine.artefacts import describe

    description = describe(artefact, Workspace.find(workspace))
    if json:
        print(json_module.dumps(description, ensure_ascii=False, default=str))
        return
    chain = description.pop("chain")
    for line in [*_facts(description), *_chain(chain, 0)]:
        print(literal(line))


def _show_picture(path: Path, json: bool) -> None:
    if json:
        from engine.images.opening import read_picture

        width, height = read_picture(path).size
        print(json_module.dumps({"kind": "picture", "path": str(path.resolve()), "width": width, "height": height}))
        return
    from saetui.cli.pictures import print_picture

    print_picture(path)


def _facts(description: dict[str, Any], indent: int = 0) -> list[str]:
    lines = []
    for key, value in description.items():
        if isinstance(value, dict) and value:
            lines += [f"{' ' * indent}{key}", *_facts(value, indent + 2)]
        elif value not in (None, "", [], (), {}):
            shown = (
                f"{len(value):,} (--json lists them)" if isinstance(value, (list, tuple)) and len(value) > 12 else value
            )
            lines.append(f"{' ' * indent}{key:<12} {_plain(shown)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)) and len(value) > 12:
        return f"{len(value):,} (--json lists them)"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def _chain(sources: list[dict[str, Any]], depth: int) -> list[str]:
    lines = []
    for source in sources:
        words = f"{source.get('kind')} {source.get('name')}  sha256 {str(source.get('sha256'))[:12]}  {source['state']}"
        lines += [f"{'made from' if depth == 0 else '':<12} {'  ' * depth}{words}", *_chain(source["chain"], depth + 1)]
    return lines
