"""What a training or a scoring will take, before it is begun: rows, room, and time as earlier ones here took. No torch.

Times are of this workspace: of a training by its steps a second, which fall with batch, width and latents; of a
scoring by its images. Where nothing of the kind was done yet, they are not known.
"""

import contextlib
import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.activations.asked import opened
from engine.activations.manifest import read_manifest
from engine.config import ScoreSettings, ScoresSettings, TrainSettings, Transparency
from engine.errors import UserError
from engine.files import nearest
from engine.images.sources import open_images
from engine.kinds import EMBEDDINGS
from engine.neurons.asked import apart, passes
from engine.runs.paces import Forward, Paces, paces
from engine.runs.trainings import trainings
from engine.sae.asked import with_steps
from engine.sae.config import latents, read_config
from engine.workspace import Workspace, neurons_files, sae_of

STATE = 3  # times the size of an SAE: it, and both moments of Adam
LOOKED = 20  # trainings that are asked how long they took, the newest first


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
    settings = with_steps(settings, store.rows, workspace.sae(settings.name))
    return training_of(settings, store.rows, store.d, workspace, work_a_second(workspace))


def training_of(
    settings: TrainSettings, rows: int, d: int, workspace: Workspace, work: Sequence[float]
) -> ExpectedTraining:
    """Of a training whose steps are known, on a store of so many rows. ``work``: see :func:`work_a_second`."""
    w = latents(d, settings.expansion)
    sae = bytes_of_weights(d, w)
    a_step = float(settings.batch_size) * d * w
    return ExpectedTraining(
        rows=rows,
        d=d,
        w=w,
        steps=settings.steps,
        passes=settings.steps * settings.batch_size / rows,
        bytes=sae * (1 + STATE * settings.keep_state),
        free=shutil.disk_usage(nearest(workspace.root)).free,
        seconds=settings.steps * a_step / statistics.median(work) if work else None,
    )


def work_a_second(workspace: Workspace) -> list[float]:
    """Tokens x dimensions x latents that the newest trainings here did in a second."""
    found = []
    for row in trainings(workspace)[:LOOKED]:
        with contextlib.suppress(UserError, OSError):
            if row.settings is not None and row.pace:
                config = read_config(workspace.sae(row.name))
                pace = statistics.median(steps for _, steps in row.pace)
                found.append(pace * row.settings.batch_size * config.d * config.w)
    return found


def expected_scoring(settings: ScoresSettings, workspace: Workspace) -> ExpectedScoring:
    """UserError for an SAE or images that are not there."""
    asked = apart(settings)
    configs = [read_config(workspace.existing("saes", one.sae)) for one in asked]
    images = len(open_images(settings.images, settings.limit))
    a_latent, found = bytes_a_latent(workspace), paces(workspace)
    each: list[float | None] = []
    for numbers in passes(asked, configs):
        some, config = [asked[number] for number in numbers], configs[numbers[0]]
        new = unseen(some, config.transparency, images, workspace)
        encoder = Forward.of(some[0].encoder or config.model, some[0])
        judges = [(Forward.of(judge, some[0]), shown) for judge, shown in new]
        each.append(pass_seconds(found, images, encoder, judges, len(some)))
    known = [one for one in each if one is not None]
    return ExpectedScoring(
        images=images,
        latents=sum({one.sae: config.w for one, config in zip(asked, configs, strict=True)}.values()),
        bytes=round(a_latent * sum(one.w for one in configs)) if a_latent else None,
        free=shutil.disk_usage(nearest(workspace.root)).free,
        seconds=sum(known) if len(known) == len(each) else None,
    )


def pass_seconds(
    found: Paces, images: int, encoder: Forward, judges: Iterable[tuple[Forward, int]], scorings: int
) -> float | None:
    """Of scorings that are done together: each of ``judges`` sees so many images or crops, and the encoder the images
    once. None where the pace of one of these is not known."""
    each = [found.of_images(one, shown) for one, shown in judges]
    if scorings:
        scored = found.of_scores(images)
        each += [found.of_images(encoder, images), None if scored is None else scored * scorings]
    known = [one for one in each if one is not None]
    return sum(known) if len(known) == len(each) else None


def unseen(
    asked: Sequence[ScoreSettings], shown: Transparency, images: int, workspace: Workspace
) -> list[tuple[str, int]]:
    """The judges that have yet to see images, or crops of them, each with how many, of scorings that share a pass."""
    whole = dict.fromkeys((one.embed_with, None, 0.0, 0) for one in asked)
    cropped = dict.fromkeys(
        (one.embed_with, one.crops, one.crop_side, one.seed) for one in asked if one.pooling == "crop"
    )
    return [
        (judge, images * (crops or 1))
        for judge, crops, *_ in (*whole, *cropped)
        if not judged(replace(asked[0], embed_with=judge), shown, images, workspace, crops)
    ]


def judged(
    settings: ScoreSettings, shown: Transparency, images: int, workspace: Workspace, crops: int | None = None
) -> bool:
    """Whether the judge has seen the images, or ``crops`` of each, already, as far as names and numbers say."""
    asked = settings.embed_with, settings.images, images * (crops or 1), crops, settings.batch_size, shown
    for folder in EMBEDDINGS.all_in(workspace.root):
        with contextlib.suppress(UserError, OSError):
            found = read_manifest(folder)
            source = found.source
            same = (
                *(found.model.spec, source.spec, source.images, source.crops),
                *(found.batch_size, found.transparency),
            )
            if found.complete and found.dtype == "float32" and same == asked:
                return True
    return False


def bytes_of_weights(d: int, w: int) -> int:
    """Of an SAE's file: two matrices, both biases and a threshold in float32."""
    return 4 * (2 * d * w + 2 * w + d)


def bytes_a_latent(workspace: Workspace) -> float | None:
    """Of scores, by the newest here; None where there are none."""
    for path in neurons_files(workspace):
        with contextlib.suppress(UserError, OSError):
            return path.stat().st_size / read_config(workspace.sae(sae_of(path))).w
    return None
