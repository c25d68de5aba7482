"""saetui neurons: the table of latents, and their top images in the terminal."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError, counted
from engine.explained import EXPLAINED, Explanation
from engine.explained.fields import explained, explained_fields
from engine.files import path_of
from engine.integrity import content_sha256
from engine.neurons.labels import Labels
from engine.neurons.latents import of_other_weights, scoring
from engine.neurons.quantities import FIELDS, QUANTITIES, SORTS, Quantity, Shown
from engine.records import to_json
from engine.sae.config import WEIGHTS
from engine.settings import NOT_NEGATIVE
from engine.tables import TableOfValues
from engine.workspace import Workspace, image_set_of, neurons_files
from saetui.cli.options import ExplainOption, JsonOption, WorkspaceOption, number_option
from saetui.cli.streams import print_json
from saetui.cli.work import explained_json, note, say_explained
from saetui.formatting import cell, fit, fit_ends, number, percent
from saetui.preferences import read_preferences

if TYPE_CHECKING:
    from engine.images.thumbnails import Thumbnails
    from engine.neurons.cropping import Frame
    from engine.neurons.file import Neurons
    from engine.neurons.results import LatentRow, Listed, Summary, TopImage

PRINTED = [(one, one.printed) for one in QUANTITIES if one.printed]
Columns = list[tuple[Quantity, Shown]]
PIPED = 120  # characters of a line that goes to no terminal
NAMES = 12  # characters that names have at least
STRIP = 8  # top images of a latent printed side by side


def register(app: typer.Typer) -> None:
    app.command("neurons")(neurons)


def neurons(
    sae: Annotated[str, typer.Argument(help="Name of a scored SAE, or path of a neurons file.")],
    search: Annotated[
        str,
        typer.Option(
            help="Only latents of this name, word or number, and conditions: 'ms>.5 freq<1% pencil'. "
            f"Fields: {', '.join(FIELDS)}."
        ),
    ] = "",
    sort: Annotated[str, typer.Option(help=f"{', '.join(SORTS)}.")] = "",
    top: Annotated[str, typer.Option(help="Rows to print (0: all).", **number_option(int, NOT_NEGATIVE))] = "20",
    on: Annotated[str, typer.Option(help="Image set, where the SAE was scored on several.")] = "",
    images: Annotated[bool, typer.Option("--images", help="Print the top images of every row.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV for other programs, of all that is known.")] = False,
    copies: Annotated[
        bool, typer.Option("--copies", help="Also latents whose top images are copies of one another, or blank.")
    ] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    explain: ExplainOption = False,
) -> None:
    """The latents of a scored SAE: sort, search, look at their top images."""
    if csv and (json or images):
        raise UserError("neurons prints one thing at a time: give one of --csv, --json and --images.")
    if csv and explain:
        raise UserError("CSV has no place for explanations: give --explain with --json, or alone.")
    from engine.images.thumbnails import Thumbnails
    from engine.neurons.file import Neurons, refusing_damage  # numpy and h5py, which --help must not wait for

    place = Workspace.find(workspace)
    with Neurons.open(scores_of(sae, on, place)) as scored:
        labels = Labels.of(scored.path, scored.summary.sae, scored.sae_sha256)
        with refusing_damage(scored.path):
            known, support = (labels.texts, True, labels.marks), read_preferences().support
            found = scored.listed(sort, search, *known, support, copies)
            rows = scored.table(sort, int(top), search, *known, support, copies)
            tops = [scored.top(row.latent) if json or images else [] for row in rows]
            width = shutil.get_terminal_size((PIPED, 24)).columns
            columns = _columns(scored, width)
            head = _head(scored, found, search, columns)
            lines = [_line(scored, row, columns, width) for row in rows]
        if csv:
            print(TableOfValues.of([latent_record(row, labels) for row in rows]).csv(), end="")
            return
        if json:
            latents = [row.to_json() | {"top_images": to_json(shown)} for row, shown in zip(rows, tops, strict=True)]
            said = {"summary": to_json(scored.summary), "latents": latents, "aside": list(found.aside)}
            print_json({**said, **explained_json(_told(scored, None) if explain else {})})
            return
        if not rows:
            print(f"No latent answers to {search!r}: try another word, or leave --search out.")
            return
        for line in head:
            print(line)
        thumbnails = Thumbnails(scored.summary.settings.images)
        for row, line, shown in zip(rows, lines, tops, strict=True):
            print(line)
            _print_strip(shown, scored.frames(row.latent) if images else [], thumbnails)
        if explain:
            say_explained(_told(scored, columns))


def _told(scored: "Neurons", columns: Columns | None) -> dict[str, Explanation]:
    """What is told of the numbers that are printed: of ``columns`` by their titles, and of those above them; None: of
    all fields, by their names."""
    summary = {f"summary.{name}": one for name, one in explained(scored.summary).items()}
    if columns is None:
        fields = {name: one.told for name, one in FIELDS.items()} | explained_fields(["match"])
        shown = {f"latents.{name}": one for name, one in fields.items()}
        return summary | shown | {"latents.top_images.activation": EXPLAINED["activation"]}
    above = ("alive", "ms.sae", "ms.matched", "ms.baseline")
    told = {name: summary[f"summary.{name}"] for name in above if f"summary.{name}" in summary}
    return told | {column.title: one.told for one, column in columns}


def latent_record(row: "LatentRow", labels: Labels) -> dict[str, Any]:
    """A row of the table for other programs."""
    return row.to_json() | {"marked": labels.marked(row.latent)}


def scores_of(sae: str, on: str, workspace: Workspace) -> Path:
    """The neurons file that the user means: a path, or the SAE's only one, or the one of the image set ``on``.

    Of several those are meant that are of the SAE as it is now. Where all are of other weights, a note says so.
    """
    if Path(sae).suffix == ".h5" and Path(sae).is_file():
        return Path(sae)
    name = Path(sae).name
    found = [workspace.neurons(name, on)] if on else sorted(neurons_files(workspace, name))
    if not any(path.is_file() for path in found):
        workspace.existing("saes", sae)  # says which there are
    if not found:
        raise UserError(f"{name} has no scores in {workspace.root}: run {scoring(name)} first.")
    found = _of_the_sae(sae, name, found, workspace)
    if len(found) > 1:
        sets = ", ".join(image_set_of(path) for path in found)
        raise UserError(f"{name} was scored on several image sets ({sets}): choose one with --on.")
    return found[0]


def _of_the_sae(given: str, name: str, found: list[Path], workspace: Workspace) -> list[Path]:
    """Those of ``found`` that are scores of the SAE that is there; all where there is none, or none of them is."""
    by_path = path_of(given) / WEIGHTS if os.sep in given else None
    weights = by_path if by_path is not None and by_path.is_file() else workspace.sae(name) / WEIGHTS
    if not weights.is_file():
        return found
    now = content_sha256(weights)
    same = [path for path in found if not path.is_file() or _scored_sae(path) == now]
    if same:
        return same
    if by_path is not None:
        raise UserError(
            f"{given} has no scores in {workspace.root}, another {name} has: run {scoring(given, other=True)}."
        )
    note(f"saetui: {of_other_weights(name)}")
    return found


def _scored_sae(path: Path) -> str:
    from engine.neurons.file import Neurons

    try:
        with Neurons.open(path) as neurons:
            return neurons.sae_sha256
    except UserError:  # damaged: whoever asks for it is told
        return ""


def of_patches(summary: "Summary") -> list[str]:
    """Where not images but patches were scored, what is of which."""
    if summary.patches is None:
        return []
    return [f"MS, support, matched: of {summary.patches:,} patches, by their crops; else: of images"]


def _head(scored: "Neurons", listed: "Listed", search: str, columns: Columns) -> list[str]:
    summary, ms, raw = scored.summary, scored.summary.ms, scored.summary.ms.matched
    found = f"{counted(len(listed.latents), 'latent')} found for {search!r}, " if search else ""
    aside = len(listed.aside)
    copies = [f"{counted(aside, 'latent')} set aside, of copies of one image: --copies lists them too"] if aside else []
    titles = [_placed(column.title, column) for _, column in columns]
    return [
        f"{summary.sae} on {counted(summary.images, 'image')}: {found}{summary.alive:,} of {scored.w:,} alive",
        f"MS mean {number(ms.sae.mean)}{_ends(ms.sae.low, ms.sae.high)}, n {ms.sae.latents:,}, "
        f"baseline {number(ms.baseline)}",
        f"matched raw neurons {number(raw.mean)}{_ends(raw.low, raw.high)}, n {raw.latents:,}, "
        f"beaten by {percent(raw.share_beaten)}{_ends(raw.share_low, raw.share_high, percent)}",
        *of_patches(summary),
        *copies,
        "",
        "  ".join(["latent", *titles, "names"]),
    ]


def _ends(low: float | None, high: float | None, form: Callable[[float], str] = number) -> str:
    """Of an interval of 95 %; empty where older files have none."""
    return "" if low is None or high is None else f" ({form(low)} to {form(high)})"


def _line(scored: "Neurons", row: "LatentRow", columns: Columns, width: int) -> str:
    numbers = [
        _placed(cell(scored.values(quantity)[row.latent], column.form, column.width), column)
        for quantity, column in columns
    ]
    start = "  ".join([f"{row.latent:>6}", *numbers, ""])
    return start + fit(row.label or " · ".join(row.called), max(width - len(start), 8))


def _columns(scored: "Neurons", width: int) -> Columns:
    """The columns of what these scores have; words among them where enough of ``width`` is left for the names."""
    patches = scored.summary.patches is not None
    known = [(one, column.where(patches)) for one, column in PRINTED if not one.optional or scored.defined(one)]
    taken = 8 + sum(column.width + 2 for _, column in known)
    return known if width - taken >= NAMES else [(one, column) for one, column in known if column.form != "text"]


def _placed(text: str, column: Shown) -> str:
    """``text`` in its column."""
    return fit_ends(text, column.width).ljust(column.width) if column.form == "text" else text.rjust(column.width)


def _print_strip(top: "list[TopImage]", frames: "list[Frame | None]", thumbnails: "Thumbnails") -> None:
    from saetui.cli.pictures import print_strip

    if shown := top[:STRIP]:
        cell = print_strip(thumbnails, [one.path for one in shown], frames)
        print("".join(number(one.activation).ljust(cell) for one in shown).rstrip())
