"""A store being made: what stands in its manifest, and which shards are finished."""

import contextlib
import shlex
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.activations.asked import MadeOtherwise
from engine.activations.manifest import FILE, LISTS_IMAGES, Listed, Manifest, Model, read_manifest, write_manifest
from engine.activations.shards import ImageRecord, Shard, intact, read_records
from engine.config import ExtractSettings, ImportSettings
from engine.errors import UserError, counted
from engine.files import atomic_path
from engine.images import BrokenImage, ImageEntry, Images
from engine.images.sources import identity
from engine.models import HookPoint, same_model
from engine.reporter import Reporter, StageBegan, Warned
from engine.settings import command_line, from_words
from engine.workspace import Provenance, Source, store_names, versions

if TYPE_CHECKING:
    from engine.models.encoder import VisionEncoder


@dataclass
class Target:
    """One store being made: a hook point's activations."""

    hook: HookPoint
    folder: Path
    d: int
    rows_an_image: int  # at most
    header: Manifest  # without what is only known in the end
    shards: dict[int, Shard] = field(default_factory=dict)  # finished ones, by number


def header(
    settings: ExtractSettings, images: Images, encoder: "VisionEncoder", hook: HookPoint, d: int, shard_images: int
) -> Manifest:
    """The manifest of a store of which nothing is there yet: what its images hold is known when they have been read."""
    sources = (
        Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
        Source("images", images.spec, images.spec, ""),
    )
    return Manifest(
        model=Model(encoder.spec, encoder.family, encoder.revision, encoder.sha256),
        hook=str(hook),
        tokens=settings.tokens,
        seed=settings.seed,
        preprocessing=encoder.preprocessing,
        transparency=settings.transparency,
        dtype=settings.dtype,
        precision=settings.precision,
        device=encoder.device.type,
        batch_size=settings.batch_size,
        shard_images=shard_images,
        d=d,
        n_prefix=encoder.n_prefix,
        grid=encoder.grid,
        source=Listed(images.spec, len(images), left_out=images.left_out, crops=images.crops),
        command="" if images.crops else command_line("extract", settings),  # crops are made by what asks for them
        provenance=Provenance(sources, versions()),
        rows=0,
        complete=False,
        shards=(),
    )


def task_of(command: str, store: Path) -> tuple[str, ExtractSettings | ImportSettings]:
    """The task and the settings of the ``command`` that made ``store``. UserError when its manifest does not tell."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is not closed
        words = []
    if words[:2] == ["saetui", "extract"]:
        settings: ExtractSettings = from_words(ExtractSettings, words[2:], str(store))
        if store.name in store_names(settings.name, settings.at):  # else it would write another
            return "extract", settings
    if words[:2] == ["saetui", "import"]:
        brought: ImportSettings = from_words(ImportSettings, words[2:], str(store))
        if store.name == brought.name:
            return "import", brought
    raise UserError(f"{store} does not say what command made it: start its extraction or import anew.")


def take_over(target: Target, images: Images, reporter: Reporter) -> None:
    """Know the finished shards of an earlier run of the same settings; UserError if they are not the same.

    Those with broken images that can be read by now are left to be made anew.
    """
    if not (target.folder / FILE).exists():
        return
    earlier = read_manifest(target.folder)
    _check_same(earlier, target)
    if earlier.version == LISTS_IMAGES:  # its hash stays the same when a shard is made anew
        target.header = replace(earlier, rows=0, complete=False, shards=(), broken=None)
    for shard in earlier.shards:
        if (target.folder / shard.file).exists():
            intact(target.folder, shard)
            target.shards[shard.first_image // target.header.shard_images] = shard
    if not _is_of(earlier, images, reporter):
        _check_images(earlier, target, images, reporter)


def take_from(target: Target, others: Iterable[Path], images: Images, reporter: Reporter) -> None:
    """Where nothing of a store is there yet: copy the shards of the first of ``others`` that is finished, of the very
    same images, and made with the same settings. They are what would be made. Damaged ones are passed over."""
    if (target.folder / FILE).exists():
        return
    for other in others:
        shards = _same_shards(other, target, images, reporter)
        if shards:
            reporter.event(StageBegan(f"copying {other.name}, which holds the same"))
        for done, shard in enumerate(shards, 1):
            with atomic_path(target.folder / shard.file) as temporary:
                shutil.copyfile(other / shard.file, temporary)
            target.shards[shard.first_image // target.header.shard_images] = shard
            write_progress(target, len(images))
            reporter.progress(done, len(shards), "shards")
            reporter.check()
        if shards:
            return


def _same_shards(other: Path, target: Target, images: Images, reporter: Reporter) -> tuple[Shard, ...]:
    """Those of ``other``, whole as they are, where they are what would be made; else none."""
    with contextlib.suppress(UserError):
        head = read_manifest(other)
        _check_same(head, target)
        differences = () if _is_of(head, images, reporter) else _differences(other, head.shards, images, reporter)
        if head.complete and not any(differences):
            mended = [any(_mended(intact(other, shard).parent, shard, images)) for shard in head.shards]
            return () if any(mended) else head.shards
    return ()


def is_of(folder: Path, images: Images, reporter: Reporter) -> bool:
    """Whether a finished store of these very images is in ``folder``: paths, classes and contents."""
    if not (folder / FILE).exists():
        return False
    head = read_manifest(folder)
    if not head.complete or head.source.images != len(images):
        return False
    return _is_of(head, images, reporter) or not any(_differences(folder, head.shards, images, reporter))


def _is_of(head: Manifest, images: Images, reporter: Reporter) -> bool:
    """Whether the store is of these images by its identity alone, and there is nothing to try again."""
    if not head.complete or head.broken != 0:
        return False
    images.learn(reporter=reporter)
    return head.source.sha256 == images.sha256


def _check_images(earlier: Manifest, target: Target, images: Images, reporter: Reporter) -> None:
    shards = list(target.shards.values())
    for difference in _differences(target.folder, shards, images, reporter):
        raise _others(earlier, target, f" ({difference})")
    mended = {n: sum(_mended(target.folder, shard, images)) for n, shard in target.shards.items()}
    if count := sum(mended.values()):
        reporter.event(Warned(f"Made anew: the shards of {counted(count, 'image')} that could not be read before."))
    target.shards = {n: shard for n, shard in target.shards.items() if not mended[n]}


def _differences(folder: Path, shards: Iterable[Shard], images: Images, reporter: Reporter) -> Iterator[str]:
    """What is another image now, or of another class, than those of which the shards are; a phrase each."""
    for shard in shards:
        numbers = range(shard.first_image, shard.next_image)
        images.learn(numbers, reporter)
        for number, record in zip(numbers, read_records(intact(folder, shard)), strict=True):
            if words := _difference(record, images.entries[number], images.content(number)):
                yield words


def _difference(record: ImageRecord, entry: ImageEntry, content: str | None) -> str | None:
    if record.path != entry.path:
        return f"{entry.path} is where {record.path} was"
    if record.label != entry.label:
        return f"the class of {entry.path} is {entry.label or 'none'}, not {record.label or 'none'}"
    if record.taxonomy != entry.taxonomy:
        return f"the taxonomy of {entry.path} is {'/'.join(entry.taxonomy) or 'none'}"
    if record.broken is None and record.sha256 != content:  # of a broken one there is nothing in the store
        return f"{entry.path} " + ("has other content" if content else "cannot be read")
    return None


def _mended(folder: Path, shard: Shard, images: Images) -> Iterator[bool]:
    """For each broken image of the shard, whether it can be read by now."""
    for number, record in enumerate(read_records(intact(folder, shard)), shard.first_image):
        if record.broken is not None:
            try:
                images.load(number)
                yield True
            except BrokenImage:
                yield False


def _check_same(earlier: Manifest, target: Target) -> None:
    now = target.header
    names = ["hook", "dtype", "precision", "batch_size", "preprocessing", "transparency", "d"]
    names += [] if target.hook.pooled else ["tokens"]
    names += ["seed"] if now.tokens.startswith("random") else []
    names += [] if earlier.complete else ["device"]
    differences: list[str] = []
    for name in names:
        differences += _differing(name.replace("_", " "), getattr(earlier, name), getattr(now, name))
    was_model, model = earlier.model, now.model
    if not same_model(was_model.sha256, model.sha256) or (model.sha256 is None and was_model.spec != model.spec):
        differences.append(f"model {was_model.spec}, not {model.spec} (their weights or configurations differ)")
    if earlier.source.images != now.source.images:
        differences.append(_counts(earlier, target))
    if not differences and earlier.shard_images != now.shard_images:
        differences.append(f"shards of {counted(earlier.shard_images, 'image')}, not {now.shard_images}")
    if differences:
        raise MadeOtherwise(target.folder, "; ".join(differences))


def _differing(name: str, before: object, now: object) -> list[str]:
    """What differs between two values, in words; of records, field by field."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [one for key in keys for one in _differing(f"{name} {key}", before.get(key), now.get(key))]
    return [] if before == now else [f"{name} {before}, not {now}"]


def _counts(earlier: Manifest, target: Target) -> str:
    was, now = earlier.source, target.header.source
    return f"{counted(was.images or 0, 'image')} of {was.spec}, not the {now.images} that are now in {now.spec}"


def _others(earlier: Manifest, target: Target, why: str) -> UserError:
    return MadeOtherwise(target.folder, f"{_counts(earlier, target)}{why}")


def tidy(folder: Path) -> None:
    """Leave no trace of a store of which nothing was finished."""
    with contextlib.suppress(OSError):
        if not (folder / FILE).exists() and {p.name for p in folder.iterdir()} <= {".lock"}:
            (folder / ".lock").unlink()
            folder.rmdir()


def write_progress(target: Target, images: int) -> None:
    """Replace the target's manifest: ``complete`` once the shards hold all of its ``images``."""
    shards: list[Shard] = []
    rows = 0
    for number in sorted(target.shards):
        shards.append(replace(target.shards[number], first_row=rows))
        rows += shards[-1].rows
    complete = len(shards) == -(-images // target.header.shard_images)
    manifest = replace(target.header, rows=rows, complete=complete, shards=tuple(shards))
    if manifest.version == LISTS_IMAGES:
        _write_listing(target, manifest)
    elif complete:
        broken = sum(shard.broken or 0 for shard in shards)
        write_manifest(target.folder, replace(_with_identity(manifest, _records(target)), broken=broken))
    else:
        write_manifest(target.folder, manifest)


def _with_identity(manifest: Manifest, records: Iterable[ImageRecord]) -> Manifest:
    sha256 = identity((one.path, one.label, one.taxonomy, one.sha256) for one in records)
    made_from = (replace(one, sha256=sha256) if one.kind == "images" else one for one in manifest.provenance.made_from)
    return replace(
        manifest,
        source=replace(manifest.source, sha256=sha256),
        provenance=replace(manifest.provenance, made_from=tuple(made_from)),
    )


def _write_listing(target: Target, manifest: Manifest) -> None:
    """A manifest of version 1: it lists all images once it is complete, and shards do not count broken ones."""
    records = list(_records(target)) if manifest.complete else []
    broken = sum(record.broken is not None for record in records) if manifest.complete else None
    shards = tuple(replace(shard, broken=None) for shard in manifest.shards)
    write_manifest(target.folder, replace(manifest, shards=shards, broken=broken), records)


def _records(target: Target) -> Iterator[ImageRecord]:
    """Of all finished shards, in order."""
    for number in sorted(target.shards):
        yield from read_records(intact(target.folder, target.shards[number]))
