"""Run images through a vision encoder and keep the activations: ``extract``.

Threads read, decode and preprocess ahead of the forward pass; another writes behind it. Shards cover fixed ranges of
the list of images, whole batches each, so that every forward pass sees the same images whether or not a run was
interrupted: the bytes on disk do not depend on interruptions, nor on how many threads there were.
"""

import contextlib
import errno
import os
import re
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.activations.manifest import Target, _header, take_over, write_manifest
from engine.activations.reading import Batch, prepared
from engine.activations.shards import STORED, ShardWriter, read_records
from engine.config import ExtractSettings
from engine.errors import Stopped, UserError
from engine.files import lock, read_json
from engine.images import Images, open_images
from engine.models import HookPoint, TokenPolicy, load_encoder
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.reporter import Reporter, StageBegan, Warned
from engine.workspace import Workspace

SHARD_IMAGES = 8192  # at most, so that an interruption costs little where an image is a single row
BEHIND = 4  # batches that wait to be written
NAMED = 10  # broken images that get a warning of their own
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4028234e38}
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@dataclass(frozen=True)
class Rows:
    """One batch's rows for one target, on their way to the disk."""

    values: Tensor  # (rows, d) in the stored type, on the host once ``ready``
    extremes: Tensor  # (2): smallest and largest value before the cast
    image: np.ndarray
    token: np.ndarray
    ready: Any  # CUDA event, or None


def extract(settings: ExtractSettings, workspace: Workspace, reporter: Reporter | None = None) -> dict[str, Any]:
    """Extract activations into one store per hook point; the summary that ``--json`` prints.

    The same settings continue an interrupted extraction and find a finished one. Raises UserError for whatever the
    user can mend; finished shards are never harmed.
    """
    reporter = reporter or Reporter()
    check(settings)
    reporter.event(StageBegan("opening images and encoder"))
    images = open_images(settings.images, settings.limit)
    device = pick_device(settings.device)
    encoder = load_encoder(settings.model, device, TORCH[settings.precision])
    for message in encoder.warnings:
        reporter.event(Warned(message))
    targets, shard_images = plan(settings, workspace, images, encoder)
    try:
        with contextlib.ExitStack() as held:
            for target in sorted(targets, key=lambda t: t.folder):
                held.enter_context(lock(target.folder))
                held.callback(_tidy, target.folder)  # runs before the lock is given back
                _resume(target)
            extracted = _run(settings, images, encoder, targets, shard_images, reporter)
            _refuse_nothing(targets, images)
            return _summary(settings, targets, extracted)
    except (OSError, RuntimeError) as error:
        told = _disk_error(error, targets[0].folder)
        if told is None:
            raise
        raise told from error


def plan(
    settings: ExtractSettings, workspace: Workspace, images: Images, encoder: VisionEncoder
) -> tuple[list[Target], int]:
    """The stores to make, and how many images a shard of each covers. Raises UserError for what cannot be."""
    hooks = list(dict.fromkeys(HookPoint.parse(at) for at in settings.at))
    policy = TokenPolicy.parse(settings.tokens)
    home = workspace.embeddings if settings.embeddings else workspace.activations
    folders = [home(settings.name if len(hooks) == 1 else f"{settings.name}-{str(h).replace(':', '')}") for h in hooks]
    for hook in hooks:
        encoder.check(hook)
    shapes = [encoder.shape(hook) for hook in hooks]
    rows = [_rows_an_image(hook, policy, tokens, encoder) for hook, (tokens, _) in zip(hooks, shapes, strict=True)]
    if settings.embeddings and max(rows) > 1:
        raise UserError("Embeddings have one row an image: use --at last, or --tokens cls or mean.")
    batch_rows = settings.batch_size * max(rows)
    batches = min(settings.shard_rows // batch_rows, max(1, SHARD_IMAGES // settings.batch_size))
    if batches == 0:
        raise UserError(
            f"A batch has {batch_rows} rows and --shard-rows is {settings.shard_rows}: raise it or lower --batch-size."
        )
    shard_images = batches * settings.batch_size
    targets = []
    for hook, folder, (_, d), most in zip(hooks, folders, shapes, rows, strict=True):
        header = _header(settings, images, encoder, hook, d, shard_images)
        targets.append(Target(hook, folder, d, most, header))
    return targets, shard_images


def _rows_an_image(hook: HookPoint, policy: TokenPolicy, tokens: int, encoder: VisionEncoder) -> int:
    if hook.kind == "last":
        return 1
    if policy.kind == "cls" and not encoder.has_cls:
        raise UserError(f"{encoder.spec} has no CLS token: use --tokens mean, patches, all or random:K.")
    if policy.count > tokens:
        raise UserError(f"{encoder.spec} has {tokens} tokens an image, fewer than --tokens {policy}: lower the number.")
    return {
        "all": tokens,
        "patches": tokens - encoder.n_prefix,
        "random": policy.count,
        "cls": 1,
        "mean": 1,
    }[policy.kind]


def check(settings: ExtractSettings) -> None:
    """UserError for numbers that make no sense, before anything is opened."""
    for name in ("batch_size", "workers", "shard_rows"):
        if getattr(settings, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(settings, name)}: it must be at least 1.")
    if settings.limit < 0:
        raise UserError(f"--limit is {settings.limit}: give 0 for all images, or how many.")


# Resuming


def _resume(target: Target) -> None:
    for leftover in target.folder.glob(".*.tmp"):  # of a run that was killed: the lock says that none is alive
        leftover.unlink()
    take_over(target)


def _tidy(folder: Path) -> None:
    """Leave no trace of a store of which nothing was finished."""
    with contextlib.suppress(OSError):
        if not (folder / "manifest.json").exists() and {p.name for p in folder.iterdir()} <= {".lock"}:
            (folder / ".lock").unlink()
            folder.rmdir()


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
    rows = sum(shard["rows"] for target in targets for shard in target.shards.values())
    with contextlib.ExitStack() as held:
        disk = held.enter_context(_Disk(settings, targets, shard_images, len(images)))
        batches = list(zip(starts, stops, strict=True))
        ahead = held.enter_context(contextlib.closing(prepared(images, encoder, batches, settings.workers)))
        for batch in ahead:
            broken = _warn_of_broken(batch, broken, reporter)
            new = forward(encoder, batch, settings, disk.needs(batch.start))
            disk.add(batch, new)
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
    """Bytes of the rows of ``images`` images, at most: activations and, for each row, its image and token number."""
    return images * target.rows_an_image * (target.d * STORED[settings.dtype].itemsize + 8)


def no_room(wanted: int, free: int) -> str | None:
    """The warning that ``wanted`` bytes do not fit into the ``free`` ones; None when they do."""
    if wanted <= free:
        return None
    return f"This takes about {wanted / 1e9:,.1f} GB and the disk has {free / 1e9:,.1f} GB free."


def _warn_of_broken(batch: Batch, before: int, reporter: Reporter) -> int:
    for record in batch.records:
        if "broken" in record:
            before += 1
            if before <= NAMED:
                reporter.event(Warned(f"Skipped {record['path']}: {record['broken']}."))
    return before


def forward(encoder: VisionEncoder, batch: Batch, settings: ExtractSettings, needed: list[Target]) -> dict[str, Rows]:
    """Rows of the batch by hook point, on their way to the host; empty when no image of it can be read."""
    if not batch.inputs:
        return {}
    inputs = batch.inputs
    if encoder.device.type == "cuda":
        inputs = {name: value.pin_memory() for name, value in inputs.items()}
    activations = encoder.activations(inputs, [target.hook for target in needed])
    mask = encoder.token_mask(batch.inputs)
    policy = TokenPolicy.parse(settings.tokens)
    rows = {}
    for target in needed:
        hidden = activations[target.hook]
        if target.hook.kind == "last":
            chosen, image, token = hidden[:, 0], np.array(batch.indices), np.full(len(hidden), -1)
        else:
            chosen, image, token = select(hidden, policy, encoder.n_prefix, settings.seed, batch.indices, mask)
        rows[str(target.hook)] = _to_host(chosen, TORCH[settings.dtype], image, token)
    return rows


def select(
    hidden: Tensor, policy: TokenPolicy, n_prefix: int, seed: int, indices: list[int], mask: Tensor | None = None
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """The rows that ``policy`` keeps of ``hidden`` (batch, token, d), with the image and token index of each.

    ``indices``: image index of each batch element. ``mask`` (batch, token): False for padding, which is never kept.
    """
    batch, tokens, d = hidden.shape
    if policy.kind == "mean":
        return (
            _mean(hidden[:, n_prefix:], None if mask is None else mask[:, n_prefix:]),
            np.array(indices),
            np.full(batch, -1),
        )
    keep = np.zeros((batch, tokens), bool)
    if policy.kind == "random":
        lengths = np.full(batch, tokens) if mask is None else mask.sum(1).numpy()
        for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
            if length < policy.count:
                raise UserError(f"Image {index} has {length} tokens, fewer than --tokens {policy}: lower the number.")
            keep[row, policy.draw(int(length), seed, index)] = True
    else:
        keep[:, {"cls": slice(0, 1), "patches": slice(n_prefix, None), "all": slice(None)}[policy.kind]] = True
        if mask is not None:
            keep &= mask.numpy()
    element, token = np.nonzero(keep)
    flat = hidden.reshape(-1, d)
    if len(token) < batch * tokens:
        flat = flat[torch.from_numpy(np.flatnonzero(keep)).to(hidden.device)]
    return flat, np.asarray(indices)[element], token


def _mean(patches: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return patches.float().mean(1)
    weight = mask.to(patches.device).float().unsqueeze(-1)
    return (patches.float() * weight).sum(1) / weight.sum(1)


def _to_host(values: Tensor, dtype: torch.dtype, image: np.ndarray, token: np.ndarray) -> Rows:
    """Cast on the device and start the copy; the writer waits for it."""
    extremes = torch.stack(torch.aminmax(values)).float()
    stored = values.to(dtype)
    if values.device.type != "cuda":
        return Rows(stored.cpu(), extremes.cpu(), image, token, None)
    host, host_extremes = (torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in (stored, extremes))
    host.copy_(stored, non_blocking=True)
    host_extremes.copy_(extremes, non_blocking=True)
    ready = torch.cuda.Event()
    ready.record()
    return Rows(host, host_extremes, image, token, ready)


class _Disk:
    """Writes batches in a thread of its own, and finishes shards and manifests as they become complete."""

    def __init__(self, settings: ExtractSettings, targets: list[Target], shard_images: int, images: int):
        self.settings = settings
        self.targets = targets
        self.shard_images = shard_images
        self.images = images
        self._writers: dict[str, ShardWriter] = {}
        self._records: list[dict[str, Any]] = []
        self._failed = False
        self._thread = ThreadPoolExecutor(1, "writer")
        self._waiting: deque[Future[None]] = deque()

    def needs(self, start: int) -> list[Target]:
        """The targets that lack the shard of image ``start``."""
        shard = start // self.shard_images
        return [target for target in self.targets if shard not in target.shards]

    def add(self, batch: Batch, rows: dict[str, Rows]) -> None:
        """Have ``rows`` (by hook point) written; waits while too many batches do. Raises what writing raised."""
        self._waiting.append(self._thread.submit(self._write, batch, rows, self.needs(batch.start)))
        while len(self._waiting) > BEHIND:
            self._waiting.popleft().result()

    def __enter__(self) -> "_Disk":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            # What is computed gets written when all is well, and when the user asks to stop.
            if kind is None or issubclass(kind, (Stopped, KeyboardInterrupt)):
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
            for writer in self._writers.values():
                writer.discard()

    def _write(self, batch: Batch, rows: dict[str, Rows], targets: list[Target]) -> None:
        if self._failed:  # a batch before this one was not written: its shard must not be finished
            return
        try:
            for target in targets:
                writer = self._writer(target, batch.start)
                if str(target.hook) in rows:
                    self._append(writer, target, rows[str(target.hook)], batch)
            self._records += batch.records
            stop = batch.start + len(batch.records)
            if stop == self.images or stop % self.shard_images == 0:
                for target in targets:
                    self._finish(target, batch.start // self.shard_images, stop)
                self._records = []
        except BaseException:
            self._failed = True
            raise

    def _writer(self, target: Target, start: int) -> ShardWriter:
        key = str(target.hook)
        if key not in self._writers:
            path = target.folder / f"shard-{start // self.shard_images:05d}.h5"
            self._writers[key] = ShardWriter(path, target.d, self.settings.dtype)
        return self._writers[key]

    def _append(self, writer: ShardWriter, target: Target, rows: Rows, batch: Batch) -> None:
        check_storable(rows, target, batch, self.settings)
        writer.append(_numpy(rows.values), rows.image, rows.token)

    def _finish(self, target: Target, shard: int, stop: int) -> None:
        writer = self._writers[str(target.hook)]
        entry = writer.commit(self._records)
        del self._writers[str(target.hook)]
        target.shards[shard] = entry | {"first_image": shard * self.shard_images, "next_image": stop}
        target.records[shard] = self._records
        write_manifest(target, self.images)


def _numpy(values: Tensor) -> np.ndarray:
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()


def check_storable(rows: Rows, target: Target, batch: Batch, settings: ExtractSettings) -> None:
    """Wait until ``rows`` are on the host; UserError that names an image with values that the type cannot hold."""
    if rows.ready is not None:
        rows.ready.synchronize()
    low, high = rows.extremes.tolist()
    if not max(-low, high) <= LARGEST[settings.dtype]:
        bad = np.flatnonzero(~np.isfinite(rows.values.float().numpy()).all(1))
        if len(bad):
            path = batch.records[int(rows.image[bad[0]]) - batch.start]["path"]
            raise _unstorable(path, target.hook, max(-low, high), settings)


def _unstorable(path: str, hook: HookPoint, peak: float, settings: ExtractSettings) -> UserError:
    if np.isfinite(peak):
        return UserError(
            f"The activations of {path} at {hook} reach {peak:.6g}, more than {settings.dtype} holds: "
            "use --dtype bfloat16 or float32."
        )
    way_out = "check the model's weights" if settings.precision == "float32" else "use --precision float32"
    return UserError(f"The activations of {path} at {hook} are not finite: {way_out}, or leave the image out.")


def _disk_error(error: OSError | RuntimeError, folder: Path) -> UserError | None:
    """What to tell a user whose disk does not take more; None for other errors. HDF5 tells errno in its text only."""
    told = re.search(r"errno = (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(told[1]) if told else None)
    if number in DISK_FULL:
        return UserError(
            f"No more room for {folder} ({os.strerror(number)}): free space, then run the same command again to go on "
            "from the last finished shard."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"Cannot write to {folder} ({os.strerror(number)}): check its permissions or --workspace.")
    return None


# What came of it


def _refuse_nothing(targets: list[Target], images: Images) -> None:
    """A store without a single row is of no use: remove it, and say why."""
    if any(shard["rows"] for target in targets for shard in target.shards.values()):
        return
    first = read_records(targets[0].folder / targets[0].shards[0]["file"])[0]
    for target in targets:
        (target.folder / "manifest.json").unlink()
        for shard in target.shards.values():
            (target.folder / shard["file"]).unlink()
    raise UserError(
        f"None of the {len(images)} images of {images.spec} can be read ({first['path']}: {first['broken']}): "
        "check --images."
    )


def _summary(settings: ExtractSettings, targets: list[Target], extracted: int) -> dict[str, Any]:
    stores = []
    for target in targets:
        manifest = read_json(target.folder / "manifest.json")
        stores.append(
            {
                "name": target.folder.name,
                "path": str(target.folder),
                "hook": str(target.hook),
                "rows": manifest["rows"],
                "d": target.d,
                "shards": len(manifest["shards"]),
            }
        )
    broken = {image["path"]: image["broken"] for image in manifest["images"] if "broken" in image}
    return {
        "name": settings.name,
        "images": len(manifest["images"]) - len(broken),
        "broken": broken,
        "rows": sum(store["rows"] for store in stores),
        "extracted_now": extracted,
        "stores": stores,
    }
