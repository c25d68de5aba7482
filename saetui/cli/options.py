"""Command-line options made from a settings class: a setting is typed and explained once, in engine.config."""

import contextlib
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.config import PLACES
from engine.errors import UserError
from engine.runs.tasks import TASKS
from engine.settings import Rule, WrongValue, from_mapping, numbers_written, setting_of
from engine.workspace import MARKER, Workspace

WorkspaceOption = Annotated[
    str | None,
    typer.Option("--workspace", help="Where artefacts live [default: nearest directory with a workspace.toml, or .]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Say of every number what it is: formula, n, interval, control.")
]
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


def complete(
    settings: type,
    given: dict[str, Any],
    workspace: Workspace,
    name: str,
    task: str = "",
    instead: Mapping[str, Any] = types.MappingProxyType({}),
) -> Any:
    """The settings object: what was typed, over workspace.toml, over the defaults of the class.

    ``name``: of the command; ``task``: what it does, where that is called otherwise; ``instead``: values of
    workspace.toml as the task takes them."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    values = {**workspace.defaults_of(settings), **instead, **given}
    for field in fields.values():
        if field.default is MISSING and field.name not in values:
            raise UserError(_needed(field, name))
    for key, value in given.items():
        if _is_numbers(typing.get_type_hints(settings)[key]):
            values[key] = numbers_written(value)
    with telling(settings, given, name, workspace):
        chosen: Any = from_mapping(settings, values, name)
        TASKS[task or name].refuse(chosen, workspace)
    return chosen


@contextlib.contextmanager
def telling(settings: type, given: Container[str], name: str, workspace: Workspace) -> Iterator[None]:
    """What is wrong is said of options, but of a line of workspace.toml where that gives what was not ``given``."""
    fields = {field.name: field for field in dataclasses.fields(settings)}
    try:
        yield
    except WrongValue as error:
        if error.setting not in fields:  # of a stage of a plan, which says where it stands
            raise
        of_file = error.setting not in given and error.setting in workspace.defaults()
        option = not fields[error.setting].metadata.get("positional")
        here = workspace.root if workspace.root == Path.cwd() else None
        if of_file:
            raise UserError(error.told_of_line(workspace.root / MARKER, here)) from None
        said = error.told({error.setting: _flag(fields[error.setting]) if option else error.setting}, here)
        raise UserError(f"{name}: {said}" if error.sentence.startswith(f"{error.setting} ") else said) from None


def _needed(field: Any, name: str) -> str:
    """What is said where the command ``name`` lacks a setting: what workspace.toml may say stands there as well."""
    about = field.metadata["help"].rstrip(".")
    if field.metadata.get("positional"):
        return f"{name} needs {field.name.upper()} ({about}): see saetui {name} --help."
    also = f", or {field.name} in a {MARKER}" if field.name in PLACES else ""
    return f"{name} needs {_flag(field)} ({about}){also}: see saetui {name} --help."


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
    if typing.get_origin(kind) is typing.Literal:
        shown, reader = str, word_option(kind)
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


def number_option(kind: type[int] | type[float], must: Rule | None = None) -> dict[str, Any]:
    """What an option of text needs to become a number, by the one rule for what is typed, or the one refusal."""
    return {"callback": _reader(kind, must), "metavar": "INTEGER" if kind is int else "FLOAT"}


def word_option(kind: Any) -> dict[str, Any]:
    """The same for one of a few words."""
    options = [str(one) for one in typing.get_args(kind)]
    return {"callback": _reader(kind), "metavar": f"[{'|'.join(options)}]", "autocompletion": lambda: options}


def _reader(kind: Any, must: Rule | None = None) -> Callable[..., Any]:
    def read(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> Any:
        if not isinstance(value, str):
            return value
        return setting_of(value, kind, max(parameter.opts, key=len), context.info_name or "", must)

    return read
