"""How an artefact says where something is: one rule, one function that writes it and one that reads it.

Inside the workspace: relative to its root; outside: absolute. So a workspace can be moved, and what it says does not
depend on where one stands. Records hold full paths while a program runs; what writes them to a file calls
``recorded``, what reads them calls ``located``. Which fields of a record are places, and of what sort, they declare
themselves (``engine.settings.place``).
"""

import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.config import PLACES
from engine.files import path_of
from engine.settings import Place, place_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
IN = "::"  # between an image source and the path of one of its images
NO_PATH = re.compile(r"(?:demo|blank|hf|hf[-_]hub|https?|s3|gs|az|pipe):(?!:)")
"""How what is no path begins; what is somewhere else is refused by who reads it."""
Change = Callable[[str, Place], str]
_NAMED: Mapping[str, Place] = {"images": "path", "model": "model"}
"""Kinds of engine.workspace.Source that have no name beside their place."""


def recorded(record: R, root: Path) -> R:
    """``record`` with its places as they are written down in the workspace ``root``; relative ones are from here."""
    return changed(record, lambda text, sort: recorded_text(text, sort, root))


def located(record: R, root: Path) -> R:
    """``record`` as it was written down in the workspace ``root``, with the places as full paths."""
    return changed(record, lambda text, sort: located_text(text, sort, root))


def workspace_of(artefact: Path) -> Path:
    """The root of the workspace that ``artefact`` lies in: all lie in a folder for their kind."""
    far = artefact if len(artefact.parts) > 2 else Path(os.path.abspath(artefact))
    return far.parent.parent


def changed(record: R, change: Change) -> R:
    """``record`` with ``change`` applied to every place in it, in records within it too."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        before = getattr(record, field.name)
        sort = _sort(record, place_of(field))
        after = _within(before, change) if sort is None else _changed(before, sort, change)
        if after is not before and after != before:
            changes[field.name] = after
    return dataclasses.replace(record, **changes) if changes else record


def changed_values(values: Mapping[str, Any], places: Mapping[str, Place], change: Change) -> dict[str, Any]:
    """``changed`` for values by name, as they come from JSON or TOML; ``places``: the sort of those that are places."""
    return {key: _changed(value, places[key], change) if key in places else value for key, value in values.items()}


def recorded_text(text: str, sort: Place, root: Path) -> str:
    """One place as it is written down."""
    before, path, after = split(text, sort)
    if not path:
        return text
    whole = Path(os.path.abspath(os.path.expanduser(path)))
    homes = {root, root.resolve()}
    inside = next((p.relative_to(r) for p in (whole, whole.resolve()) for r in homes if p.is_relative_to(r)), whole)
    written = inside.as_posix()
    named = sort not in ("path", "image") and os.sep not in written  # a folder may be called as a model or artefact is
    return f"{before}{'./' * named}{written}{after}"


def located_text(text: str, sort: Place, root: Path) -> str:
    """One place as a full path."""
    before, path, after = split(text, sort)
    return before + os.path.normpath(root / os.path.expanduser(path)) + after if path else text


def split(text: str, sort: Place) -> tuple[str, str, str]:
    """What of ``text`` is a path, empty where nothing is; between what stands before it and behind it."""
    if NO_PATH.match(text):
        return text, "", ""
    match sort:
        case "model":
            return _split_model(text)
        case "artefact" if not (os.sep in text or text.startswith((".", "~"))):  # a name
            return text, "", ""
        case "file" if not (os.sep in text or text.startswith((".", "~")) or Path(text).is_file()):
            return text, "", ""
        case "input":
            name, equals, value = text.partition("=")
            before, path, after = split(value, "model" if value.startswith("openclip:") else "file")
            return f"{name}{equals}{before}", path, after
        case "image" if text == "blank":
            return text, "", ""
        case "image" if IN in text and not path_of(text).exists():
            source, _, inside = text.partition(IN)
            return "", source, f"{IN}{inside}"
    return "", text, ""


def _split_model(text: str) -> tuple[str, str, str]:
    if text == "demo":
        return text, "", ""
    if not text.startswith("openclip:"):
        return "", text, ""
    architecture, _, rest = text.partition("/")
    tag, at, file = rest.partition("@")
    if at and not (os.sep in tag or Path(tag).suffix or path_of(rest).is_file()):
        return f"{architecture}/{tag}@", file, ""
    return (f"{architecture}/", rest, "") if os.sep in rest or Path(rest).suffix else (text, "", "")  # weights' file


def _sort(record: Any, sort: Place | None) -> Place | None:
    match sort:
        case "source":
            return _NAMED.get(record.kind, "path")
        case "name":
            return _NAMED.get(record.kind)
    return sort


def _changed(value: Any, sort: Place, change: Change) -> Any:
    if isinstance(value, str):
        blank = not value.strip()  # it names nothing, and who needs something refuses it
        return _command(value, change) if sort == "command" else value if blank else change(value, sort)
    return type(value)(_changed(one, sort, change) for one in value) if isinstance(value, (tuple, list)) else value


def _within(value: Any, change: Change) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return changed(value, change)
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return tuple(changed(one, change) for one in value)
    return value


def _command(text: str, change: Change) -> str:
    """A command of saetui with its places changed; as it is where it is none."""
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that is not closed
        return text
    if words[:1] != ["saetui"]:
        return text
    for n, word in enumerate(words[:-1]):
        sort = PLACES.get(word.removeprefix("--").replace("-", "_")) if word.startswith("--") else None
        if sort is not None:
            words[n + 1] = change(words[n + 1], sort)
    return shlex.join(words)


@dataclass(frozen=True)
class Rewritten:
    file: str
    """Relative to the workspace."""
    places: tuple[str, ...]
    """What it says now, each once."""


@dataclass(frozen=True)
class Relinked:
    """What engine.artefacts.relink.relink returns."""

    old: str
    new: str
    images: int
    """That were compared."""
    files: tuple[Rewritten, ...]
    damaged: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Why artefacts could not be read, by where they are in the workspace: they are left as they are."""
