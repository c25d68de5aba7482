"""Of which SAEs a figure of scores is: those that are named, else all that have what it shows, but for controls."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from engine.activations.asked import Made
from engine.config import FigureSettings
from engine.errors import UserError
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.latents import scoring
from engine.report.subject import Subject, scores_now, several_sets, subject_of
from engine.sae.config import is_control
from engine.workspace import Workspace, first_few, image_set_of, neurons_files, sae_of, saes

MOST = {"ms": 7, "hierarchy": 5, "top-images": 1}
"""The kinds of figures of scores, and of how many SAEs each can be read: no more than there are colours, and
fewer where each has bars."""


def scored(settings: FigureSettings, workspace: Workspace, stack: ExitStack) -> list[Neurons]:
    """The scores of the SAEs to draw, those with depths alone for ``hierarchy``. UserError where there are none, and
    where none was named and there are more than can be told apart."""
    found = []
    for subject in _asked(settings, workspace):
        if subject.scores is not None:
            found.append(stack.enter_context(Neurons.open(subject.scores)))
        elif settings.sae:
            raise unscored(subject.name)
    if not found:
        raise _none(settings)
    stack.enter_context(refusing_damage(found[0].path))
    if settings.kind == "hierarchy":
        found = _deep(found, named=bool(settings.sae))
    if not settings.sae:
        check_few(names_of(found), settings.kind)
    return found


def check_unnamed(settings: FigureSettings, workspace: Workspace, made: Made) -> None:
    """UserError for a figure that names no SAE, as far as it is known what is scored by then."""
    there = saes(workspace)
    names = dict.fromkeys([*there, *sorted(name for folder, name in made if folder == "saes")])
    drawn = []
    for name in names:
        if ("controls", name) in made or (name in there and is_control(workspace.sae(name))):
            continue
        sets = sets_made(name, made)
        if name in there:
            now = scores_now(workspace.sae(name), neurons_files(workspace, name))
            sets = sorted({*sets, *map(image_set_of, now)})
        if settings.on:
            sets = [one for one in sets if one == settings.on]
        if len(sets) > 1:
            raise several_sets(name, sets)
        drawn += [name] * len(sets)
    if not drawn:
        raise _none(settings) if names else _no_saes()
    if settings.kind != "hierarchy":  # which will have depths, the images tell
        check_few(drawn, settings.kind)


def sets_made(sae: str, made: Made) -> list[str]:
    """The image sets that a plan scores it on."""
    files = [Path(name) for folder, name in made if folder == "neurons"]
    return sorted(image_set_of(file) for file in files if sae_of(file) == sae)


def unscored(sae: str) -> UserError:
    return UserError(f"{sae} has no scores to draw: run {scoring(sae)}.")


def check_few(names: Sequence[str], kind: str) -> None:
    """UserError for more SAEs than a figure of that kind can show."""
    if kind == "top-images" and len(names) > 1:
        raise UserError(f"A figure of top images is of one SAE, and there are {first_few(names)}: name one.")
    if len(names) > MOST[kind]:
        raise UserError(
            f"There are {len(names):,} SAEs to draw ({first_few(names)}), and a figure of {kind} can show {MOST[kind]}:"
            " name some."
        )


def names_of(found: Sequence[Neurons]) -> tuple[str, ...]:
    return tuple(one.summary.sae for one in found)


def passed_over(settings: FigureSettings, found: Sequence[Neurons]) -> list[str]:
    """The SAEs that were named and are not drawn."""
    named = [sae_of(Path(one)) if one.endswith(".h5") else Path(one).name for one in settings.sae]
    return [one for one in named if one not in names_of(found)]


def _asked(settings: FigureSettings, workspace: Workspace) -> list[Subject]:
    """The SAEs that were named; without, those of the workspace that are no controls, and scored where that was asked
    for. UserError where there is none."""
    if settings.sae:
        return [subject_of(one, settings.on, workspace) for one in settings.sae]
    if not (there := saes(workspace)):
        raise _no_saes()
    names = [one for one in there if not is_control(workspace.sae(one))]
    if not names:
        raise UserError(f"There are controls alone ({first_few(there)}): name those to draw.")
    if settings.on:
        names = [one for one in names if workspace.neurons(one, settings.on).is_file()]
    return [subject_of(one, settings.on, workspace) for one in names]


def _deep(found: Sequence[Neurons], named: bool) -> list[Neurons]:
    """Those with depths; of those that nobody named, those with Matryoshka groups where there are any."""
    deep = [one for one in found if one.summary.hierarchy is not None]
    if not deep:
        one = len(found) == 1
        who = f"{found[0].path.name} has no" if one else f"None of {first_few(names_of(found))} has"
        raise UserError(f"{who} depths: score images with a taxonomy (folders in folders).")
    return deep if named else [one for one in deep if one.group.max() > 0] or deep


def _none(settings: FigureSettings) -> UserError:
    on = f" on {settings.on!r}" if settings.on else ""
    return UserError(f"No SAE of this workspace but controls has scores{on}: run {scoring('NAME')}.")


def _no_saes() -> UserError:
    return UserError("There are no SAEs to draw: train one with saetui train, or name some.")
