"""What a training or a scoring will take, before it is begun: rows, room, and time as earlier ones here took. No torch.

Times are of this workspace: of a training by its steps a second, which fall with batch, width and latents; of a
scoring by its images. Where nothing of the kind was done yet, they are not known.
"""

import contextlib
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

from engine.activations.asked import opened
from engine.config import ScoreSettings, TrainSettings
from engine.errors import UserError
from engine.files import nearest
from engine.images.sources import open_images
from engine.reporter import Done, Progress, StageBegan
from engine.runs.run import Run, runs
from engine.runs.trainings import trainings
from engine.sae.asked import with_steps
from engine.sae.config import latents, read_config
from engine.workspace import Workspace, neurons_files, sae_of

STATE = 3  # times the size of an SAE: it, and both moments of Adam
LOOKED = 20  # runs that are asked how long they took, the newest first


@dataclass(frozen=True)
class ExpectedTraining:
    rows: int
    d: int
    w: int
    steps: int
    passes: float
    """Over the rows."""
    bytes: int
    """Of the SAE, and of the state that a longer training goes on from."""
    free: int
    seconds: float | None
    """None where nothing was trained here yet."""


@dataclass(frozen=True)
class ExpectedScoring:
    images: int
    latents: int
    bytes: int | None
    """None where nothing was scored here yet."""
    free: int
    seconds: float | None


def expected_training(settings: TrainSettings, workspace: Workspace) -> ExpectedTraining:
    """UserError for a store that is not there."""
    store = opened("activations", settings.activations, workspace, ())
    assert store is not None
    settings = with_steps(settings, store, workspace.sae(settings.name))
    w = latents(store.d, settings.expansion)
    sae = 4 * (2 * store.d * w + 2 * w + store.d)
    work = float(settings.batch_size) * store.d * w
    paces = _work_a_second(workspace)
    return ExpectedTraining(
        rows=store.rows,
        d=store.d,
        w=w,
        steps=settings.steps,
        passes=settings.steps * settings.batch_size / store.rows,
        bytes=sae * (1 + STATE * settings.keep_state),
        free=shutil.disk_usage(nearest(workspace.root)).free,
        seconds=settings.steps * work / statistics.median(paces) if paces else None,
    )


def _work_a_second(workspace: Workspace) -> list[float]:
    """Tokens x dimensions x latents that the newest trainings here did in a second."""
    found = []
    for row in trainings(workspace)[:LOOKED]:
        with contextlib.suppress(UserError, OSError):
            if row.settings is not None and row.pace:
                config = read_config(workspace.sae(row.name))
                pace = statistics.median(steps for _, steps in row.pace)
                found.append(pace * row.settings.batch_size * config.d * config.w)
    return found


def expected_scoring(settings: ScoreSettings, workspace: Workspace) -> ExpectedScoring:
    """UserError for an SAE or images that are not there."""
    folder = workspace.existing("saes", settings.sae)
    config = read_config(folder)
    images = len(open_images(settings.images, settings.limit))
    paces = _seconds_an_image(workspace)
    return ExpectedScoring(
        images=images,
        latents=config.w,
        bytes=next(filter(None, (_room(path, config.w, workspace) for path in neurons_files(workspace))), None),
        free=shutil.disk_usage(nearest(workspace.root)).free,
        seconds=images * statistics.median(paces) if paces else None,
    )


def _room(path: Path, w: int, workspace: Workspace) -> int | None:
    """Bytes of the scores of ``w`` latents, by those of other ones."""
    with contextlib.suppress(UserError, OSError):
        return round(path.stat().st_size * w / read_config(workspace.sae(sae_of(path))).w)
    return None


def _seconds_an_image(workspace: Workspace) -> list[float]:
    found = []
    for run in reversed(runs(workspace)[-LOOKED:]):
        with contextlib.suppress(UserError, OSError):
            found += _scorings(run)
    return found


def _scorings(run: Run) -> list[float]:
    """Of every scoring of a run, alone or among others: seconds an image, from the first that is encoded to the end."""
    found: list[float] = []
    began, images, scoring = 0.0, 0, False
    for one in run.events()[0]:
        match one.event:
            case StageBegan("encoding"):
                began, images = one.time, 0
            case Progress(total=total, unit="images") if began:
                images = total
            case StageBegan("scoring"):
                scoring = bool(began)
            case StageBegan() | Done():
                if scoring and images:
                    found.append((one.time - began) / images)
                began, scoring = 0.0, False
    return found
