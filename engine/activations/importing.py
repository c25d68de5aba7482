"""Activations of other tools into the workspace: what their files hold, what they do not say, whose images they are."""

import itertools
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import numpy as np

from engine.activations.asked import globbed
from engine.activations.convert import FORMATS, Parts, PartsFormat
from engine.activations.exporting import SAID
from engine.activations.imported_rows import StoreImport
from engine.activations.manifest import FILE, ImportedFrom, ImportedPart, Listed, Manifest, Model, read_manifest
from engine.activations.results import READS, Question, RecognisedRows, StoreImported
from engine.activations.shards import STORED
from engine.activations.store import Store
from engine.activations.target import tidy
from engine.config import ImportSettings, RecogniseSettings, Transparency
from engine.errors import Stopped, UserError, counted, system_mistake
from engine.files import lock, nearest, read_json
from engine.images import Images, open_images
from engine.links import check_own
from engine.models.hookpoints import HookPoint, TokenPolicy
from engine.models.hub import check_is_notation
from engine.reporter import Reporter, StageBegan
from engine.settings import command_line
from engine.workspace import Provenance, Source, Workspace, versions

S = TypeVar("S", bound=RecogniseSettings)
SHARD_BYTES = 256 << 20
"""Of the rows of a shard, about: what an interruption costs at most."""
OPTIONS = {"arch": "auto", "k": 0, "threshold": -1.0, "scale": 0.0, "check": ""}
"""Settings of an import that are of SAEs alone, and what they are where they are not given."""


def find_parts(source: str, format: str = "") -> tuple[PartsFormat, Path, Sequence[Path]] | None:
    """The format of the activations in ``source`` (a folder, file or glob), and their files; None where there are none.

    UserError where several formats fit.
    """
    place, given = globbed(source)
    fits = []
    for form in FORMATS.values():
        if format in ("", form.NAME):
            files = _of(form, given) if given else form.find(place)
            if files and (format or place.is_file() or form.holds(files)):
                fits.append((form, place, files))
    if len(fits) > 1:
        names = " and ".join(form.NAME for form, _, _ in fits)
        raise UserError(f"{place} holds {names}: say which is meant by --format.")
    return fits[0] if fits else None


def _found(settings: RecogniseSettings) -> tuple[PartsFormat, Path, Sequence[Path]]:
    found = find_parts(settings.source, settings.format)
    if found is None:
        raise UserError(
            f"{settings.source} holds no activations of {settings.format or ', '.join(FORMATS)}: check the path."
        )
    return found


def recognise_activations(settings: RecogniseSettings, workspace: Workspace) -> RecognisedRows:
    """What activations are in ``settings.source``, and what an import would still ask. Writes nothing."""
    form, place, files = _found(settings)
    parts = form.read(place, files, settings)
    parts, settings = brought_back(parts, settings, files[0].parent)
    first, rows = parts.parts[0], sum(part.rows for part in parts.parts)
    return RecognisedRows(
        format=form.NAME,
        place=str(place),
        parts=len(files),
        rows=rows,
        d=first.d,
        dtype=first.dtype,
        model=parts.model,
        hook=parts.hook,
        tokens=parts.tokens,
        questions=questions(parts, settings),
        bytes=rows * (first.d * STORED[first.dtype].itemsize + 8),
        free=shutil.disk_usage(nearest(workspace.root)).free,
        notes=parts.notes,
    )


def import_activations(
    settings: ImportSettings, workspace: Workspace, reporter: Reporter | None = None
) -> StoreImported:
    """Write the activations in ``settings.source`` into a store of the workspace, under ``settings.name``.

    The same settings continue an import that was interrupted, and find a finished one. UserError for files that cannot
    be read, for what they do not say and no setting says, and where the name is taken by another store.
    """
    reporter = reporter or Reporter()
    for name, unasked in OPTIONS.items():
        if getattr(settings, name) != unasked:
            raise UserError(f"{settings.source} holds activations: --{name} is of SAEs; leave it out.")
    form, place, files = _found(settings)
    reporter.event(StageBegan("looking at the parts"))
    parts = form.read(place, files, settings)
    parts, settings = brought_back(parts, settings, files[0].parent)
    if asked := questions(parts, settings):
        words = ", ".join(one.words for one in asked)
        raise UserError(f"{place} does not say all that is to know of its activations: give {words}.")
    parts = replace(parts, **cast(Any, _said(parts, settings)))
    check_is_notation(parts.model)
    _check_series(files, settings)
    check_own(folder := workspace.activations(settings.name))
    images = open_images(settings.images, transparency=settings.transparency) if settings.images else None
    head = _manifest(parts, settings, form, place, images)
    with lock(folder):
        try:
            made = StoreImport(folder, head, parts.parts, images, reporter).run()
        except Stopped as stopped:
            kept = read_manifest(folder).rows if (folder / FILE).exists() else 0
            raise Stopped(f"{counted(kept, 'row')} are kept" if kept else "") from stopped
        except OSError as error:
            error.filename = error.filename or str(folder)
            if sentence := system_mistake(error):
                raise UserError(sentence) from error
            raise
        finally:
            tidy(folder)
    store = Store.open(folder)
    return StoreImported(
        path=str(folder),
        format=form.NAME,
        parts=len(parts.parts),
        rows=store.rows,
        d=store.d,
        dtype=store.dtype,
        images=store.manifest.source.images,
        model=store.manifest.model.spec,
        hook=store.manifest.hook,
        tokens=store.manifest.tokens,
        notes=(*parts.notes, *_notes(parts, images)),
        imported_now=made,
    )


def questions(parts: Parts, settings: RecogniseSettings) -> tuple[Question, ...]:
    """What neither the files nor the settings say. UserError for an answer that makes no sense."""
    said = _said(parts, settings)
    if said["hook"]:
        HookPoint.parse(said["hook"])
    if said["tokens"]:
        TokenPolicy.parse(said["tokens"])
    if settings.tokens_per_image < 0:
        raise UserError(f"--tokens-per-image is {settings.tokens_per_image}: give the rows of each image, above 0.")
    asked = [_question(name, parts) for name, value in said.items() if not value]
    if said["tokens"] and not (settings.images or parts.images or _tokens(parts, settings, said)):
        why = "or --images, of which they are"
        asked.append(Question("tokens-per-image", why=why))
    return tuple(asked)


def _question(name: str, parts: Parts) -> Question:
    likely = parts.likely.get(name)
    return Question(name, likely.value, likely.why) if likely else Question(name)


def _said(parts: Parts, settings: RecogniseSettings) -> dict[str, str]:
    return {name: getattr(settings, name) or getattr(parts, name) for name in READS}


def _tokens(parts: Parts, settings: RecogniseSettings, said: Mapping[str, str]) -> int:
    """Rows of an image, as far as settings, shapes or the choice of tokens say; else 0."""
    each = TokenPolicy.parse(said["tokens"]).rows_an_image(HookPoint.parse(said["hook"] or "layer:0")) or 0
    return settings.tokens_per_image or parts.parts[0].tokens or each


def brought_back(parts: Parts, settings: S, folder: Path) -> tuple[Parts, S]:
    """With what an export of ours left beside the files; settings that are given come before it."""
    if not (folder / SAID).is_file():
        return parts, settings
    said = read_json(folder / SAID, "remove it, and give --model, --hook and --tokens")
    said = said if isinstance(said, dict) else {}
    texts = {name: one for name in ("model", "hook", "tokens") if isinstance(one := said.get(name), str)}
    each, images = said.get("tokens_per_image"), said.get("images")
    if not settings.tokens_per_image and type(each) is int and each > 0:
        settings = replace(settings, tokens_per_image=each)
    if not settings.images and isinstance(images, dict) and isinstance(spec := images.get("spec"), str):
        if _are_there(spec, images):
            settings = replace(settings, images=spec, transparency=images["transparency"])
        else:
            note = f"It is of {spec}, which is not here, or has changed: give --images to attach them."
            parts = replace(parts, notes=(*parts.notes, note))
    return replace(parts, **cast(Any, texts)), settings


def _are_there(spec: str, images: Mapping[str, Any]) -> bool:
    """Whether the images that a store was of can be opened, and are the same."""
    if images.get("transparency") not in get_args(Transparency):
        return False
    try:
        found = open_images(spec, transparency=images["transparency"])
        return images.get("sha256") in (found.listed_sha256, found.sha256)  # stores once named the first
    except UserError:
        return False


def _of(form: PartsFormat, given: Sequence[Path]) -> list[Path]:
    from engine.activations.convert.format import in_order

    return in_order([one for one in given if form.find(one)])


def _check_series(files: Sequence[Path], settings: ImportSettings) -> None:
    """UserError where a part is missing between others, and the rows are to be those of images."""
    numbers = [int(found[-1]) for file in files if (found := re.findall(r"\d{1,18}", file.stem))]
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    if settings.images and len(numbers) == len(files) and len(steps) > 1:
        at = next(n for n, (a, b) in enumerate(itertools.pairwise(numbers)) if b - a > min(steps))
        raise UserError(
            f"Parts are missing between {files[at].name} and {files[at + 1].name}, so rows would go to other images: "
            "copy these too, or leave --images out."
        )


def _tokens_an_image(parts: Parts, settings: ImportSettings, images: Images | None, place: Path) -> int:
    """Rows of each image. UserError where it is not known, or does not fit."""
    rows = sum(part.rows for part in parts.parts)
    each = TokenPolicy.parse(parts.tokens).rows_an_image(HookPoint.parse(parts.hook)) or 0
    said = _tokens(parts, settings, {"hook": parts.hook, "tokens": parts.tokens})
    of = len(images) if images else parts.images
    if each and said != each:
        raise UserError(f"{place} has {counted(said, 'row')} an image, and --tokens {parts.tokens} means {each:,}.")
    if of:
        if rows % of or (said and rows != said * of):
            needed = f"{counted(said, 'row')} of each" if said else "a multiple of them"
            listed = f"{settings.images} lists" if images else "it is of"
            raise UserError(
                f"{place} has {counted(rows, 'row')}, and {listed} {counted(of, 'image')}: {needed} is needed."
            )
        return rows // of
    if rows % said:
        raise UserError(f"{place} has {counted(rows, 'row')}, which is no multiple of {said:,} an image: check it.")
    return said


def _manifest(
    parts: Parts, settings: ImportSettings, form: PartsFormat, place: Path, images: Images | None
) -> Manifest:
    first, each = parts.parts[0], _tokens_an_image(parts, settings, images, place)
    rows = sum(part.rows for part in parts.parts)
    a_shard = max(1, SHARD_BYTES // (each * first.d * STORED[first.dtype].itemsize))
    origin = ImportedFrom(
        format=form.NAME,
        place=str(Path(os.path.abspath(place))),
        parts=tuple(
            ImportedPart(os.path.relpath(part.path, place) if place.is_dir() else part.path.name, part.rows)
            for part in parts.parts
        ),
        tokens=each,
        notes=parts.notes,
    )
    sources = [Source("model", parts.model, parts.model, "")]
    sources += [Source("images", images.spec, images.spec, "")] if images else []
    sources += [Source("file", place.name, origin.place, "")]
    return Manifest(
        model=Model(parts.model),
        hook=parts.hook,
        tokens=parts.tokens,
        transparency=settings.transparency,
        dtype=first.dtype,
        shard_images=a_shard,
        d=first.d,
        source=Listed(images.spec, len(images), left_out=images.left_out) if images else Listed(),
        command=command_line("import", replace(settings, source=os.path.abspath(os.path.expanduser(settings.source)))),
        provenance=Provenance(tuple(sources), versions()),
        origin=origin,
        rows=rows,
        complete=False,
        shards=(),
    )


def _notes(parts: Parts, images: Images | None) -> list[str]:
    notes = []
    if parts.parts[0].stored == np.float64:
        notes.append("Its values are float64: they are rounded to float32.")
    if images is None:
        notes.append("Without --images it can be trained and encoded; its latents are scored on images.")
    return notes
