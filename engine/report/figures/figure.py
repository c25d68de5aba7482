"""``saetui figure``: one figure for a paper, from the results of one SAE or several."""

import glob
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from engine.activations.asked import Made
from engine.config import FigureSettings
from engine.errors import UserError
from engine.files import check_target, path_of
from engine.kinds import STABILITY
from engine.links import check_own
from engine.report.figures.chosen import (
    MOST,
    check_few,
    check_unnamed,
    names_of,
    passed_over,
    scored,
    sets_made,
    unscored,
)
from engine.report.figures.reconstruction import reconstruction_of
from engine.report.results import Drawn
from engine.report.subject import several_sets, subject_of
from engine.reporter import Reporter, StageBegan
from engine.settings import about, check
from engine.steer.steerability.file import SCORES
from engine.workspace import FIGURES, Workspace, saes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".pdf", ".png")


def draw_figure(settings: FigureSettings, workspace: Workspace, reporter: Reporter | None = None) -> Drawn:
    """Draw ``settings.kind`` of ``settings.sae`` and write it. UserError where the results for it are not there, or
    another file stands where it is to be written."""
    reporter = reporter or Reporter()
    check(settings)
    out = _out(settings, workspace)
    if out.parent != workspace.root / FIGURES:
        reporter.writes(out)
    reporter.event(StageBegan("reading"))
    from engine.report.figures.style import look, write  # matplotlib, which nothing else waits for

    with look():
        figure, of = _DRAWN[settings.kind](settings, workspace, reporter)
        reporter.event(StageBegan("writing"))
        write(figure, out)
    return Drawn(path=str(out), of=of)


def check_figure(settings: FigureSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be, as far as no results are read."""
    check(settings)
    with about("out"):
        _out(settings, workspace)
    with about("sae"):
        if settings.kind == "top-images":
            check_few(settings.sae, settings.kind)
        if not settings.sae and settings.kind in MOST:
            check_unnamed(settings, workspace, made)
        for one in settings.sae:
            if not _will_be(one, settings, made):
                _check_result(one, settings, workspace, made)


def _will_be(sae: str, settings: FigureSettings, made: Made) -> bool:
    """Whether the result of ``sae`` that is drawn is among what is made by then. UserError where several are."""
    match settings.kind:
        case "reconstruction":
            return ("trainings", sae) in made or ("controls", sae) in made
        case "stability":
            return ("stability", f"{sae}.json") in made
        case "dose":
            return any(folder == "steerability" and name.startswith(f"{sae}--") for folder, name in made)
    sets = sets_made(sae, made)
    if settings.on:
        return settings.on in sets
    if len(sets) > 1:
        raise several_sets(sae, sets)
    return bool(sets)


def _check_result(sae: str, settings: FigureSettings, workspace: Workspace, made: Made) -> None:
    if settings.kind == "stability":
        _compared(sae, workspace, [name.removesuffix(".json") for folder, name in made if folder == "stability"])
        return
    new = ("saes", sae) in made and not workspace.sae(sae).exists()
    match settings.kind:
        case "reconstruction":
            if new or reconstruction_of(workspace.existing("saes", sae, made)) is None:
                raise _unmeasured(sae)
        case "dose":
            if not any((workspace.root / "steerability").glob(f"{glob.escape(sae)}--*/{SCORES}")):
                raise _unsteered(sae)
        case _:
            if new or subject_of(sae, settings.on, workspace, made).scores is None:
                raise unscored(Path(sae).name)


def _out(settings: FigureSettings, workspace: Workspace) -> Path:
    out = path_of(settings.out) if settings.out else workspace.root / f"figure-{settings.kind}.svg"
    if out.suffix.lower() not in ENDINGS:
        raise UserError(f"{out} ends in {out.suffix or 'nothing'}: give an --out in {', '.join(ENDINGS)}.")
    if out.is_file() and not settings.replace:
        raise UserError(f"{out} is there already: give another --out, or --replace it.")
    check_own(out)
    check_target(out)
    return out


def _ms(settings: FigureSettings, workspace: Workspace, reporter: Reporter) -> "tuple[Figure, tuple[str, ...]]":
    from engine.report.figures.scores import ms_figure

    with ExitStack() as stack:
        found = scored(settings, workspace, stack)
        return ms_figure(found, settings.width), names_of(found)


def _hierarchy(settings: FigureSettings, workspace: Workspace, reporter: Reporter) -> "tuple[Figure, tuple[str, ...]]":
    from engine.report.figures.scores import hierarchy_figure

    with ExitStack() as stack:
        found = scored(settings, workspace, stack)
        return hierarchy_figure(found, settings.width, passed_over(settings, found)), names_of(found)


def _top_images(settings: FigureSettings, workspace: Workspace, reporter: Reporter) -> "tuple[Figure, tuple[str, ...]]":
    from engine.report.figures.scores import top_images_figure

    with ExitStack() as stack:
        found = scored(settings, workspace, stack)
        check_few(names_of(found), settings.kind)
        (neurons,) = found
        latents = settings.latent or tuple(neurons.listed().latents[: settings.rows])
        if wrong := next((one for one in latents if not 0 <= one < neurons.w), None):
            raise UserError(f"There is no latent {wrong}: this SAE has latents 0 to {neurons.w - 1}.")
        reporter.event(StageBegan("pictures"))
        return top_images_figure(neurons, latents, settings.pictures, settings.width, reporter), names_of(found)


def _reconstruction(
    settings: FigureSettings, workspace: Workspace, reporter: Reporter
) -> "tuple[Figure, tuple[str, ...]]":
    from engine.report.figures.trained import reconstruction_figure

    named = settings.sae or saes(workspace)
    found = []
    for name in named:
        if (measured := reconstruction_of(workspace.existing("saes", name))) is not None:
            found.append(measured)
        elif settings.sae:
            raise _unmeasured(name)
    if not found:
        raise UserError("No SAE of this workspace was measured in training: train one with saetui train.")
    return reconstruction_figure(found, settings.width), tuple(one.name for one in found)


def _unmeasured(sae: str) -> UserError:
    return UserError(f"{sae} has no held-out measurements here: give SAEs that saetui train or baseline has made.")


def _stability(settings: FigureSettings, workspace: Workspace, reporter: Reporter) -> "tuple[Figure, tuple[str, ...]]":
    from engine.report.figures.stability import read_pairs, stability_figure

    files = [_compared(one, workspace) for one in settings.sae] or STABILITY.all_in(workspace.root)
    if not files:
        raise UserError("There are no results of saetui stability to draw: run it on two SAEs or more.")
    pairs = [pair for path in files for pair in read_pairs(path)]
    return stability_figure(pairs, settings.width), tuple(path.stem for path in files)


def _compared(name: str, workspace: Workspace, made: Sequence[str] = ()) -> Path:
    """The file of a result of ``saetui stability``. ``made``: what a plan calls those that it makes."""
    path = path_of(name)
    if not path.is_file():
        path = STABILITY.place(workspace.root, name)
    if not path.is_file():
        there = map(STABILITY.name_of, STABILITY.all_in(workspace.root))
        known = ", ".join(dict.fromkeys([*there, *sorted(made)])) or "none"
        raise UserError(f"There is no result {name} of saetui stability: there is {known}.")
    return path


def _dose(settings: FigureSettings, workspace: Workspace, reporter: Reporter) -> "tuple[Figure, tuple[str, ...]]":
    from engine.report.figures.dose import called, dose_figure
    from engine.steer.steerability.file import read_steerability

    found = [read_steerability(path) for path in sorted((workspace.root / "steerability").glob(f"[!.]*/{SCORES}"))]
    if settings.sae:
        if lacking := next((one for one in settings.sae if one not in {result.sae for result in found}), None):
            raise _unsteered(lacking)
        found = [result for result in found if result.sae in settings.sae]
    if not found:
        raise UserError("There are no steering scores to draw: run saetui steerability SAE --vlm MODEL.")
    return dose_figure(found, settings.width), tuple(called(found))


def _unsteered(sae: str) -> UserError:
    return UserError(f"{sae} has no steering scores to draw: run saetui steerability {sae} --vlm MODEL.")


_DRAWN: "dict[str, Callable[[FigureSettings, Workspace, Reporter], tuple[Figure, tuple[str, ...]]]]" = {
    "ms": _ms,
    "reconstruction": _reconstruction,
    "hierarchy": _hierarchy,
    "top-images": _top_images,
    "stability": _stability,
    "dose": _dose,
}
