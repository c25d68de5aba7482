"""What an extraction will take, before it is begun: rows, room and time. Writes nothing."""

import shutil
import time

import numpy as np

from engine.activations.extract import consequences, for_purpose, left_out, plan, size_of
from engine.activations.forward import TORCH, check_storable, forward
from engine.activations.reading import CHUNK, prepared
from engine.activations.results import Estimated, StoreEstimate
from engine.activations.target import Target, take_over
from engine.config import ExtractSettings
from engine.errors import counted
from engine.files import nearest, no_room
from engine.images import Images, open_images
from engine.models import load_encoder
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.reporter import Reporter, StageBegan
from engine.settings import check
from engine.workspace import Workspace

SECONDS = 5.0  # that the timing may take, about
BATCHES = 3  # timed at most


def estimate(settings: ExtractSettings, workspace: Workspace, reporter: Reporter | None = None) -> Estimated:
    """What ``extract`` with the same settings will make, and how long that will take.

    Raises the UserErrors of ``extract`` for what can be known beforehand.
    """
    reporter = reporter or Reporter()
    check(settings)
    settings = for_purpose(settings)
    reporter.event(StageBegan("opening images and encoder"))
    images = open_images(settings.images, settings.limit, settings.transparency)
    encoder = load_encoder(settings.model, pick_device(settings.device), TORCH[settings.precision])
    targets, shard_images = plan(settings, workspace, images, encoder)
    for target in targets:
        take_over(target, images, reporter)
    reporter.event(StageBegan("timing"))
    pace, broken = _pace(settings, images, encoder, targets, reporter)
    left = [_left(target, len(images), shard_images) for target in targets]
    free = shutil.disk_usage(nearest(targets[0].folder)).free
    room = no_room(sum(size_of(t, n, settings) for t, n in zip(targets, left, strict=True)), free)
    hooks = tuple(
        StoreEstimate(
            str(target.hook),
            target.folder.name,
            target.d,
            len(images) * target.rows_an_image,
            size_of(target, len(images), settings),
        )
        for target in targets
    )
    return Estimated(
        images=len(images),
        images_left=max(left),
        rows=sum(hook.rows for hook in hooks),
        bytes=sum(hook.bytes for hook in hooks),
        free=free,
        seconds=max(left) * pace if pace is not None else None,
        images_per_s=1 / pace if pace else None,
        d=max(target.d for target in targets),
        hooks=hooks,
        model_parameters=sum(p.numel() for p in encoder.model.parameters()),
        warnings=(
            *encoder.warnings,
            *consequences(settings),
            *left_out(images),
            *broken,
            *([room] if room else []),
        ),
        left_out=images.left_out,
    )


def _pace(
    settings: ExtractSettings, images: Images, encoder: VisionEncoder, targets: list[Target], reporter: Reporter
) -> tuple[float | None, list[str]]:
    """Seconds an image takes, and a sentence about images of the sample that cannot be read.

    A few batches from all over the list, after a small one that warms up. On an accelerator reading hides behind the
    forward pass, or the other way round; on a CPU both want the same cores.
    """
    began = time.perf_counter()
    size = min(settings.batch_size, CHUNK)
    for _ in range(2):  # the second is a guess at how long a whole batch takes
        reading, running, bad = _timed(settings, images, encoder, targets, 0, size)
    if (reading + running) / size * settings.batch_size <= SECONDS / 2:
        size = settings.batch_size
    times, done, broken = np.zeros(2), 0, []
    for start in dict.fromkeys(np.linspace(0, max(0, len(images) - size), BATCHES).astype(int).tolist()):
        reading, running, bad = _timed(settings, images, encoder, targets, start, size)
        times += reading, running
        done += min(size, len(images) - start)
        broken += bad
        reporter.check()
        if time.perf_counter() - began > SECONDS:
            break
    said = [f"{len(broken)} of {counted(done, 'image')} tried cannot be read ({broken[0]})."] if broken else []
    if len(broken) == done:
        return None, said
    return float(times.sum() if encoder.device.type == "cpu" else times.max()) / done, said


def _timed(
    settings: ExtractSettings, images: Images, encoder: VisionEncoder, targets: list[Target], start: int, size: int
) -> tuple[float, float, list[str]]:
    """Seconds to read, and to run, images ``start`` to ``start + size``; and what is wrong with the broken ones."""
    began = time.perf_counter()
    (batch,) = prepared(images, encoder, [(start, min(start + size, len(images)))], settings.workers)
    read = time.perf_counter()
    rows = forward(encoder, batch, settings, targets)
    for target in targets:
        if rows:
            check_storable(rows[str(target.hook)], target, batch, settings)
    broken = [f"{record.path}: {record.broken}" for record in batch.records if record.broken is not None]
    return read - began, time.perf_counter() - read, broken


def _left(target: Target, images: int, shard_images: int) -> int:
    """Images whose shard is not there yet."""
    firsts = range(0, images, shard_images)
    return sum(min(shard_images, images - f) for n, f in enumerate(firsts) if n not in target.shards)
