"""saetui show: any artefact in words, with the chain of what it came from; or a picture."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.explained import Explanation
from engine.explained.fields import explained
from engine.runs.run import Run
from engine.runs.tasks import TASKS
from engine.workspace import Workspace
from saetui.cli.options import ExplainOption, JsonOption, WorkspaceOption
from saetui.cli.streams import print_json
from saetui.cli.work import columns, explained_json, say_explained, say_facts
from saetui.formatting import count, duration, significant, size

if TYPE_CHECKING:
    from engine.artefacts import Origin
    from engine.artefacts.provenance import Description

MOST = 12  # of a list that are printed
LABEL = 12  # characters of the names of facts, at least


def register(app: typer.Typer) -> None:
    app.command("show")(show)


def show(
    artefact: Annotated[str, typer.Argument(help="Path or name of any artefact, or an image.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    explain: ExplainOption = False,
) -> None:
    """Describe any artefact and the chain that it came from, or print a picture."""
    from engine.images.kinds import is_read

    if is_read(artefact) and Path(artefact).is_file():
        _show_picture(Path(artefact), json)
        return
    from engine.artefacts import describe

    description = describe(artefact, Workspace.find(workspace))
    told = _told(description) if explain else {}
    if json:
        print_json({**description.to_json(), **explained_json(told)})
        return
    facts = description.to_json()
    del facts["chain"]
    say_facts(*_facts(facts), *_chain(description.chain))
    say_explained(told)


def _told(description: "Description") -> dict[str, Explanation]:
    """What is told of the numbers that an SAE, scores or a run end with."""
    from engine.artefacts.entries import RunEntry

    entry = description.entry
    found: dict[str, Explanation] = {}
    for name in ("result", "summary"):
        found |= explained(getattr(entry, name, None), name)
    if isinstance(entry, RunEntry):
        run = Run(entry.path)
        task = TASKS.get(run.command.task)
        if task and run.status.result is not None:
            found |= explained(task.read(run.status.result), "status.result")
    return found


def _show_picture(path: Path, json: bool) -> None:
    if json:
        from engine.images.opening import read_picture

        width, height = read_picture(path).size
        print_json({"kind": "picture", "path": str(path.resolve()), "width": width, "height": height})
        return
    from saetui.cli.pictures import print_picture

    print_picture(path)


def _facts(facts: dict[str, Any], indent: int = 0) -> list[str]:
    """A line for each fact, those that belong together below their name; what they say stands in one column."""
    width = max([LABEL - indent, *(len(key) for key, value in facts.items() if not isinstance(value, dict))])
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            inside = _facts(value, indent + 2)
            lines += [f"{' ' * indent}{key}", *inside] if inside else []
        elif value not in (None, "", [], ()):
            for place, words in enumerate(_words(key, value, indent + width + 2)):
                lines.append(f"{' ' * indent}{key if place == 0 else '':<{width}}  {words}")
    return lines


def _words(key: str, value: Any, indent: int) -> list[str]:
    """``value`` in lines: records as a table ``indent`` cells from the left, a text in its own, all else in one."""
    if not isinstance(value, (list, tuple)):
        return FORMS.get(key, _plain)(value).expandtabs().splitlines()
    if len(value) > MOST:
        return [f"{count(len(value))} (--json lists them)"]
    if not isinstance(value[0], dict):
        return [", ".join(map(_plain, value))]
    heads = list(dict.fromkeys(name for one in value for name, said in one.items() if said is not None))
    rows = [["" if one.get(name) is None else FORMS.get(name, _plain)(one[name]) for name in heads] for one in value]
    numbers = {
        place
        for place, head in enumerate(heads)
        if head != "sha256" and all(not row[place] or row[place][-1].isdigit() for row in rows)
    }
    return columns(heads, rows, right=numbers, indent=indent)


def _moment(seconds: Any) -> str:
    return time.strftime("%d %b %Y %H:%M:%S", time.localtime(seconds)) if isinstance(seconds, (int, float)) else "–"


def _hash(text: Any) -> str:
    """The beginnings of the hashes in ``text``, as commands and files tell them; --json has them in full."""
    return " ".join(part[:12] for part in str(text).split("."))


FORMS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("started", "ended", "time"), _moment),
    **dict.fromkeys(("took", "seconds"), lambda value: duration(float(value))),
    **dict.fromkeys(("bytes", "rss", "state_bytes", "used", "free"), lambda value: size(int(value))),
    **dict.fromkeys(("pid", "seed", "version"), str),
    "sha256": _hash,
}
"""How facts of these names are told that are more than a number or a text."""


def _plain(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return count(value)
        case float():
            return significant(value, 4)
        case dict():
            return "  ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
        case list() | tuple():
            return " ".join(map(_plain, value))
        case _:
            return str(value)


def _chain(chain: "Sequence[Origin]") -> list[str]:
    """What it was made from, and what that was made from, with whether it is still the same."""
    heads, *lines = columns(("made from", "name", "sha256", "now"), list(_origins(chain)), cut=1)
    return [heads, *lines] if lines else []


def _origins(chain: "Sequence[Origin]", depth: int = 0) -> Iterator[tuple[str, str, str, str]]:
    for origin in chain:
        yield "  " * depth + origin.kind, origin.name, origin.sha256[:12], origin.state
        yield from _origins(origin.chain, depth + 1)
