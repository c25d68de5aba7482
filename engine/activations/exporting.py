"""The rows of a store in the formats of other tools."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from engine.activations.convert import FORMATS, WritableFormat
from engine.activations.results import StoreExported
from engine.activations.store import Store
from engine.config import ExportSettings
from engine.errors import UserError, counted
from engine.files import is_vacant, new_folder, no_room, path_of, write_json
from engine.reporter import Reporter, StageBegan, Warned

SAID = "saetui.json"
"""What an export leaves beside the rows, so that it comes back on import."""


def export_store(settings: ExportSettings, store: Store, reporter: Reporter | None = None) -> StoreExported:
    """Write a store into the folder ``settings.out``, in the format ``settings.to``."""
    reporter = reporter or Reporter()
    form = FORMATS.get(settings.to)
    if not isinstance(form, WritableFormat):
        writers = [one.NAME for one in FORMATS.values() if isinstance(one, WritableFormat)]
        raise UserError(f"{store.path} is an activation store: give --to {', '.join(writers)}.")
    store.check_filled()
    out = path_of(settings.out)
    if not is_vacant(out):
        raise UserError(f"{out} is there already: give --out a folder that is new or empty.")
    reporter.event(StageBegan("writing"))

    def tick(rows: int) -> None:
        reporter.progress(rows, store.rows, "rows")
        reporter.check()

    reporter.writes(out)
    with new_folder(out) as folder:
        if message := no_room(store.rows * store.d * 4, shutil.disk_usage(folder).free):
            reporter.event(Warned(message))
        written = form.write(store, folder, tick)
        kept, lost = _kept(store)
        home = (folder / written.files[0]).parent
        write_json(home / SAID, kept)
    files = (*written.files, str(Path(written.files[0]).parent / SAID))
    lost = (*written.lost, *lost)
    return StoreExported(out=str(out), format=form.NAME, rows=store.rows, files=files, lost=lost)


def _kept(store: Store) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What an export leaves beside the rows, and what is lost nevertheless."""
    manifest = store.manifest
    kept: dict[str, Any] = {"model": manifest.model.spec, "hook": manifest.hook, "tokens": manifest.tokens}
    counts = np.unique(np.unique(store.image, return_counts=True)[1])
    if len(counts) != 1:
        return kept, ("which rows are of which image: images have different numbers of tokens",)
    kept["tokens_per_image"] = int(counts[0])
    if manifest.source.images is None:
        return kept, ()
    if manifest.broken:
        return kept, (f"its images: {counted(manifest.broken, 'image')} of them could not be read",)
    source = manifest.source
    kept["images"] = {"spec": source.spec, "sha256": source.sha256, "transparency": manifest.transparency}
    return kept, ()
