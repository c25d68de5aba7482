"""Run images through a vision encoder and keep the activations: ``extract``.

Threads read, decode and preprocess ahead of the forward pass; another writes behind it. Shards cover fixed ranges of
the list of images, whole batches each, so that every forward pass sees the same images whether or not a run was
interrupted: the bytes on disk do not depend on interruptions, nor on how many threads there were.
"""

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.activations.asked import check_purpose, check_rows, store_of
from engine.activations.forward import TORCH, forward
from engine.activations.manifest import FILE, read_manifest
from engine.activations.reading import Batch, prepared
from engine.activations.results import Extracted, StoreMade
from engine.activations.shards import bytes_of, intact, read_records
from engine.activations.store import Store
from engine.activations.stored_images import broken_images
from engine.activations.target import Target, header, take_from, take_over, tidy
from engine.activations.writing import StoreWriter
from engine.config import ExtractSettings
from engine.errors import Stopped, UserError, counted, system_mistake
from engine.files import lock, no_room, sweep_folder
from engine.images import BrokenImage, Images, open_images
from engine.images.kinds import in_words
from engine.links import check_own
from engine.models import HookPoint, TokenPolicy, load_encoder
from engine.models.asked import too_many
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.reporter import Reporter, StageBegan, Warned
from engine.settings import check
from engine.workspace import Workspace

SHARD_IMAGES = 8192  # at most, so that an interruption costs little where an image is a single row
SAMPLED = 5  # images that are looked at where each has a number of tokens of its own
NAMED = 10  # broken images that get a warning of their own


def extract(
    settings: ExtractSettings,
    workspace: Workspace,
    reporter: Reporter | None = None,
    only: str = "",
    images: Images | None = None,
    others: Iterable[Path] = (),
) -> Extracted:
    """Extract activations into one store per hook point; with ``only``, into that of this one. ``images``: those that
    the settings name, or what is made of them. ``others``: stores whose shards are copied where they are the same.

    The same settings continue an interrupted extraction and find a finished one. Raises UserError for whatever the
    user can mend; finished shards are never harmed.
    """
    reporter = reporter or Reporter()
    check(settings)
    settings = for_purpose(settings)
    reporter.event(StageBegan("opening images and encoder"))
    images = images or open_images(settings.images, settings.limit, settings.transparency)
    device = pick_device(settings.device)
    encoder = load_encoder(settings.model, device, TORCH[settings.precision])
    for message in (*encoder.warnings, *consequences(settings), *left_out(images)):
        reporter.event(Warned(message))
    targets, shard_images = plan(settings, workspace, images, encoder)
    targets = [target for target in targets if only in ("", str(target.hook))]
    try:
        with contextlib.ExitStack() as held:
            for target in sorted(targets, key=lambda t: t.folder):
                check_own(target.folder)
                held.enter_context(lock(target.folder))
                held.callback(tidy, target.folder)  # runs before the lock is given back
                _resume(target, images, reporter)
                take_from(target, others, images, reporter)
            extracted = _run(settings, images, encoder, targets, shard_images, reporter)
            _refuse_nothing(targets, images)
            return _result(settings, targets, extracted, images, encoder.alone)
    except Stopped as stopped:
        raise Stopped(_kept(targets)) from stopped
    except OSError as error:
        error.filename = error.filename or str(targets[0].folder)  # plain writes do not know it
        if sentence := system_mistake(error):
            raise UserError(sentence) from error
        raise


def plan(
    settings: ExtractSettings, workspace: Workspace, images: Images, encoder: VisionEncoder
) -> tuple[list[Target], int]:
    """The stores to make, and how many images a shard of each covers. Raises UserError for what cannot be."""
    hooks = list(dict.fromkeys(HookPoint.parse(at) for at in settings.at))
    policy = TokenPolicy.parse(settings.tokens)
    folders = [store_of(settings, str(hook), workspace) for hook in hooks]
    for hook in hooks:
        encoder.check(hook)
    if not all(hook.pooled for hook in hooks):
        encoder.check_tokens(policy.kind)
    shapes = [encoder.shape(hook) for hook in hooks]
    rows = [_rows_an_image(hook, policy, shape[0], encoder) for hook, shape in zip(hooks, shapes, strict=True)]
    if encoder.alone and max(rows) > 1:
        seen = _tokens_of_some(images, encoder)
        rows = [policy.rows_an_image(hook) or seen or n for hook, n in zip(hooks, rows, strict=True)]
    check_rows(settings, max(rows))
    batches = min(settings.shard_rows // (settings.batch_size * max(rows)), max(1, SHARD_IMAGES // settings.batch_size))
    shard_images = batches * settings.batch_size
    targets = []
    for hook, folder, (_, d), most in zip(hooks, folders, shapes, rows, strict=True):
        targets.append(Target(hook, folder, d, most, header(settings, images, encoder, hook, d, shard_images)))
    return targets, shard_images


def left_out(images: Images) -> list[str]:
    """The warnings of pictures in the source that are not read, if there are any, and of what else is odd in it."""
    if not images.left_out:
        return list(images.notes)
    return [*images.notes, f"Left out of {images.spec}: {in_words(images.left_out)}, which are not read."]


def _rows_an_image(hook: HookPoint, policy: TokenPolicy, tokens: int, encoder: VisionEncoder) -> int:
    if not hook.pooled and policy.count > tokens and not encoder.alone:
        raise UserError(too_many(encoder.spec, policy, tokens))
    return policy.rows_an_image(hook) or tokens - (encoder.n_prefix if policy.kind == "patches" else 0)


def _tokens_of_some(images: Images, encoder: VisionEncoder) -> int:
    """Where every image has a number of tokens of its own: the most that some from all over the list have."""
    hook, most = HookPoint("layer", 0), 0
    for index in np.unique(np.linspace(0, len(images) - 1, SAMPLED).astype(int)).tolist():
        with contextlib.suppress(BrokenImage):
            inputs = encoder.preprocess([images.load(index)])
            most = max(most, encoder.activations(inputs, [hook], 1)[hook].shape[1])
    return most


def for_purpose(settings: ExtractSettings) -> ExtractSettings:
    """``settings`` at the hook point that the model of ``for_steering`` reads. UserError where --at is given too."""
    if not settings.for_steering:
        return settings
    check_purpose(settings)
    from engine.models.vlm import read_hook  # the classes of every family, which only this asks for

    return replace(settings, at=(str(read_hook(settings.for_steering)),), for_steering="")


def consequences(settings: ExtractSettings) -> list[str]:
    """What a person should know of the hook points before it is too late."""
    if settings.embeddings or "last" not in settings.at:
        return []
    return [
        "An SAE of the hook point last cannot steer, as language models read the tokens of a layer: extract with "
        "--for-steering MODEL to steer MODEL later."
    ]


# Resuming


def _resume(target: Target, images: Images, reporter: Reporter) -> None:
    sweep_folder(target.folder)
    take_over(target, images, reporter)


# The pipeline


def _run(
    settings: ExtractSettings,
    images: Images,
    encoder: VisionEncoder,
    targets: list[Target],
    shard_images: int,
    reporter: Reporter,
) -> int:
    """Make every shard that is missing; how many images had to be run."""
    shards = range(-(-len(images) // shard_images))
    missing = [s for s in shards if any(s not in target.shards for target in targets)]
    spans = [(s * shard_images, min((s + 1) * shard_images, len(images))) for s in missing]
    starts = [b for start, stop in spans for b in range(start, stop, settings.batch_size)]
    stops = [min(b + settings.batch_size, len(images)) for b in starts]
    total = sum(stop - start for start, stop in spans)
    if not total:
        reporter.event(StageBegan("nothing to do: the store is complete"))
        return 0
    reporter.event(StageBegan("extracting"))
    _warn_of_room(targets, total, settings, reporter)
    done = broken = 0
    rows = sum(shard.rows for target in targets for shard in target.shards.values())
    with contextlib.ExitStack() as held:
        writer = held.enter_context(StoreWriter(settings, targets, shard_images, len(images)))
        batches = list(zip(starts, stops, strict=True))
        ahead = held.enter_context(contextlib.closing(prepared(images, encoder, batches, settings.workers)))
        for batch in ahead:
            broken = _warn_of_broken(batch, broken, reporter)
            new = forward(encoder, batch, settings, writer.needs(batch.start))
            writer.add(batch, new)
            images.keep()
            done += len(batch.records)
            rows += sum(len(part.image) for part in new.values())
            reporter.progress(len(images) - total + done, len(images), "images", rows=rows, broken=broken)
            reporter.check()
    if broken > NAMED:
        reporter.event(Warned(f"Skipped {broken} broken images in all; the manifest names each."))
    return total


def _warn_of_room(targets: list[Target], images: int, settings: ExtractSettings, reporter: Reporter) -> None:
    wanted = sum(size_of(target, images, settings) for target in targets)
    message = no_room(wanted, shutil.disk_usage(targets[0].folder).free)
    if message:
        reporter.event(Warned(message))


def size_of(target: Target, images: int, settings: ExtractSettings) -> int:
    """Bytes of the rows of ``images`` images, at most."""
    return bytes_of(images * target.rows_an_image, target.d, settings.dtype)


def _warn_of_broken(batch: Batch, before: int, reporter: Reporter) -> int:
    for record in batch.records:
        if record.broken is not None:
            before += 1
            if before <= NAMED:
                reporter.event(Warned(f"Skipped {record.path}: {record.broken}."))
    return before


# What came of it


def _kept(targets: list[Target]) -> str:
    finished = min(sum(shard.next_image - shard.first_image for shard in t.shards.values()) for t in targets)
    return f"what was made of {counted(finished, 'image')} is kept" if finished else ""


def _refuse_nothing(targets: list[Target], images: Images) -> None:
    """A store without a single row is of no use: remove it, and say why."""
    if any(shard.rows for target in targets for shard in target.shards.values()):
        return
    first = read_records(intact(targets[0].folder, targets[0].shards[0]))[0]
    for target in targets:
        (target.folder / FILE).unlink()
        for shard in target.shards.values():
            (target.folder / shard.file).unlink()
    raise UserError(
        f"Of {counted(len(images), 'image')} in {images.spec} none can be read ({first.path}: {first.broken}): "
        "check --images."
    )


def _result(settings: ExtractSettings, targets: list[Target], extracted: int, images: Images, alone: bool) -> Extracted:
    stores = []
    for target in targets:
        manifest = read_manifest(target.folder)
        if alone or TokenPolicy.parse(settings.tokens).rows_an_image(target.hook):
            _check_owners(Store(target.folder, manifest))
        name, shards = target.folder.name, len(manifest.shards)
        stores.append(StoreMade(name, str(target.folder), manifest.hook, manifest.rows, manifest.d, shards))
    broken = {image.path: image.broken or "" for image in broken_images(targets[-1].folder, manifest)}
    rows, read = sum(store.rows for store in stores), len(images) - len(broken)
    return Extracted(settings.name, read, broken, rows, extracted, tuple(stores), images.left_out)


def _check_owners(store: Store) -> None:
    for shard in store.shards:
        if problems := store.misplaced(shard):
            raise UserError(problems[0])
