"""Activation stores with given contents, written as by extraction."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.activations.manifest import FORMAT, LISTS_IMAGES, VERSION
from engine.activations.shards import STORED, ImageRecord, ShardWriter
from engine.activations.store import Store
from engine.files import write_json
from engine.records import to_json


def write_store(
    path: Path,
    x: np.ndarray,
    tokens: int = 1,
    dtype: str = "float32",
    shard_images: int = 10**9,
    paths: Sequence[str] = (),
    shows: Sequence[int] = (),
    **manifest: object,
) -> Store:
    """A store of ``x`` (images * tokens, d), with ``shard_images`` images per shard; ``version`` 1 lists them.

    ``shows``: numbers that stand for what the images hold, else 0, 1, ...
    """
    path.mkdir(parents=True)
    images = len(x) // tokens
    paths, shows = paths or [f"{i}.png" for i in range(images)], shows or range(images)
    image, token = np.repeat(np.arange(images), tokens), np.tile(np.arange(tokens), images)
    records = [ImageRecord(paths[i], 1, sha256=hashlib.sha256(b"%d" % shows[i]).hexdigest()) for i in range(images)]
    shards = []
    for first in range(0, images, shard_images):
        rows = slice(first * tokens, min(images, first + shard_images) * tokens)
        writer = ShardWriter(path / f"shard-{len(shards):05d}.h5", x.shape[1], dtype)
        writer.append(x[rows].astype(STORED[dtype]), image[rows], token[rows])
        shard = writer.commit(records[first : first + shard_images], first)
        shards.append(to_json(replace(shard, first_row=rows.start)))
    write_json(
        path / "manifest.json",
        {
            "format": FORMAT,
            "version": VERSION,
            "model": {"spec": "demo", "family": "clip", "revision": None, "sha256": "0" * 64},
            "hook": "layer:3",
            "tokens": "all",
            "dtype": dtype,
            "d": x.shape[1],
            "rows": len(x),
            "complete": True,
            "shards": shards,
            **manifest,
            **({"images": [record.to_json() for record in records]} if manifest.get("version") == LISTS_IMAGES else {}),
        },
    )
    return Store.open(path)
