"""What a report or a figure is about: an SAE of a workspace, and the scores that are of it as it is now."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from engine.artefacts.entries import UNREADABLE
from engine.errors import UserError
from engine.files import path_of
from engine.neurons.file import Neurons
from engine.neurons.latents import of_other_weights, scoring
from engine.sae.config import weights_sha256
from engine.workspace import Workspace, image_set_of, neurons_files, sae_of

T = TypeVar("T")


@dataclass
class Subject:
    """An SAE, as far as it is there; ``missing``: what is not, a sentence each."""

    workspace: Workspace
    name: str
    folder: Path
    scores: Path | None
    missing: list[str] = field(default_factory=list)

    def tried(self, read: Callable[[], T], what: str) -> T | None:
        """What ``read`` returns; where it is damaged or gone, that is noted, and the work goes on."""
        try:
            return read()
        except UNREADABLE as error:
            self.missing.append(f"{what}: {error}")
            return None


def subject_of(sae: str, on: str, workspace: Workspace, made: Collection[tuple[str, str]] = ()) -> Subject:
    """The SAE of a name or path, or that of a neurons file; ``on``: the image set, where there are several; ``made``:
    see :meth:`engine.workspace.Workspace.existing`.

    UserError where there is neither an SAE nor scores of that name.
    """
    given = path_of(sae)
    if given.suffix == ".h5" and given.is_file():
        path = Path(os.path.abspath(given))
        return Subject(workspace, sae_of(path), workspace.root / "saes" / sae_of(path), path)
    name = given.name
    found = [workspace.neurons(name, on)] if on else sorted(neurons_files(workspace, name))
    if not any(path.is_file() for path in found):
        folder = workspace.existing("saes", sae, made)  # says which there are
        if on:
            raise UserError(f"{name} was not scored as {on!r}: {_sets(workspace, name)}.")
        unscored = f"There are no scores, and so no latents to look at: run {scoring(name)}."
        return Subject(workspace, name, folder, None, [unscored])
    folder = given if given.is_dir() and os.sep in sae else workspace.sae(name)
    return _with_scores(Subject(workspace, name, Path(os.path.abspath(folder)), None), found)


def _with_scores(subject: Subject, found: list[Path]) -> Subject:
    """Those scores that are of the SAE as it is now."""
    same = scores_now(subject.folder, found)
    if not same:
        subject.missing.append(f"There are no scores of it: {of_other_weights(subject.name)}")
        return subject
    if len(same) > 1:
        raise several_sets(subject.name, [image_set_of(path) for path in same])
    (subject.scores,) = same
    return subject


def several_sets(sae: str, sets: Sequence[str]) -> UserError:
    """``sets``: of images, of which one is to be chosen: what it says can be typed, and written into a plan."""
    return UserError(f'{sae} is scored on several image sets ({", ".join(sets)}): choose one with --on="{sets[0]}".')


def scores_now(folder: Path, found: list[Path]) -> list[Path]:
    """Those that are of the weights in ``folder``, as far as it is known."""
    now = _weights_now(folder)
    return [path for path in found if _scored_sae(path) in ("", now)] if now else found


def _weights_now(folder: Path) -> str:
    """Their content hash; empty without any that can be read, of which others tell."""
    try:
        return weights_sha256(folder)
    except UNREADABLE:
        return ""


def _sets(workspace: Workspace, name: str) -> str:
    known = [image_set_of(path) for path in sorted(neurons_files(workspace, name))]
    return f"its image sets are {', '.join(known)}" if known else f"run {scoring(name)}"


def _scored_sae(path: Path) -> str:
    with Neurons.open(path) as neurons:
        return neurons.sae_sha256
