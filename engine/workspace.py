"""The directory a user works in: names, paths, listings of files, provenance."""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.config import (
    PLACES,
    ConceptsSettings,
    FidelitySettings,
    ScoreSettings,
    StabilitySettings,
    SteerabilitySettings,
)
from engine.errors import UserError
from engine.files import path_of, read_text, read_toml, to_toml, value_sha256, write_text
from engine.kinds import NEURONS, RECIPES
from engine.places import changed_values, located_text, recorded_text

MARKER = "workspace.toml"
FIGURES = "figures"
"""The folder of the workspace into which plans draw: what is there of the name is drawn anew."""
LONGEST = 200  # bytes of a name: of the 255 that a file's may have, suffixes and those of temporary files are left
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=:-]*")
_TOLD = 8  # names that a refusal tells
_PART = 90  # bytes of a name that others are put beside


def check_name(name: str, what: str) -> str:
    """``name``, if it is a file name that needs no quoting in a shell. Raises UserError otherwise."""
    if len(name.encode(errors="replace")) > LONGEST:
        raise UserError(
            f"{name[:40]}... cannot name {what}: it has {len(name)} characters, and {LONGEST} is the most; give a "
            "shorter --name."
        )
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name {what}: use letters, digits and . _ + @ = : -")
    return name


def slug(text: str) -> str:
    """``text`` as a name: each sequence of other characters becomes one hyphen."""
    return re.sub(r"[^A-Za-z0-9._+@=]+", "-", text).strip("-.") or "unnamed"


def short_slug(text: str) -> str:
    """The same, short enough to be put beside others: what is longer ends in digits of its hash."""
    name = slug(text)
    return name if len(name) <= _PART else f"{name[: _PART - 9]}-{value_sha256(name)[:8]}"


def free_name(stem: str, taken: Container[str]) -> str:
    """The first of stem, stem-2, stem-3, ... that is not taken."""
    return next(name for name in numbered(stem) if name not in taken)


def numbered(stem: str) -> Iterator[str]:
    """stem, stem-2, stem-3, ..."""
    return itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))


@dataclass(frozen=True)
class Workspace:
    """A directory with the artefacts of one study. It is created when something is written."""

    root: Path

    @classmethod
    def find(cls, given: str | Path | None = None) -> "Workspace":
        """``given``, else the nearest directory with a workspace.toml from here upwards, else the current one."""
        if given is not None:
            if not str(given):  # as of "$UNSET" in a shell: it would be where one stands
                raise UserError("--workspace is empty: give a directory, or leave it out.")
            root = Path(os.path.realpath(path_of(given)))  # unlike resolve, it takes a link to itself
            if root.exists() and not root.is_dir():
                raise UserError(f"The workspace {root} is not a directory: give a directory to --workspace.")
            return cls(root)
        here = Path.cwd()
        for directory in (here, *here.parents):
            if (directory / MARKER).is_file():
                return cls(directory)
        return cls(here)

    def defaults(self) -> dict[str, Any]:
        """The settings in workspace.toml (device, dtype, model, images, seed, ...); empty without the file.

        Places are full paths: what stands there as relative is relative to the workspace.
        """
        path = self.root / MARKER
        written = read_toml(path) if os.path.lexists(path) else {}
        return changed_values(written, PLACES, lambda text, sort: located_text(text, sort, self.root))

    def defaults_of(self, kind: type) -> dict[str, Any]:
        """Those in workspace.toml that are settings of the dataclass ``kind``."""
        names = {one.name for one in fields(kind) if not one.metadata.get("own")}
        return {name: value for name, value in self.defaults().items() if name in names}

    def set_images(self, source: str) -> None:
        """Make ``source`` the default of images: before all else, as a key that follows a table would belong to it."""
        path = self.root / MARKER
        before = read_text(path) if os.path.lexists(path) else ""
        write_text(path, to_toml({"images": recorded_text(source, "path", self.root)}) + before)

    def activations(self, name: str) -> Path:
        return self.root / "activations" / check_name(name, "activations")

    def embeddings(self, name: str) -> Path:
        return self.root / "embeddings" / check_name(name, "embeddings")

    def sae(self, name: str) -> Path:
        return self.root / "saes" / check_name(name, "an SAE")

    def neurons(self, sae: str, images: str) -> Path:
        name = f"{check_name(sae, 'an SAE')}--{check_name(images, 'images')}"
        return self.root / "neurons" / f"{check_name(name, 'scores')}.h5"

    def labels(self, sae: str) -> Path:
        return self.root / "labels" / f"{check_name(sae, 'an SAE')}.toml"

    def recipe(self, name: str) -> Path:
        return self.root / "recipes" / f"{check_name(name, 'a recipe')}.toml"

    def steerability(self, sae: str, model: str) -> Path:
        name = f"{check_name(sae, 'an SAE')}--{check_name(model, 'a model')}"
        return self.root / "steerability" / check_name(name, "steerability")

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def existing(self, kind: str, given: str, made: Collection[tuple[str, str]] = ()) -> Path:
        """The path of an artefact, ``given`` as a name in this workspace or as a path. Raises UserError without it.

        ``kind`` is ``activations``, ``embeddings`` or ``saes``. ``made``: kinds and names of what a plan makes, which
        is named beside what is there.
        """
        as_path = path_of(given)
        if (os.sep in given or given.startswith(".")) and as_path.exists():
            return Path(os.path.abspath(as_path))
        folder = self.root / kind
        if given and (folder / given).exists():
            return folder / given
        called = "SAE" if kind == "saes" else kind
        has = [p.name for p in folders(folder)]
        makes = sorted(name for of, name in made if of == kind and name not in has)
        if not has and not makes:
            raise UserError(
                f"No {called} named {given!r} in {self.root}, which has none yet: make some, or give a path."
            )
        told = [f"{does} {first_few(names)}" for does, names in (("it has", has), ("the plan makes", makes)) if names]
        raise UserError(f"No {called} named {given!r} in {self.root}: {', '.join(told)}; give one of these or a path.")


def first_few(names: Sequence[str]) -> str:
    """The first of them."""
    return ", ".join(names[:_TOLD]) + (" ..." if len(names) > _TOLD else "")


@dataclass(frozen=True)
class Source:
    """One artefact that another was made from."""

    kind: str
    name: str = field(metadata={"place": "name"})
    path: str = field(metadata={"place": "source"})
    sha256: str

    @property
    def content(self) -> tuple[str, str, str]:
        """What it is, wherever it lay at the time."""
        return self.kind, self.name, self.sha256


@dataclass(frozen=True)
class Provenance:
    """What every artefact tells of its origin. It holds no time: work that was interrupted and continued ends with the
    same bytes."""

    made_from: tuple[Source, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the packages that matter."""


@dataclass(frozen=True)
class Origin:
    """Which tool an SAE came from."""

    format: str
    said: Mapping[str, Any] = field(default_factory=dict)
    """Its config there: it comes back on export."""
    notes: tuple[str, ...] = ()
    """What is other than it was there."""


def versions() -> dict[str, str]:
    """Of the packages that results may depend on."""
    found = {"python": sys.version.split()[0]}
    for package in ("saetui", "torch", "transformers", "open_clip_torch", "numpy", "h5py"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def folders(place: Path) -> list[Path]:
    """The folders in ``place``, by name, but for hidden ones; none where it cannot be read."""
    try:
        return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def store_names(name: str, hooks: Sequence[str]) -> list[str]:
    """Of the stores of an extraction called ``name``: several hook points are told apart by theirs."""
    return [name] if len(hooks) == 1 else [f"{name}-{hook.replace(':', '')}" for hook in hooks]


def neurons_path(settings: ScoreSettings, sae: str, workspace: Workspace) -> Path:
    """Where the scores of ``sae`` are written that ``settings`` ask for."""
    return workspace.neurons(sae, settings.name or short_slug(Path(settings.images).stem))


def names_by_judge(name: str, images: str, judges: Sequence[str]) -> dict[str, str]:
    """What scores on ``images`` by each judge are called (``ScoreSettings.name``).

    MS by one judge is not to be compared with that by another, so of several judges each has a file of its own:
    ``<images>-<judge>``. Judges of one name are told apart by digits of their hash, whatever their order.
    """
    if len(judges) < 2:
        return dict.fromkeys(judges, name)
    last = [
        short_slug(judge.partition(":")[2] if judge.startswith("openclip:") else Path(judge).name) for judge in judges
    ]
    folded = [one.casefold() for one in last]  # some file systems do not tell ViT from vit
    stem = name or short_slug(Path(images).stem)
    return {
        judge: f"{stem}-{one}" if folded.count(one.casefold()) == 1 else f"{stem}-{one}-{value_sha256(judge)[:8]}"
        for judge, one in zip(judges, last, strict=True)
    }


def concepts_path(settings: ConceptsSettings, sae: str, workspace: Workspace) -> Path:
    """Where the concept tests of ``sae`` are written that ``settings`` ask for."""
    scores = workspace.neurons(sae, settings.name or short_slug(Path(settings.images).stem))
    return workspace.root / "concepts" / f"{scores.stem}.json"


def stability_path(settings: StabilitySettings, workspace: Workspace) -> Path:
    """Where it is written what the SAEs that ``settings`` name have in common."""
    name = settings.name or "--".join(Path(os.path.abspath(path_of(one))).name for one in settings.saes)
    return workspace.root / "stability" / f"{check_name(name, 'a result')}.json"


def fidelity_path(settings: FidelitySettings, sae: str, workspace: Workspace) -> Path:
    """Where the fidelity of ``sae`` is written that ``settings`` ask for."""
    scores = workspace.neurons(sae, settings.name or short_slug(Path(settings.images).stem))
    return workspace.root / "fidelity" / f"{scores.stem}.json"


def steerability_folder(settings: SteerabilitySettings, sae: str, workspace: Workspace) -> Path:
    """Where what ``settings`` ask of ``sae`` is kept."""
    return workspace.steerability(sae, settings.name or short_slug(Path(settings.vlm.removeprefix("hf:")).name))


def neurons_files(workspace: Workspace, sae: str | None = None) -> list[Path]:
    """The neurons files of the workspace, or those of ``sae``, the newest first."""
    found = []
    for path in NEURONS.all_in(workspace.root):
        with contextlib.suppress(OSError):  # it was removed meanwhile
            if sae is None or sae_of(path) == sae:
                found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def sae_of(neurons: Path) -> str:
    """Name of the SAE that a neurons file is about."""
    return neurons.stem.rpartition("--")[0]


def image_set_of(neurons: Path) -> str:
    """Name of the set of images that a neurons file is about."""
    return neurons.stem.rpartition("--")[2]


def neurons_of(workspace: Workspace, sae: str) -> str:
    """Path of the newest scores of ``sae``, empty when it has none."""
    return next(map(str, neurons_files(workspace, sae)), "")


def saes(workspace: Workspace) -> list[str]:
    """Names of the SAEs of the workspace, those that have scores first."""
    scored = {sae_of(path) for path in neurons_files(workspace)}
    names = [path.name for path in folders(workspace.root / "saes") if (path / "config.json").is_file()]
    return sorted(names, key=lambda name: name not in scored)


def recipes(workspace: Workspace) -> list[str]:
    """Names of the recipes of the workspace."""
    return [RECIPES.name_of(path) for path in RECIPES.all_in(workspace.root)]
