"""A store being made: what stands in its manifest, and which shards are finished."""

import dataclasses
import shlex
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.activations.manifest import FILE, Listed, Manifest, Model, manifest_head, write_manifest
from engine.activations.shards import ImageRecord, Shard, damaged, read_records
from engine.config import ExtractSettings, from_words
from engine.errors import UserError
from engine.images import Images
from engine.models import HookPoint
from engine.workspace import Provenance, Source, versions

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
    records: dict[int, list[ImageRecord]] = field(default_factory=dict)  # images of the shards of this run


def header(
    settings: ExtractSettings, images: Images, encoder: "VisionEncoder", hook: HookPoint, d: int, shard_images: int
) -> Manifest:
    """The manifest of a store of which nothing is there yet."""
    sources = (
        Source("model", encoder.spec, encoder.spec, encoder.sha256 or ""),
        Source("images", images.spec, images.spec, images.sha256),
    )
    return Manifest(
        model=Model(encoder.spec, encoder.family, encoder.revision, encoder.sha256),
        hook=str(hook),
        tokens=settings.tokens,
        seed=settings.seed,
        preprocessing=encoder.preprocessing,
        dtype=settings.dtype,
        precision=settings.precision,
        device=encoder.device.type,
        batch_size=settings.batch_size,
        shard_images=shard_images,
        d=d,
        n_prefix=encoder.n_prefix,
        grid=encoder.grid,
        source=Listed(images.spec, len(images), images.sha256),
        command=_command(settings),
        provenance=Provenance(sources, versions()),
        rows=0,
        complete=False,
        shards=(),
    )


def _command(settings: ExtractSettings) -> str:
    words = ["saetui", "extract"]
    for setting in dataclasses.fields(settings):
        value, flag = getattr(settings, setting.name), "--" + setting.name.replace("_", "-")
        if setting.default is MISSING or value != setting.default:
            if isinstance(value, bool):
                words.append(flag)
            else:
                for item in value if isinstance(value, tuple) else (value,):
                    words += [flag, str(item)]
    return shlex.join(words)


def settings_of(command: str, store: Path) -> ExtractSettings:
    """The settings of the ``command`` that made ``store``. UserError when its manifest does not tell it."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is not closed
        words = []
    if words[:2] != ["saetui", "extract"]:
        raise UserError(f"{store} does not say what command made it: start its extraction anew.")
    return from_words(ExtractSettings, words[2:], str(store))


def take_over(target: Target) -> None:
    """Know the finished shards of an earlier run of the same settings; UserError if they are not the same."""
    if not (target.folder / FILE).exists():
        return
    earlier = manifest_head(target.folder)
    _check_same(earlier, target)
    for shard in earlier.shards:
        file = target.folder / shard.file
        if not file.exists():
            continue
        size = file.stat().st_size
        if size != shard.bytes:
            raise damaged(file, f"{size} bytes instead of {shard.bytes}")
        target.shards[shard.first_image // target.header.shard_images] = shard


def _check_same(earlier: Manifest, target: Target) -> None:
    now = target.header
    names = ["hook", "dtype", "precision", "batch_size", "preprocessing", "d"]
    names += [] if target.hook.kind == "last" else ["tokens"]
    names += ["seed"] if now.tokens.startswith("random") else []
    names += [] if earlier.complete else ["device"]
    differences: list[str] = []
    for name in names:
        differences += _differences(name.replace("_", " "), getattr(earlier, name), getattr(now, name))
    was_model, model = earlier.model, now.model
    if was_model.sha256 != model.sha256 or (model.sha256 is None and was_model.spec != model.spec):
        differences.append(f"model {was_model.spec}, not {model.spec} (their weights differ)")
    was, source = earlier.source, now.source
    if was.sha256 != source.sha256:
        listed = f"{was.images} images of {was.spec}"
        differences.append(f"{listed}, not the {source.images} that are now in {source.spec}")
    if not differences and earlier.shard_images != now.shard_images:
        differences.append(f"shards of {earlier.shard_images} images, not {now.shard_images}")
    if differences:
        raise UserError(f"{target.folder} was made with {'; '.join(differences)}: give another --name.")


def _differences(name: str, before: object, now: object) -> list[str]:
    """What differs between two values, in words; of records, field by field."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [one for key in keys for one in _differences(f"{name} {key}", before.get(key), now.get(key))]
    return [] if before == now else [f"{name} {before}, not {now}"]


def write_progress(target: Target, images: int) -> None:
    """Replace the target's manifest: with the list of ``images``, and ``complete``, once no shard is missing.

    Until then the shards hold the records of their images, so that progress costs little to note.
    """
    shards: list[Shard] = []
    rows = 0
    for number in sorted(target.shards):
        shards.append(replace(target.shards[number], first_row=rows))
        rows += shards[-1].rows
    complete = len(shards) == -(-images // target.header.shard_images)
    records = [record for number in sorted(target.shards) for record in _records(target, number)] if complete else []
    broken = sum(record.broken is not None for record in records) if complete else None
    manifest = replace(target.header, rows=rows, complete=complete, shards=tuple(shards), broken=broken)
    write_manifest(target.folder, manifest, records)


def _records(target: Target, number: int) -> list[ImageRecord]:
    return target.records.get(number) or read_records(target.folder / target.shards[number].file)
