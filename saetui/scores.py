"""What Steer looks up about latents and images: each function opens a file, so they are for threads. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from engine.errors import UserError
from engine.images import open_images
from engine.images.opening import IN
from engine.workspace import Workspace


class Found(NamedTuple):
    """A latent that was looked for."""

    latent: int
    name: str
    maximum: float


def describe(path: str, latents: Iterable[int]) -> dict[int, tuple[str, float]]:
    """Name and largest activation of those of ``latents`` that the neurons file has; a person's label is the name.

    UserError for a file that is missing or damaged.
    """
    from engine.evaluate.neurons import Neurons

    labels = _labels(Path(path))
    with Neurons.open(path) as neurons:
        return {
            n: (labels.get(n) or " · ".join(neurons.names_of(n)[:2]), float(neurons.maximum[n]))
            for n in latents
            if 0 <= n < neurons.w
        }


def search(path: str, text: str, limit: int = 50) -> list[Found]:
    """Latents that ``text`` (a number, a name, a label) finds, the best match first. UserError as ``describe``."""
    from engine.evaluate.neurons import Neurons

    with Neurons.open(path) as neurons:
        found = neurons.order(search=text, labels=_labels(Path(path)))[:limit]
    known = describe(path, found)
    return [Found(latent, *known[latent]) for latent in found]


def top_images(path: str, latent: int) -> list[str]:
    """The images on which ``latent`` fires most, as ``open_image`` takes them. UserError as ``describe``."""
    from engine.evaluate.neurons import Neurons

    with Neurons.open(path) as neurons:
        origin = source_of(neurons.provenance)
        return [f"{origin}{IN}{top['path']}" for top in neurons.top(latent)]


def source_of(provenance: dict) -> str:
    """The image source that was scored; UserError when the file does not say."""
    for source in provenance.get("made_from", []):
        if source.get("kind") == "images":
            return str(Path(source["path"]).expanduser().absolute())
    raise UserError("The scores do not say which images they are of: score again (saetui score).")


def sources(workspace: Workspace, neurons: str) -> list[str]:
    """Image sources of the workspace: what was scored, its default, and its own folders; each once."""
    from engine.evaluate.neurons import Neurons

    found = []
    if neurons:
        with Neurons.open(neurons) as opened:
            found.append(source_of(opened.provenance))
    if default := workspace.defaults().get("images"):
        found.append(str((workspace.root / Path(str(default)).expanduser()).absolute()))
    folder = workspace.root / "images"
    if folder.is_dir():
        found += [str(child) for child in sorted(folder.iterdir()) if child.is_dir()]
    return list(dict.fromkeys(found))


def listing(source: str) -> list[str]:
    """Every image of ``source``, as ``open_image`` takes them. UserError when there is none."""
    return [f"{source}{IN}{entry.path}" for entry in open_images(source).entries]


def neurons_of(workspace: Workspace, sae: str) -> str:
    """Path of the newest scores of ``sae``, empty when it has none."""
    found = sorted((workspace.root / "neurons").glob(f"{sae}--*.h5"), key=lambda p: p.stat().st_mtime)
    return str(found[-1]) if found else ""


def saes(workspace: Workspace) -> list[str]:
    """Names of the SAEs of the workspace, those that have scores first."""
    folder = workspace.root / "saes"
    names = sorted(p.name for p in folder.iterdir() if (p / "config.json").is_file()) if folder.is_dir() else []
    return sorted(names, key=lambda name: not neurons_of(workspace, name))


def _labels(neurons: Path) -> dict[int, str]:
    """What a person calls latents of that SAE; nothing when that cannot be read: the neurons pane says why."""
    from engine.labels import Labels

    sae = neurons.name.partition("--")[0]
    try:
        return Labels.open(Workspace(neurons.parent.parent).labels(sae)).texts
    except UserError:
        return {}
