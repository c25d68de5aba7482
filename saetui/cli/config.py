"""saetui config: every setting, its value, and where it comes from."""

import difflib
import os
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import UserError
from engine.files import read_toml
from engine.settings import from_mapping
from engine.workspace import MARKER, Workspace
from saetui.cli.options import SETTINGS, JsonOption, WorkspaceOption
from saetui.cli.streams import print_json
from saetui.cli.work import columns, note, say
from saetui.preferences import Preferences, config_path, read_preferences, state_folder

AS = ("estimate", "recognise")
"""Commands whose settings are those of another."""
ENVIRONMENT = {
    "NO_COLOR": "colours: none, unless --colours or the file says which",
    "XDG_CONFIG_HOME": "where the config file is",
    "XDG_STATE_HOME": "where sessions are",
    "XDG_CACHE_HOME": "where hashes of files are kept",
    "SAETUI_JUDGE_URL": "server that the judge endpoint of steerability asks",
    "SAETUI_JUDGE_MODEL": "model that it asks for there",
    "HF_HOME": "where models of the hub are kept",
}
"""Variables that count here, and for what."""


@dataclass(frozen=True)
class Setting:
    """One setting as it is now."""

    group: str
    """``workbench``, ``keys``, ``environment``, or the command whose option it is."""
    name: str
    value: Any
    source: str
    """``default``, ``file``, ``environment`` or ``flag``; ``required`` of what has no value until it is given."""
    file: str = ""
    """Where it stands."""


def register(app: typer.Typer) -> None:
    app.command("config")(config)


def config(
    theme: Annotated[str | None, typer.Option(help="As the workbench would be started with.")] = None,
    picture: Annotated[str | None, typer.Option(help="As theme.")] = None,
    colours: Annotated[str | None, typer.Option(help="As theme.")] = None,
    ascii: Annotated[bool | None, typer.Option("--ascii", help="As theme.")] = None,
    mouse: Annotated[bool | None, typer.Option("--mouse/--no-mouse", help="As theme.")] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Every setting, its value, and where it comes from: default, file, environment or flag."""
    flags = {"theme": theme, "picture": picture, "colours": colours, "ascii": ascii, "mouse": mouse}
    place = Workspace.find(workspace)
    known = [*_preferences(flags), *_environment(), *_defaults(place)]
    files = {"config": str(config_path()), "workspace": str(place.root / MARKER), "state": str(state_folder())}
    wrong = [*_mistakes(read_preferences().keys), *_unknown(place)]
    if json:
        print_json({"files": files, "settings": [vars(one) for one in known], "problems": wrong})
        return
    say(*_files(files))
    for group in dict.fromkeys(one.group for one in known):
        rows = [(one.name, _plain(one.value), one.source) for one in known if one.group == group]
        say("", *columns((group, "value", "from"), rows, cut=1))
    for sentence in wrong:
        note(f"saetui: {sentence}")


def _mistakes(keys: dict[str, str]) -> list[str]:
    if not keys:
        return []
    from saetui.bindings import mistakes  # it loads the workbench

    return mistakes(keys)


def _files(files: dict[str, str]) -> Iterator[str]:
    for name, path in files.items():
        there = "" if Path(path).exists() else " (not there: all is as by default)"
        yield f"{name:<10} {path}{there if name != 'state' else ''}"


def _preferences(flags: dict[str, Any]) -> Iterator[Setting]:
    path = config_path()
    written = read_toml(path) if path.is_file() else {}
    chosen = read_preferences(**flags)
    for one in fields(Preferences):
        if one.name != "keys":
            source = "flag" if flags.get(one.name) is not None else "file" if one.name in written else "default"
            value = getattr(chosen, one.name)
            if one.name == "colours" and value == "auto" and os.environ.get("NO_COLOR"):
                value, source = "mono", "environment"
            yield Setting("workbench", one.name, value, source, str(path) if source == "file" else "")
    for id, keys in chosen.keys.items():
        yield Setting("keys", id, keys, "file", str(path))


def _environment() -> Iterator[Setting]:
    for name in ENVIRONMENT:
        if value := os.environ.get(name):
            yield Setting("environment", name, value, "environment")


def _defaults(place: Workspace) -> Iterator[Setting]:
    """What each command takes where no option says otherwise."""
    for command, kind in SETTINGS.items():
        if command in AS:
            continue
        written = place.defaults_of(kind)
        _check(kind, written, place)
        for one in fields(kind):
            if one.name in written:
                yield Setting(command, one.name, written[one.name], "file", str(place.root / MARKER))
            elif not one.metadata.get("positional"):
                needed = one.default is MISSING
                yield Setting(command, one.name, "" if needed else one.default, "required" if needed else "default")


def _check(kind: type, written: dict[str, Any], place: Workspace) -> None:
    """UserError for a value that the command would refuse."""
    hints = typing.get_type_hints(kind)
    lacking = [one.name for one in fields(kind) if one.default is MISSING and one.name not in written]
    needed = {name: _stand_in(hints[name]) for name in lacking}
    try:
        from_mapping(kind, needed | written, str(place.root / MARKER))
    except UserError as error:
        raise UserError(str(error)) from None


def _stand_in(hint: Any) -> str:
    """What a setting might be that is not given."""
    words: tuple[str, ...] = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ("-",)
    return words[0]


def _unknown(place: Workspace) -> Iterator[str]:
    """What stands in workspace.toml and is the default of nothing."""
    known = {one.name for kind in SETTINGS.values() for one in fields(kind)}
    for name in place.defaults():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            way = f"did you mean {' or '.join(near)}?" if near else "take it out."
            yield f"{place.root / MARKER} has {name!r}, which no command knows: {way}"


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case "" | ():
            return "-"
        case list() | tuple():
            return ", ".join(map(_plain, value))
        case float():
            return f"{value:g}"
    return str(value)
