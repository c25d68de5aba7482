"""saetui show: any artefact in words, with the chain of what it came from; or a picture."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len

from engine.errors import UserError
from engine.explained import Explanation
from engine.explained.fields import explained
from engine.kinds import BY_NAME
from engine.places import workspace_of
from engine.records import to_json
from engine.runs.run import Run
from engine.runs.tasks import TASKS
from engine.workspace import Workspace
from saetui.cli import earned, measured
from saetui.cli.options import ExplainOption, JsonOption, WorkspaceOption
from saetui.cli.streams import print_json
from saetui.cli.work import columns, explained_json, say, say_explained, say_facts, screen_width
from saetui.formatting import count, duration, literal, significant, size

if TYPE_CHECKING:
    from engine.artefacts import Origin
    from engine.artefacts.entries import Entry
    from engine.artefacts.measured import Measurement
    from engine.artefacts.provenance import Description
    from engine.artefacts.twins import Earned, Twins

MOST = 12  # of a list that are printed
LABEL = 12  # characters of the names of facts, at least


def register(app: typer.Typer) -> None:
    app.command("show")(show)


def show(
    artefact: Annotated[str, typer.Argument(help="Path or name of any artefact, or an image (none: list all).")] = "",
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    explain: ExplainOption = False,
) -> None:
    """Describe any artefact and the chain that it came from, or print a picture; list all without one."""
    from engine.images.kinds import is_read

    if not artefact:
        if explain:
            raise UserError("--explain tells of the numbers of one artefact: name it, or leave --explain out.")
        _list(Workspace.find(workspace), json)
        return
    if is_read(artefact) and Path(artefact).is_file():
        _show_picture(Path(artefact), json)
        return
    from engine.artefacts import describe

    description = describe(artefact, Workspace.find(workspace))
    beside, found = _beside(description.entry), _measured(description.entry)
    told = _told(description, beside, found) if explain else {}
    if json:
        held = {"beside": to_json(beside), "measured": to_json(found)} if beside else {}
        print_json({**description.to_json(), **held, **explained_json(told)})
        return
    facts = description.to_json()
    del facts["chain"]
    facts["also named so"] = facts.pop("namesakes")
    say_facts(*_facts(facts), *_chain(description.chain))
    if beside:
        say_facts(*earned.lines(beside))
    say(*measured.lines(found))
    say_explained(told)


def _beside(entry: "Entry") -> "Earned | None":
    """What an SAE is held against in its workspace; None for all else."""
    from engine.artefacts.entries import SAEEntry
    from engine.artefacts.twins import Twins

    if not isinstance(entry, SAEEntry):
        return None
    return Twins.of(Workspace(workspace_of(entry.path))).earned(entry)


def _measured(entry: "Entry") -> "Sequence[Measurement]":
    """Results of an SAE beside its scores."""
    from engine.artefacts.entries import SAEEntry
    from engine.artefacts.measured import measured_of

    return measured_of(entry, Workspace(workspace_of(entry.path))) if isinstance(entry, SAEEntry) else ()


def _told(
    description: "Description", beside: "Earned | None", measurements: "Sequence[Measurement]"
) -> dict[str, Explanation]:
    """What is told of the numbers that an SAE, scores, a result or a run end with."""
    from engine.artefacts.entries import RunEntry
    from engine.artefacts.results import ResultEntry

    entry = description.entry
    found = explained(beside, "beside") | measured.explained(measurements)
    for name in ("result", "summary"):
        found |= explained(getattr(entry, name, None), name)
    if isinstance(entry, ResultEntry):
        found |= explained(entry.record(entry.file_of(entry.path)))
    if isinstance(entry, RunEntry):
        run = Run(entry.path)
        task = TASKS.get(run.command.task)
        if task and run.status.result is not None:
            found |= explained(task.read(run.status.result), "status.result")
    return found


def _list(workspace: Workspace, json: bool) -> None:
    """A line for each artefact of the workspace but its runs."""
    from engine.artefacts import inventory

    found = inventory(workspace)
    entries, twins = found.entries, found.twins
    if json:
        listed = [
            {"kind": one.kind.name, "name": one.name, **one.listed(), "beside": to_json(twins.beside(one))}
            for one in entries
        ]
        print_json({"workspace": str(workspace.root), "artefacts": listed})
        return
    if not entries:
        say(f"{workspace.root} holds nothing yet: saetui extract or saetui import makes a store.")
        return
    names = [literal(one.name) for one in entries]
    kinds, width = max(len(one.kind.name) for one in entries), max(map(len, names))
    for one, name in zip(entries, names, strict=True):
        said = "; ".join(part for part in (_in_short(one, twins), _parents(one)) if part)
        say_facts(f"{one.kind.name:<{kinds}}  {name:<{width}}  {literal(said)}")
    say("in brackets intervals of 95 %", "saetui show NAME says more, saetui jobs lists the runs")


def _in_short(entry: "Entry", twins: "Twins") -> str:
    if entry.error:
        return f"damaged: {entry.error}"
    figure = entry.figure
    if figure is None:
        return entry.about
    untouched = f"untouched {earned.score(figure.untouched)}" if figure.untouched else ""
    control = f"{figure.control} {earned.score(figure.beside)}" if figure.beside else ""
    beside = ", ".join(filter(None, [untouched, control, earned.in_short(twins.beside(entry))]))
    against = f" ({beside})" if beside else ""
    return f"{figure.name} {earned.score(figure.score)}, n {count(figure.score.n)}{against}; {entry.about}"


def _parents(entry: "Entry") -> str:
    """Artefacts and images that it was made from, each once; models and word lists are told by ``saetui show NAME``."""
    told = [f"{one.kind} {Path(one.name).name}" for one in entry.made_from if one.kind in (*BY_NAME, "images")]
    return f"from {', '.join(dict.fromkeys(told))}" if told else ""


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
    if any(map(_is_table, (said for one in value for said in one.values()))):
        return [line[indent:] for one in value for line in _facts(one, indent)]
    heads = list(dict.fromkeys(name for one in value for name, said in one.items() if said is not None))
    rows = [["" if one.get(name) is None else FORMS.get(name, _plain)(one[name]) for name in heads] for one in value]
    numbers = {
        place
        for place, head in enumerate(heads)
        if head != "sha256" and all(not row[place] or row[place][-1].isdigit() for row in rows)
    }
    return _side_by_side(heads, rows, numbers, indent)


def _is_table(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], dict)


def _side_by_side(heads: list[str], rows: list[list[str]], numbers: set[int], indent: int) -> list[str]:
    """The columns as a table; where it is wider than the screen, as several below one another, their rows numbered."""
    room = screen_width() - indent
    widths = [max(cell_len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    if sum(widths) + 2 * (len(widths) - 1) <= room:
        return columns(heads, rows, right=numbers, indent=indent)
    first = len(str(len(rows) - 1))
    parts, taken = [list[int]()], first
    for place, width in enumerate(widths):
        if parts[-1] and taken + 2 + width > room:
            parts.append([])
            taken = first
        parts[-1].append(place)
        taken += 2 + width
    lines = []
    for part in parts:
        cells = [[str(number), *(row[place] for place in part)] for number, row in enumerate(rows)]
        right = {0, *(1 + at for at, place in enumerate(part) if place in numbers)}
        lines += columns(["", *(heads[place] for place in part)], cells, right=right, indent=indent)
    return lines


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
        case {"n": int(n), "mean": mean, "low": low, "high": high}:
            ends = "" if low is None or high is None else f" [{_plain(low)} {_plain(high)}]"
            return f"{_plain(mean)}{ends}, n {count(n)}"
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
