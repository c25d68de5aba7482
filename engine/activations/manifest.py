"""The manifest of a store: what was extracted from what, and what an interrupted extraction goes on from."""

import dataclasses
import json
import shlex
from dataclasses import MISSING, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.activations.shards import damaged, read_records
from engine.activations.store import FORMAT, VERSION
from engine.config import ExtractSettings
from engine.errors import UserError
from engine.files import Stamp, check_version, read_json, stamp, write_json
from engine.images import Images
from engine.models import HookPoint
from engine.workspace import provenance

if TYPE_CHECKING:
    from engine.models.encoder import VisionEncoder


@dataclass
class Target:
    """One store being made: a hook point's activations."""

    hook: HookPoint
    folder: Path
    d: int
    rows_an_image: int  # at most
    header: dict[str, Any]  # the manifest without what is only known in the end
    shards: dict[int, dict[str, Any]] = field(default_factory=dict)  # finished ones
    records: dict[int, list[dict[str, Any]]] = field(default_factory=dict)  # images of the shards of this run


def _header(
    settings: ExtractSettings, images: Images, encoder: "VisionEncoder", hook: HookPoint, d: int, shard_images: int
) -> dict[str, Any]:
    model = {"spec": encoder.spec, "family": encoder.family, "revision": encoder.revision, "sha256": encoder.sha256}
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "hook": str(hook),
        "tokens": settings.tokens,
        "seed": settings.seed,
        "preprocessing": encoder.preprocessing,
        "dtype": settings.dtype,
        "precision": settings.precision,
        "device": encoder.device.type,
        "batch_size": settings.batch_size,
        "shard_images": shard_images,
        "d": d,
        "n_prefix": encoder.n_prefix,
        "grid": list(encoder.grid) if encoder.grid else None,
        "source": {"spec": images.spec, "images": len(images), "sha256": images.sha256},
        "command": _command(settings),
        "provenance": provenance(
            made_from=[
                {"kind": "model", "name": encoder.spec, "path": encoder.spec, "sha256": encoder.sha256 or ""},
                {"kind": "images", "name": images.spec, "path": images.spec, "sha256": images.sha256},
            ]
        ),
    }


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


def take_over(target: Target) -> None:
    """Know the finished shards of an earlier run of the same settings; UserError if they are not the same."""
    path = target.folder / "manifest.json"
    if not path.exists():
        return
    earlier = read_json(path)
    if not isinstance(earlier, dict) or earlier.get("format") != FORMAT:
        raise UserError(f"{target.folder} holds something else than activations: give another --name.")
    check_version(earlier.get("version"), VERSION, path)
    _check_same(earlier, target)
    for shard in earlier["shards"]:
        file = target.folder / shard["file"]
        if not file.exists():
            continue
        size = file.stat().st_size
        if size != shard["bytes"]:
            raise damaged(file, f"{size} bytes instead of {shard['bytes']}")
        target.shards[shard["first_image"] // target.header["shard_images"]] = shard


def _check_same(earlier: dict[str, Any], target: Target) -> None:
    now = target.header
    names = ["hook", "dtype", "precision", "batch_size", "preprocessing", "d"]
    names += [] if target.hook.kind == "last" else ["tokens"]
    names += ["seed"] if now["tokens"].startswith("random") else []
    names += [] if earlier.get("complete") else ["device"]
    differences = [
        f"{name.replace('_', ' ')} {earlier.get(name)}, not {now[name]}"
        for name in names
        if earlier.get(name) != now[name]
    ]
    was_model, model = earlier.get("model", {}), now["model"]
    if was_model.get("sha256") != model["sha256"] or (
        model["sha256"] is None and was_model.get("spec") != model["spec"]
    ):
        differences.append(f"model {was_model.get('spec')}, not {model['spec']} (their weights differ)")
    was, source = earlier.get("source", {}), now["source"]
    if was.get("sha256") != source["sha256"]:
        listed = f"{was.get('images')} images of {was.get('spec')}"
        differences.append(f"{listed}, not the {source['images']} that are now in {source['spec']}")
    if not differences and earlier.get("shard_images") != now["shard_images"]:
        differences.append(f"shards of {earlier.get('shard_images')} images, not {now['shard_images']}")
    if differences:
        raise UserError(f"{target.folder} was made with {'; '.join(differences)}: give another --name.")


def write_manifest(target: Target, images: int) -> None:
    """Replace the target's manifest: with the list of images, and ``complete``, once no shard is missing.

    Until then the shards hold the records of their images, so that progress costs little to note.
    """
    order = sorted(target.shards)
    shards, rows = [], 0
    for number in order:
        shards.append(target.shards[number] | {"first_row": rows})
        rows += target.shards[number]["rows"]
    complete = len(order) == -(-images // target.header["shard_images"])
    records: list[dict[str, Any]] = []
    if complete:
        for number in order:
            file = target.folder / target.shards[number]["file"]
            records += target.records.get(number) or read_records(file)
    manifest = {**target.header, "rows": rows, "complete": complete, "shards": shards}
    if complete:
        manifest["broken"] = sum("broken" in record for record in records)
    manifest["images"] = records  # last: listings read no further than here
    write_json(target.folder / "manifest.json", manifest)


_IMAGES = b'\n "images": ['  # as write_json lays it out; a line break inside of a string would be escaped


_PIECE = 1 << 16


def manifest_head(folder: Path) -> dict[str, Any]:
    """The manifest of the store in ``folder`` without its list of images. UserError when it cannot be read."""
    path = folder / "manifest.json"
    try:
        found = _head(path, stamp(path))
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): make the store again.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no manifest of an activation store: remove {folder}.")
    return found


@lru_cache(maxsize=1024)
def _head(path: Path, stamp: Stamp | None) -> Any:
    """The manifest without its images. Read whole only where another program has laid it out anew."""
    data = bytearray()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            searched = max(0, len(data) - len(_IMAGES))
            data += piece
            end = data.find(_IMAGES, searched)
            if end >= 0:
                head = _parsed(bytes(data[:end]).rstrip(b",") + b"}")
                if "shards" in head:
                    return head
                break
    found = read_json(path)
    if isinstance(found, dict):
        images = found.pop("images", [])
        found.setdefault("broken", sum("broken" in image for image in images))
    return found


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
