"""Command-line options made from a settings class: a setting is typed and explained once, in engine.config."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import MISSING
from typing import Annotated, Any

import typer

from engine.config import WrongValue, from_mapping, numbers_written, setting_of
from engine.errors import UserError
from engine.workspace import Workspace

WorkspaceOption = Annotated[
    str | None,
    typer.Option("--workspace", help="Where artefacts live [default: nearest directory with a workspace.toml, or .]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
SETTINGS: dict[str, type] = {}
"""Of each command that is made from a settings class."""
DetachOption = Annotated[bool, typer.Option("--detach", help="Run in the background; see saetui jobs.")]


def command(app: typer.Typer, name: str, settings: type, *extra: inspect.Parameter) -> Callable[..., Any]:
    """Register ``handler(given, **extra)`` as a command with one option per setting.

    ``given`` holds only what the user typed, so that defaults can come from workspace.toml before the class's own.
    """

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        names = {field.name for field in dataclasses.fields(settings)}

        def run(**values: Any) -> Any:
            typed = {k: v for k, v in values.items() if k in names and v is not None and v != []}
            return handler(typed, **{k: v for k, v in values.items() if k not in names})

        run.__doc__ = handler.__doc__ or settings.__doc__
        run.__signature__ = inspect.Signature([*_parameters(settings), *extra])  # type: ignore[attr-defined]
        app.command(name)(run)
        SETTINGS[name] = settings
        return handler

    return register


def extra(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def complete(settings: type, given: dict[str, Any], workspace: Workspace, name: str) -> Any:
    """The settings object: what was typed, over workspace.toml, over the defaults of the class."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    values = workspace.defaults_of(settings) | given
    for field in fields.values():
        if field.default is MISSING and field.name not in values:
            what = field.name.upper() if field.metadata.get("positional") else _flag(field)
            raise UserError(f"{name} needs {what} ({field.metadata['help'].rstrip('.')}): see saetui {name} --help.")
    for key, value in given.items():
        if _is_numbers(typing.get_type_hints(settings)[key]):
            values[key] = numbers_written(value)
    try:
        return from_mapping(settings, values, name)
    except WrongValue as error:
        if error.setting not in given or fields[error.setting].metadata.get("positional"):
            raise
        raise UserError(f"{name}: {_flag(fields[error.setting])}{error.sentence.removeprefix(error.setting)}") from None


def _parameters(settings: type) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(settings)
    return [_parameter(field, hints[field.name]) for field in dataclasses.fields(settings)]


def _parameter(field: Any, kind: Any) -> inspect.Parameter:
    if _is_numbers(kind) or kind in (int, float):
        shown: Any = str
    elif typing.get_origin(kind) is tuple:
        shown = list[typing.get_args(kind)[0]]  # type: ignore[misc]
    else:
        shown = kind
    help = field.metadata["help"]
    reader = number_option(kind) if kind in (int, float) else {}
    if field.metadata.get("positional"):
        info: Any = typer.Argument(help=help, show_default=False)
    else:
        info = typer.Option(*_declarations(field, kind), help=help + _default(field), show_default=False, **reader)
    return extra(field.name, Annotated[shown | None, info], None)


def _declarations(field: Any, kind: Any) -> list[str]:
    if "flag" in field.metadata:
        return [field.metadata["flag"]]
    if kind is bool:
        return [f"{_flag(field)}/--no-{_flag(field)[2:]}"]
    return [_flag(field)]


def _flag(field: Any) -> str:
    return "--" + field.name.replace("_", "-")


def _default(field: Any) -> str:
    if field.default is MISSING:
        return " [required]"
    if field.default in ("", (), None) or isinstance(field.default, bool):
        return ""
    value = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f" [default: {value}]"


def _is_numbers(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[0] is float


def number_option(kind: type[int] | type[float]) -> dict[str, Any]:
    """What an option of text needs to become a number, by the one rule for what is typed, or the one refusal."""

    def read(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> Any:
        if not isinstance(value, str):
            return value
        return setting_of(value, kind, max(parameter.opts, key=len), context.info_name or "")

    return {"callback": read, "metavar": "INTEGER" if kind is int else "FLOAT"}
