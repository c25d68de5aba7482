"""Any artefact of a workspace, described: what it is, what it came from, whether that is still what it was.

Costs no torch: the interface reads through it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.files import file_sha256, read_json, read_toml
from engine.images.opening import placed
from engine.neurons.latents import scored_images
from engine.records import to_json
from engine.workspace import Workspace

Description = dict[str, Any]


def describe(given: str, workspace: Workspace) -> Description:
    """The artefact at the path, or of the name, ``given``: ``kind``, ``name``, ``path``, facts about it and ``chain``.

    ``chain`` is the tree of sources by content hash: each has ``state`` unchanged, changed or missing, and its own
    sources under ``chain``.
    """
    path = find(given, workspace)
    kind = kind_of(path)
    facts, made_from = _READERS[kind](path)
    return {
        "kind": kind,
        "name": path.stem if path.is_file() else path.name,
        "path": str(path),
        **facts,
        "chain": [_source(one, workspace) for one in made_from],
    }


def find(given: str, workspace: Workspace) -> Path:
    """The artefact that ``given`` names: a path, or a name in the workspace that only one artefact has."""
    path = Path(given).expanduser()
    if path.exists():
        return path.resolve()
    places = [
        *(workspace.root / kind / given for kind in ("activations", "embeddings", "saes", "runs")),
        workspace.root / "neurons" / given,
        workspace.root / "neurons" / f"{given}.h5",
        workspace.root / "recipes" / f"{given}.toml",
    ]
    found = [place for place in places if place.exists()]
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(str(p.relative_to(workspace.root)) for p in found)
        raise UserError(f"{given!r} names several things: give one of the paths {shown}.")
    raise UserError(f"There is no artefact {given!r} in {workspace.root}: give a path, or a name as listed by ls.")


def kind_of(path: Path) -> str:
    """``activations``, ``sae``, ``neurons``, ``recipe`` or ``run``."""
    if (path / "manifest.json").is_file():
        return "activations"
    if (path / "config.json").is_file() or (path / "training.json").is_file():
        return "sae"
    if (path / "command.json").is_file():
        return "run"
    if path.suffix == ".h5":
        return "neurons"
    if path.suffix == ".toml" and path.parent.name == "recipes":
        return "recipe"
    raise UserError(f"{path} is no artefact of saetui: show takes stores, SAEs, neurons files, recipes and runs.")


def identity(path: Path) -> str:
    """The content hash by which other artefacts name this one."""
    kind = kind_of(path)
    if kind == "activations":
        from engine.activations.store import Store

        return Store.open(path).sha256
    return file_sha256(path / "sae.safetensors" if kind == "sae" else path)


def _source(source: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    """A source as it is now. A workspace that was moved is found by the name within it."""
    path = Path(source.get("path") or "")
    folders = {"activations": "activations", "embeddings": "embeddings", "sae": "saes", "saes": "saes"}
    here = workspace.root / folders.get(source.get("kind", ""), "") / source.get("name", "")
    place = next((p for p in (path, here) if source.get("name") and p.exists()), None)
    if place is None or source.get("kind") not in folders:
        return {**source, "state": "missing" if source.get("kind") in folders else "outside", "chain": []}
    try:
        state = "unchanged" if identity(place) == source["sha256"] else "changed"
        _, made_from = _READERS[kind_of(place)](place)
    except (UserError, OSError) as error:
        return {**source, "state": f"unreadable ({error})", "chain": []}
    return {**source, "state": state, "chain": [_source(one, workspace) for one in made_from]}


def _store(path: Path) -> tuple[Description, list[dict[str, Any]]]:
    from engine.activations.store import Store

    store = Store.open(path)
    manifest = store.manifest
    facts = {key: manifest.get(key) for key in ("model", "hook", "tokens", "dtype", "complete", "command")}
    broken = [image for image in manifest["images"] if image.get("broken")]
    size = sum(shard.stat().st_size for shard in path.glob("*.h5"))
    facts |= {"rows": store.rows, "d": store.d, "images": len(manifest["images"]), "broken": broken, "bytes": size}
    return facts | {"sha256": store.sha256}, manifest["provenance"]["made_from"]


def _sae(path: Path) -> tuple[Description, list[dict[str, Any]]]:
    from engine.sae.config import read_config

    config = read_config(path)
    names = ("arch", "d", "w", "k", "groups", "scale", "model", "hook", "tokens")
    facts: Description = {name: getattr(config, name) for name in names}
    training = read_json(path / "training.json") if (path / "training.json").is_file() else {}
    facts |= {"training": training.get("settings"), "result": training.get("result")}
    return facts | {"sha256": identity(path)}, config.provenance.get("made_from", [])


def _neurons(path: Path) -> tuple[Description, list[dict[str, Any]]]:
    from engine.neurons.file import Neurons

    neurons = Neurons.open(path)
    return {"summary": to_json(neurons.summary), "sha256": file_sha256(path)}, to_json(neurons.provenance.made_from)


def _recipe(path: Path) -> tuple[Description, list[dict[str, Any]]]:
    recipe = read_toml(path)
    return {"recipe": recipe, "sha256": file_sha256(path)}, recipe.get("made_from", [])


def _run(path: Path) -> tuple[Description, list[dict[str, Any]]]:
    from engine.runs.run import Run

    run = Run(path)
    return {"command": run.command, "status": run.status}, []


_READERS: dict[str, Callable[[Path], tuple[Description, list[dict[str, Any]]]]] = {
    "activations": _store,
    "sae": _sae,
    "neurons": _neurons,
    "recipe": _recipe,
    "run": _run,
}


def sources(workspace: Workspace, neurons: str) -> list[str]:
    """Image sources of the workspace: what was scored, its default, and its own folders; each once."""
    from engine.neurons.file import Neurons

    found = []
    if neurons:
        with Neurons.open(neurons) as opened:
            found.append(scored_images(opened))
    if default := workspace.defaults().get("images"):
        found.append(placed(str(default), workspace.root))
    folder = workspace.root / "images"
    if folder.is_dir():
        found += [str(child) for child in sorted(folder.iterdir()) if child.is_dir()]
    return list(dict.fromkeys(found))


def first_source(workspace: Workspace, neurons: str) -> str:
    """The first of ``sources``; UserError when there is none."""
    found = sources(workspace, neurons)
    if not found:
        raise UserError("This workspace has no images of its own: o opens a file, :source FOLDER steps through one.")
    return found[0]
