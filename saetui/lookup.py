"""What Steer looks up on the disk, latents, images and recipes: for threads, as each function reads files. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from engine.config import SteerSettings
from engine.errors import UserError
from engine.images import open_image, open_images, thumbnail
from engine.images.opening import IN
from engine.sae.config import WEIGHTS
from engine.steer.interventions import parse_latents
from engine.steer.recipes import load_recipe, save_recipe, with_recipe
from engine.workspace import Workspace, file_sha256
from saetui.steering import Setup

if TYPE_CHECKING:
    from engine.evaluate.neurons import Neurons

SIDE = 256  # pixels of a picture that is shown: more than there are cells for


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
        source = _scored(neurons)
        return [f"{source}{IN}{top['path']}" for top in neurons.top(latent)]


def sources(workspace: Workspace, neurons: str) -> list[str]:
    """Image sources of the workspace: what was scored, its default, and its own folders; each once."""
    from engine.evaluate.neurons import Neurons

    found = []
    if neurons:
        with Neurons.open(neurons) as opened:
            found.append(_scored(opened))
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


def picture(image: str, side: int = SIDE) -> tuple[UInt8[ndarray, "height width 3"], str]:
    """A copy of ``image`` (as for ``open_image``) of ``side`` pixels at most, and its name and size in words.

    UserError as there.
    """
    opened = open_image(image)
    if isinstance(opened, Image.Image):
        name = image.rpartition(IN)[2] if IN in image else Path(image).name
        return np.asarray(thumbnail(opened, side)), f"{name}  {opened.width} x {opened.height}"
    colour = np.array(opened, np.uint8)
    return np.broadcast_to(colour, (side, side, 3)), image.replace(":", " ")


def keep_recipe(workspace: Workspace, setup: Setup, name: str) -> Path:
    """Save ``setup`` as the recipe ``name``, with the content hash of its SAE. UserError as ``save_recipe``."""
    folder = workspace.existing("saes", setup.sae)
    path = folder.relative_to(workspace.root) if folder.is_relative_to(workspace.root) else folder
    source = {"kind": "sae", "name": folder.name, "path": str(path), "sha256": file_sha256(folder / WEIGHTS)}
    return save_recipe(workspace, setup.settings(save_recipe=name), [source])


def recipes(workspace: Workspace) -> list[str]:
    """Names of the recipes of the workspace."""
    return sorted(path.stem for path in (workspace.root / "recipes").glob("*.toml"))


def open_recipe(workspace: Workspace, name: str) -> tuple[Setup, str]:
    """The setup of a recipe, and a warning (or nothing) when its SAE is no longer the one that it was saved with."""
    settings = with_recipe(workspace, SteerSettings(recipe=name))
    folder = workspace.existing("saes", settings.sae)
    neurons = neurons_of(workspace, folder.name)
    latents = [value.latent for value in parse_latents(settings.latent, settings.mode)]
    setup = Setup.from_settings(settings, neurons, describe(neurons, latents) if neurons else {})
    kept = [s.get("sha256") for s in load_recipe(workspace, name).get("made_from", []) if s.get("kind") == "sae"]
    if kept and file_sha256(folder / WEIGHTS) not in kept:
        return setup, f"The SAE {folder.name} is not the one that the recipe was saved with: answers may differ."
    return setup, ""


def _scored(neurons: Neurons) -> str:
    """The image source that was scored."""
    return placed(str(neurons.summary["settings"]["images"]), neurons.path.parent.parent)


def placed(source: str, root: Path) -> str:
    """A source as it was written down, which may be from within the workspace ``root``, from anywhere."""
    inside = root / Path(source).expanduser()
    return str(inside if inside.exists() else Path(source).expanduser().absolute())


def _labels(neurons: Path) -> dict[int, str]:
    """What a person calls latents of that SAE; nothing when that cannot be read: the neurons pane says why."""
    from engine.labels import Labels

    sae = neurons.name.partition("--")[0]
    try:
        return Labels.open(Workspace(neurons.parent.parent).labels(sae)).texts
    except UserError:
        return {}
