"""saev's shards (Stevens et al.): ``metadata.json``, ``shards.json`` and ``acts000000.bin`` ..., float32 of shape
(images, layers, tokens, d), CLS first where it is kept. Its names of things have changed three times."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.activations.convert.format import (
    Likely,
    Part,
    Parts,
    WritableFormat,
    WrittenRows,
    in_order,
    joined,
    number_of_layer,
    register,
    slices,
)
from engine.activations.store import Store
from engine.config import RecogniseSettings
from engine.errors import UserError, counted
from engine.files import read_json
from engine.models.hookpoints import HookPoint

METADATA, SHARDS = "metadata.json", "shards.json"
AGAIN = "copy it again"
BUDGET = 2_400_000
"""Rows of a shard, about, as theirs."""


@register
class SaevShards(WritableFormat):
    NAME = "saev"

    def find(self, path: Path) -> Sequence[Path]:
        if not (path / METADATA).is_file():
            return []
        return in_order(list(path.glob("acts[0-9]*.bin")))

    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        head = _head(path / METADATA)
        at = head.at(settings.hook, path)
        parts, left = [], head.images
        for file, images in zip(files, _counts(path, head, len(files)), strict=True):
            parts.append(_part(file, images, head, at))
            left -= images
        if left:
            raise UserError(f"{path} has {counted(left, 'image')} fewer than its {METADATA} says: {AGAIN}.")
        likely = {"model": Likely(model, f"its {METADATA} says {head.ckpt}")} if (model := _model(head)) else {}
        return Parts(
            parts=joined(parts, path),
            hook=f"layer:{head.layers[at]}",
            tokens=head.policy,
            likely=likely,
            images=head.images,
        )

    def write(self, store: Store, folder: Path, tick: Callable[[int], None]) -> WrittenRows:
        manifest = store.manifest
        layer = number_of_layer(manifest.hook, "saev")
        tokens = _tokens_of(store)
        cls = manifest.tokens in ("all", "cls")
        if manifest.tokens not in ("all", "cls", "patches") or manifest.n_prefix > 1:
            raise UserError(f"saev holds all tokens, patches or CLS, not {manifest.tokens} of this encoder.")
        images, shard = store.rows // tokens, max(1, BUDGET // tokens)
        metadata = {
            "family": _family(manifest.model.spec),
            "ckpt": manifest.model.spec.partition(":")[2] or manifest.model.spec,
            "layers": [layer],
            "content_tokens_per_example": tokens - cls,
            "cls_token": cls,
            "d_model": store.d,
            "n_examples": images,
            "max_tokens_per_shard": shard * tokens,
            "data": "",
            "dataset": manifest.source.spec,
            "pixel_agg": None,
            "dtype": "float32",
            "protocol": "2.1",
        }
        said = json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        home = folder / "saev" / "shards" / hashlib.sha256(said.encode()).hexdigest()  # the path that it asks for
        home.mkdir(parents=True)
        counts = [min(shard, images - first) for first in range(0, images, shard)]
        names = [f"acts{number:06d}.bin" for number in range(len(counts))]
        done = 0
        for name, count in zip(names, counts, strict=True):
            with open(home / name, "wb") as file:
                for piece in _read(store, done, done + count * tokens):
                    file.write(piece.data)
                    done += len(piece)
                    tick(done)
                file.truncate(shard * tokens * store.d * 4)  # all are as long: so its readers map them
        listed = [{"name": name, "n_examples": count} for name, count in zip(names, counts, strict=True)]
        (home / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False))
        (home / SHARDS).write_text(json.dumps(listed, indent=2))
        lost = ["how its images are read again: data is empty"]
        if store.dtype != "float32":
            lost.append(f"{store.dtype}: the values are kept, as float32")
        inside = home.relative_to(folder)
        return WrittenRows(tuple(str(inside / name) for name in (METADATA, SHARDS, *names)), tuple(lost))


@dataclass(frozen=True)
class _Head:
    """What metadata.json says, by one set of names."""

    ckpt: str
    layers: list[int]
    tokens: int
    cls: bool
    d: int
    images: int
    most: int
    """Rows of a shard at most, those of all layers together."""

    @property
    def policy(self) -> str:
        if not self.cls:
            return "patches"
        return "all" if self.tokens > 1 else "cls"

    @property
    def shard(self) -> int:
        """Images of a shard, but perhaps the last."""
        return self.most // (self.tokens * len(self.layers))

    def at(self, hook: str, path: Path) -> int:
        """Which of the layers ``hook`` is; the only one where none is said."""
        if not hook and len(self.layers) == 1:
            return 0
        point = HookPoint.parse(hook) if hook else None
        if point is None or point.kind != "layer" or point.index not in self.layers:
            held = " or ".join(f"--hook layer:{layer}" for layer in self.layers)
            raise UserError(f"{path} holds {counted(len(self.layers), 'layer')}: give {held}.")
        return self.layers.index(point.index)


def _head(path: Path) -> _Head:
    said = read_json(path, AGAIN)
    if not isinstance(said, dict):
        raise UserError(f"{path} holds no JSON object: {AGAIN}.")
    find = partial(_first, said, path)
    layers, cls = said.get("layers"), said.get("cls_token")
    if not isinstance(layers, list) or not layers or any(type(one) is not int or one < 0 for one in layers):
        raise UserError(f"{path} lists no layers: {AGAIN}.")
    if said.get("dtype", "float32") != "float32" or not isinstance(cls, bool):
        raise UserError(f"{path} is of a version of saev that is not read here: float32 and cls_token are needed.")
    head = _Head(
        str(said.get("ckpt", said.get("vit_ckpt", ""))),
        layers,
        find("content_tokens_per_example", "patches_per_ex", "n_patches_per_img") + cls,
        cls,
        find("d_model", "d_vit"),
        find("n_examples", "n_ex", "n_imgs"),
        find("max_tokens_per_shard", "patches_per_shard", "max_patches_per_shard", "n_patches_per_shard"),
    )
    if min(head.tokens, head.d, head.images, head.shard) < 1:
        raise UserError(f"{path} counts what cannot be: {AGAIN}.")
    return head


def _first(said: dict[str, Any], path: Path, *names: str) -> int:
    found = next((said[name] for name in names if name in said), None)
    if type(found) is not int or not 0 <= found < 1 << 48:
        raise UserError(f"{path} says no whole number {names[0]}: {AGAIN}.")
    return found


def _counts(path: Path, head: _Head, files: int) -> list[int]:
    """Images of each shard: those that shards.json lists, where there is one."""
    whole = [max(0, min(head.shard, head.images - number * head.shard)) for number in range(files)]
    if not (path / SHARDS).is_file():
        return whole
    listed = read_json(path / SHARDS, AGAIN)
    try:
        counts = [one.get("n_examples", one.get("n_ex", one.get("n_imgs"))) for one in listed]
    except (AttributeError, TypeError):
        counts = []
    if len(counts) != files or any(type(one) is not int or not 0 < one <= head.shard for one in counts):
        raise UserError(f"{path / SHARDS} does not list the shards beside it: {AGAIN}.")
    return counts


def _part(file: Path, images: int, head: _Head, at: int) -> Part:
    shape = (images, len(head.layers), head.tokens, head.d)
    needed = int(np.prod(shape, dtype=np.int64)) * 4
    if file.stat().st_size < needed:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes instead of {needed:,}: {AGAIN}.")
    rows = images * head.tokens
    return Part(file, rows, head.d, np.dtype("<f4"), head.tokens, partial(_rows, file, shape, at))


def _rows(file: Path, shape: tuple[int, ...], at: int, first: int) -> Iterator[np.ndarray]:
    images, layers, tokens, d = shape
    mapped = np.memmap(file, "<f4", "r", shape=shape)
    if layers == 1:
        yield from slices(mapped.reshape(images * tokens, d), first)
        return
    for image in range(first // tokens, images):
        yield mapped[image, at][max(0, first - image * tokens) :]


def _model(head: _Head) -> str:
    if head.ckpt.startswith("hf-hub:"):
        return f"hf:{head.ckpt.removeprefix('hf-hub:')}"
    return f"openclip:{head.ckpt}" if head.ckpt.count("/") == 1 else ""


def _family(spec: str) -> str:
    return next((family for family in ("siglip", "dinov3", "dinov2") if family in spec.lower()), "clip")


def _tokens_of(store: Store) -> int:
    """Rows of each image. UserError where they differ from image to image."""
    numbers, counts = np.unique(store.image, return_counts=True)
    if not len(numbers) or (counts != counts[0]).any():
        raise UserError(f"{store.path} has images of different numbers of tokens, which saev cannot hold.")
    return int(counts[0])


def _read(store: Store, start: int, stop: int) -> Iterator[np.ndarray]:
    step = max(1, (16 << 20) // (4 * store.d))
    for first in range(start, stop, step):
        yield store.read(first, min(stop, first + step))
