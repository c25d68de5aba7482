"""What a workspace holds, at a glance: what the interface lists. Costs no torch, and never raises.

A store's manifest ends with its list of images, which may be hundreds of megabytes long; all else stands before it.
So a listing reads only the head of the file. (A short file beside it would have to be kept in step with it, and stores
made before would lack it.) What was read of a file is kept for as long as the file stays as it is.
"""

import contextlib
import fcntl
import glob
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.activations.manifest import _head
from engine.activations.store import FORMAT, VERSION
from engine.errors import UserError
from engine.files import Stamp, check_version, read_json, read_toml, stamp
from engine.neurons.file import Neurons
from engine.neurons.results import Summary
from engine.sae.config import CHECKPOINTS, CONFIG, TRAINING, WEIGHTS, read_config
from engine.sae.state import read_state
from engine.workspace import Workspace

Entry = dict[str, Any]

_UNREADABLE = (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


def inventory(workspace: Workspace) -> dict[str, list[Entry]]:
    """Every artefact of the workspace, by name: ``stores``, ``embeddings``, ``saes``, ``neurons``, ``recipes``, and the
    image ``sources`` that they and workspace.toml name.

    Each has ``name``, ``path``, ``when`` (seconds since the epoch of its last change) and

    - stores, embeddings: ``state`` (complete, writing, unfinished), ``images`` done ``of_images``, ``shards``,
      ``rows``, ``d``, ``bytes``, ``broken`` images (None where not known), ``tokens``, ``hook``, ``model``, ``dtype``,
      ``source``;
    - saes: ``state`` (complete, unfinished), ``arch``, ``k``, ``step`` and, once complete, ``d``, ``w``, ``model``,
      ``hook``, ``tokens``, ``activations``, ``result`` (of its training, or None), ``bytes``;
    - neurons: ``sae``, ``images`` (name of the set), ``of_images`` (how many), ``embed_with``, ``ms``, ``alive``;
    - recipes: ``settings``.

    A damaged one has ``error``, a sentence, instead of what could not be read. Sources: ``spec``, ``images`` (None
    where not known), ``exists``, ``used_by`` (names of stores and neurons files).
    """
    root = workspace.root
    found = {
        "stores": _entries(root / "activations", _is_folder, _store),
        "embeddings": _entries(root / "embeddings", _is_folder, _store),
        "saes": _entries(root / "saes", _is_folder, _sae),
        "neurons": _entries(root / "neurons", lambda p: p.suffix == ".h5", _neurons),
        "recipes": _entries(root / "recipes", lambda p: p.suffix == ".toml", _recipe),
    }
    return found | {"sources": _sources(workspace, found)}


def _entries(folder: Path, belongs: Callable[[Path], bool], read: Callable[[Path], Entry | None]) -> list[Entry]:
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and belongs(p))
    except OSError:
        return []
    return [entry for entry in (_entry(path, read) for path in paths) if entry is not None]


def _entry(path: Path, read: Callable[[Path], Entry | None]) -> Entry | None:
    about: Entry = {"name": path.stem if path.is_file() else path.name, "path": str(path), "when": _when(path)}
    try:
        facts = read(path)
    except _UNREADABLE as error:
        sentence = f"{path} is damaged ({type(error).__name__}: {error}): remove it and make it again."
        facts = {"error": str(error) if isinstance(error, UserError) else sentence}
    return None if facts is None else about | facts


def _is_folder(path: Path) -> bool:
    return path.is_dir()


def _store(folder: Path) -> Entry | None:
    path = folder / "manifest.json"
    locked = _locked(folder)
    if not path.is_file():
        if not locked:
            raise UserError(f"{folder} is no activation store (it has no manifest.json): remove it.")
        return {"state": "writing", "images": 0, "of_images": None, "shards": 0, "rows": 0, "bytes": 0}
    head = _head(path, stamp(path))
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise UserError(f"{path} is no manifest of an activation store: remove {folder}.")
    check_version(head.get("version"), VERSION, path)
    shards = head["shards"]
    _check_shards(folder, shards)
    state = "complete" if head["complete"] else "writing" if locked else "unfinished"
    facts = {name: head.get(name) for name in ("rows", "d", "broken", "tokens", "hook", "dtype")}
    source = head.get("source", {})
    return facts | {
        "state": state,
        "images": sum(shard["next_image"] - shard["first_image"] for shard in shards),
        "of_images": source.get("images"),
        "shards": len(shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "model": head["model"]["spec"],
        "source": source.get("spec"),
    }


def _check_shards(folder: Path, shards: list[Entry]) -> None:
    with os.scandir(folder) as files:
        sizes = {file.name: file.stat().st_size for file in files}
    for shard in shards:
        size = sizes.get(shard["file"])
        if size != shard["bytes"]:
            what = "is missing" if size is None else f"has {size:,} bytes instead of {shard['bytes']:,}"
            raise UserError(
                f"{folder / shard['file']} {what}: remove what is left of it and run the command that made the store "
                "again, which makes it anew."
            )


def _sae(folder: Path) -> Entry | None:
    if not (folder / CONFIG).is_file():
        checkpoint = _checkpoint(folder)
        if checkpoint is None:
            if (folder / WEIGHTS).is_file():
                raise UserError(f"{folder} has weights and no {CONFIG}: import it again.")
            return None
        step, identity = checkpoint["step"], checkpoint.get("identity", {})
        return {"state": "unfinished", "arch": identity.get("arch"), "k": identity.get("k"), "step": step}
    config = read_config(folder)
    facts = {name: getattr(config, name) for name in ("arch", "d", "w", "k", "model", "hook", "tokens")}
    training = read_json(folder / TRAINING) if (folder / TRAINING).is_file() else {}
    sources = config.provenance.get("made_from", [])
    result = training.get("result")
    return facts | {
        "state": "complete",
        "activations": next((one["name"] for one in sources if one.get("kind") == "activations"), None),
        "result": result,
        "step": result.get("steps") if result else None,
        "bytes": (folder / WEIGHTS).stat().st_size,
    }


def _checkpoint(folder: Path) -> Entry | None:
    return read_state(folder) if (folder / CHECKPOINTS).is_dir() else None


def _neurons(path: Path) -> Entry:
    summary = _summary(path, stamp(path))
    return {
        "sae": summary.sae,
        "images": path.stem.removeprefix(f"{summary.sae}--"),
        "of_images": summary.images,
        "embed_with": summary.embed_with,
        "ms": summary.ms.sae.mean,
        "alive": summary.alive,
        "source": summary.settings.images,
    }


@lru_cache(maxsize=1024)
def _summary(path: Path, stamp: Stamp | None) -> Summary:
    with Neurons.open(path) as neurons:
        return neurons.summary


def _recipe(path: Path) -> Entry:
    return {"settings": dict(read_toml(path)["settings"])}


def _sources(workspace: Workspace, found: dict[str, list[Entry]]) -> list[Entry]:
    """Image sources by spec, each once, with whoever uses them."""
    known: dict[str, Entry] = {}

    def add(spec: Any, images: int | None = None, user: str = "") -> None:
        if isinstance(spec, str) and spec:
            source = known.setdefault(spec, {"spec": spec, "images": None, "exists": _exists(spec), "used_by": []})
            source["images"] = images if source["images"] is None else max(source["images"], images or 0)
            source["used_by"] += [user] if user and user not in source["used_by"] else []

    for entry in [*found["stores"], *found["embeddings"]]:
        add(entry.get("source"), entry.get("of_images"), entry["name"])
    for entry in found["neurons"]:
        add(entry.get("source"), None, entry["name"])
    for spec in _asked(workspace):
        add(spec)
    return sorted(known.values(), key=lambda source: source["spec"])


def _asked(workspace: Workspace) -> Iterator[Any]:
    with contextlib.suppress(UserError):  # commands say so; a listing goes on
        yield workspace.defaults().get("images")
    with contextlib.suppress(OSError):
        yield from (str(p) for p in sorted((workspace.root / "images").iterdir()) if p.is_dir() and p.name[0] != ".")


def _exists(spec: str) -> bool:
    path = os.path.expanduser(spec)
    return os.path.exists(path) or bool(glob.glob(path))


def _locked(folder: Path) -> bool:
    """Whether some process is writing the artefact (see engine.workspace.lock)."""
    try:
        with open(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _when(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
