"""The artefacts of a workspace, one reader each: for listings, and for ``saetui show``. Costs no torch.

What commands measured and keep as JSON is in ``engine.artefacts.results``.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from engine.activations.manifest import FILE as MANIFEST
from engine.activations.manifest import Manifest, read_manifest
from engine.activations.store import Store
from engine.activations.stored_images import broken_images
from engine.config import SteerSettings, TrainSettings
from engine.errors import UserError, counted, reason, refusal
from engine.files import LOCK, Stamp, read_toml, stamp
from engine.integrity import content_sha256
from engine.kinds import ACTIVATIONS, EMBEDDINGS, NEURONS, RECIPES, RUNS, SAES, Kind
from engine.locks import held
from engine.metrics.results import Interval
from engine.neurons.file import Neurons
from engine.neurons.results import Summary
from engine.neurons.seal import neurons_sha256
from engine.places import located, workspace_of
from engine.records import from_json, to_json
from engine.runs.run import Run, later_of
from engine.sae.config import CHECKPOINTS, CONFIG, TRAINING, WEIGHTS, SAEConfig, read_config, weights_sha256
from engine.sae.results import FinalMeasurement, HeldOutMeasurement
from engine.sae.state import check_together, read_state, read_training, trained_alike
from engine.steer.recipes import settings_in
from engine.workspace import Provenance, Source, image_set_of

State = Literal["complete", "writing", "unfinished"]
UNREADABLE = (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class Origin:
    """Something that an artefact was made from."""

    kind: str
    name: str
    path: str
    sha256: str
    state: str = ""
    """As it is now: unchanged, changed, missing, not compared (what is no artefact), or unreadable (and why)."""
    chain: "tuple[Origin, ...]" = ()
    """What it was made from itself."""


@dataclass(frozen=True)
class Figure:
    """A score by which a listing tells what was measured, beside its control."""

    name: str
    score: Interval
    control: str
    beside: Interval | None
    """None where the control was not measured."""
    untouched: Interval | None = None
    """The same of the model without an SAE, where that is no constant."""
    quantity: str = ""
    """What is told of it (engine.explained)."""


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """What is known of any artefact."""

    KINDS: ClassVar[tuple[Kind, ...]]
    path: Path
    when: float | None = None
    """Of its last change, in seconds since the epoch."""
    error: str = ""
    """Why it cannot be read, and the way out. Then nothing below is known."""
    made_from: tuple[Origin, ...] = ()

    @property
    def kind(self) -> Kind:
        return next((kind for kind in self.KINDS if kind.folder == self.path.parent.name), self.KINDS[0])

    @property
    def name(self) -> str:
        return self.kind.name_of(self.path)

    @property
    def about(self) -> str:
        """What a listing says of it, in a few words."""
        return ""

    @property
    def figure(self) -> Figure | None:
        """By which a listing tells how good it is."""
        return None

    @classmethod
    def is_at(cls, path: Path) -> bool:
        """Whether ``path`` is such an artefact, whole or damaged."""
        return any((path / mark).is_file() for kind in cls.KINDS for mark in kind.marks)

    @classmethod
    def identity(cls, path: Path) -> str:
        """The content hash by which other artefacts name it."""
        return content_sha256(path)

    @classmethod
    @abstractmethod
    def read(cls, path: Path) -> Self | None:
        """The artefact at ``path``; None when nothing of it is there yet. Raises UserError, or whatever damage does."""

    def listed(self) -> dict[str, Any]:
        """What a listing says of it, as JSON values."""
        made_from = [{"kind": one.kind, "name": one.name, "sha256": one.sha256} for one in self.made_from]
        state = "damaged" if self.error else getattr(self, "state", "complete")
        told = {"state": state, "about": self.about, "figure": to_json(self.figure), "error": self.error or None}
        return {"path": str(self.path), "when": self.when} | told | {"made_from": made_from}

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What ``saetui show`` says of it. UserError where it is not finished."""


@dataclass(frozen=True, kw_only=True)
class StoreEntry(Entry):
    """A store of activations or embeddings."""

    KINDS = (ACTIVATIONS, EMBEDDINGS)
    state: State = "writing"
    manifest: Manifest | None = None
    """Its head; None until a shard is finished."""

    @classmethod
    def read(cls, path: Path) -> Self:
        locked = _locked(path)
        if not (path / MANIFEST).is_file():
            if not locked:
                raise UserError(f"{path} is no activation store (it has no {MANIFEST}): remove it.")
            return cls(path=path)
        manifest = read_manifest(path)
        _check_shards(path, manifest)
        state: State = "complete" if manifest.complete else "writing" if locked else "unfinished"
        return cls(path=path, made_from=origins(manifest.provenance.made_from), state=state, manifest=manifest)

    @classmethod
    def identity(cls, path: Path) -> str:
        return Store.open(path).sha256

    @property
    def about(self) -> str:
        if not self.manifest:
            return self.state
        so_far = "" if self.state == "complete" else f", {self.state} at {self.share:.0%}"
        return f"{counted(self.rows, 'row')} of {self.model} {self.hook}{so_far}"

    @property
    def folder(self) -> str:
        """Of the workspace, that it is in: activations or embeddings."""
        return self.path.parent.name

    @property
    def rows(self) -> int:
        return self.manifest.rows if self.manifest else 0

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.manifest.shards) if self.manifest else 0

    @property
    def images(self) -> int:
        """That are done."""
        return sum(one.next_image - one.first_image for one in self.manifest.shards) if self.manifest else 0

    @property
    def of_images(self) -> int | None:
        """Images of the source when the extraction began."""
        return self.manifest.source.images if self.manifest else None

    @property
    def pictures(self) -> int | None:
        """The same, where it is of crops of them, too."""
        crops = self.manifest.source.crops if self.manifest else None
        return self.of_images // crops if crops and self.of_images else self.of_images

    @property
    def share(self) -> float:
        """Of it that is done."""
        if self.of_images:
            return self.images / self.of_images
        rows = sum(part.rows for part in self.manifest.origin.parts) if self.manifest and self.manifest.origin else 0
        return self.rows / rows if rows else 0.0

    @property
    def so_far(self) -> str:
        """What of it is done, in words."""
        if self.of_images:
            crops = self.manifest is not None and self.manifest.source.crops
            return f"{self.images:,} of {counted(self.of_images, 'crop' if crops else 'image')}"
        return f"{counted(self.rows, 'row')}, {self.share:.0%}"

    @property
    def source(self) -> str:
        return self.manifest.source.spec if self.manifest else ""

    @property
    def model(self) -> str:
        return self.manifest.model.spec if self.manifest else ""

    @property
    def hook(self) -> str:
        return self.manifest.hook if self.manifest else ""

    @property
    def tokens(self) -> str:
        return self.manifest.tokens if self.manifest else ""

    def to_json(self) -> dict[str, Any]:
        store = Store.open(self.path)
        manifest = store.manifest
        return {
            "model": to_json(manifest.model),
            "hook": manifest.hook,
            "tokens": manifest.tokens,
            "dtype": manifest.dtype,
            "complete": manifest.complete,
            "command": manifest.command,
            "rows": store.rows,
            "d": store.d,
            "images": self.images if manifest.source.images is not None or not manifest.origin else None,
            "broken": [image.to_json() for image in broken_images(self.path, manifest)],
            "left_out": manifest.source.left_out,
            "transparency": manifest.transparency,
            "bytes": self.bytes,
            "sha256": store.sha256,
        }


@dataclass(frozen=True, kw_only=True)
class SAEEntry(Entry):
    """An SAE, or a training of which only a checkpoint is there."""

    KINDS = (SAES,)
    state: State = "complete"
    arch: str = ""
    k: int | None = None
    step: int | None = None
    config: SAEConfig | None = None
    """None until it is complete, as are settings and result."""
    settings: TrainSettings | None = None
    """Of its training; None for one that was not trained here."""
    result: FinalMeasurement | None = None
    alike: str = ""
    """What its training has in common with its frozen twins (engine.sae.state.trained_alike); empty without one."""

    @classmethod
    def is_at(cls, path: Path) -> bool:
        return (path / CONFIG).is_file() or (path / TRAINING).is_file()

    @classmethod
    def identity(cls, path: Path) -> str:
        return weights_sha256(path)

    @property
    def about(self) -> str:
        of = (
            f"{counted(self.config.w, 'latent')} of {self.config.d:,}"
            if self.config
            else f"unfinished at step {self.step or 0:,}"
        )
        return ", ".join([self.arch, of, *([f"K {self.k}"] if self.k else [])])

    @property
    def held_out(self) -> HeldOutMeasurement | None:
        """What it was measured to be on held-out rows: at the end of its training, or when its directions were made."""
        measured = self.config.measured if self.config else None
        return self.result or (measured.held_out if measured else None)

    @property
    def figure(self) -> Figure | None:
        found = self.held_out
        if found is None or found.fve is None:
            return None
        return Figure("FVE", Interval(found.rows, found.fve, None, None), "", None)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        if not (path / CONFIG).is_file():
            return cls._unfinished(path)
        config = read_config(path)
        finished = read_training(path)
        check_together(path, finished)
        return cls(
            path=path,
            made_from=origins(config.provenance.made_from),
            arch=config.arch,
            k=config.k,
            step=finished.result.steps if finished else None,
            config=config,
            settings=finished.settings if finished else None,
            result=finished.result if finished else None,
            alike=trained_alike(finished) if finished else "",
        )

    @classmethod
    def _unfinished(cls, path: Path) -> Self | None:
        checkpoint = read_state(path) if (path / CHECKPOINTS).is_dir() else None
        if checkpoint is None:
            if (path / WEIGHTS).is_file():
                raise UserError(f"{path} has weights and no {CONFIG}: copy that file beside them too.")
            return None
        asked = checkpoint.identity
        return cls(path=path, state="unfinished", arch=asked.get("arch", ""), k=asked.get("k"), step=checkpoint.step)

    def to_json(self) -> dict[str, Any]:
        config = self.config or read_config(self.path)
        names = (
            "arch",
            "d",
            "w",
            "k",
            "groups",
            "frozen",
            "directions",
            "scale",
            "model",
            "hook",
            "tokens",
            "transparency",
        )
        facts = {name: getattr(config, name) for name in names}
        training = {"training": to_json(self.settings), "result": to_json(self.result)}
        more = {name: to_json(said) for name in ("measured", "origin") if (said := getattr(config, name))}
        return facts | training | more | {"sha256": weights_sha256(self.path)}


@dataclass(frozen=True, kw_only=True)
class NeuronsEntry(Entry):
    """A neurons file: an SAE scored on a set of images."""

    KINDS = (NEURONS,)
    sae: str = ""
    images: str = ""
    """Name of the set."""
    summary: Summary | None = None

    @classmethod
    def is_at(cls, path: Path) -> bool:
        return path.suffix == NEURONS.suffix

    @classmethod
    def identity(cls, path: Path) -> str:
        return neurons_sha256(path)

    @property
    def about(self) -> str:
        return (
            f"{counted(self.summary.alive, 'latent')} alive on {counted(self.summary.images, 'image')}"
            if self.summary
            else ""
        )

    @property
    def figure(self) -> Figure | None:
        if self.summary is None:
            return None
        ours, matched = self.summary.ms.sae, self.summary.ms.matched
        beside = Interval(matched.latents, matched.mean, matched.low, matched.high)
        return Figure("MS", Interval(ours.latents, ours.mean, ours.low, ours.high), "matched neurons", beside)

    @classmethod
    def read(cls, path: Path) -> Self:
        summary, made_from = _scores(path, stamp(path))
        return cls(path=path, made_from=made_from, sae=summary.sae, images=image_set_of(path), summary=summary)

    @property
    def source(self) -> str:
        """Spec of the images."""
        return self.summary.settings.images if self.summary else ""

    def to_json(self) -> dict[str, Any]:
        return {"summary": to_json(self.summary), "sha256": self.identity(self.path)}


@dataclass(frozen=True, kw_only=True)
class RecipeEntry(Entry):
    """The settings of a steered answer."""

    KINDS = (RECIPES,)
    settings: SteerSettings | None = None
    """None where it is damaged."""

    @classmethod
    def is_at(cls, path: Path) -> bool:
        return path.suffix == RECIPES.suffix and path.parent.name == RECIPES.folder

    @property
    def about(self) -> str:
        if self.settings is None:
            return ""
        return ", ".join([*(f"latent {one}" for one in self.settings.latent), f"in {self.settings.vlm}"])

    @classmethod
    def read(cls, path: Path) -> Self:
        recipe = read_toml(path)
        made_from = Provenance(from_json(tuple[Source, ...], recipe.get("made_from", []), "made_from"))
        return cls(
            path=path,
            made_from=origins(located(made_from, workspace_of(path)).made_from),
            settings=settings_in(recipe, path),
        )

    def to_json(self) -> dict[str, Any]:
        return {"recipe": read_toml(self.path), "sha256": content_sha256(self.path)}


@dataclass(frozen=True, kw_only=True)
class RunEntry(Entry):
    """A run: what was asked, and how it went."""

    KINDS = (RUNS,)

    @classmethod
    def is_at(cls, path: Path) -> bool:
        return any(os.path.lexists(path / mark) for mark in RUNS.marks)

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(path=path)

    def to_json(self) -> dict[str, Any]:
        run, status = Run(self.path), Run(self.path).status
        if later := later_of(run):
            status = replace(status, error=later.sentence)
        return {"command": to_json(run.command), "status": to_json(status)}


E = TypeVar("E", bound=Entry)


def read_entry(kind: type[E], path: Path) -> E | None:
    """The artefact at ``path``, with an ``error`` where it is damaged; None when nothing of it is there yet."""
    try:
        found = kind.read(path)
    except UNREADABLE as error:
        found = kind(path=path, error=str(unreadable(path, error)))
    return found and replace(found, when=_when(path))


def unreadable(path: Path, error: Exception) -> UserError:
    """What one of ``UNREADABLE`` says of the artefact at ``path``, and the way out."""
    damaged = UserError(f"{path} is damaged ({reason(error)}): remove it and make it again.")
    return error if isinstance(error, UserError) else refusal(error) or damaged


def origins(made_from: Iterable[Source]) -> tuple[Origin, ...]:
    return tuple(Origin(one.kind, one.name, one.path, one.sha256) for one in made_from)


def _check_shards(folder: Path, manifest: Manifest) -> None:
    with os.scandir(folder) as files:
        sizes = {file.name: file.stat().st_size for file in files}
    for shard in manifest.shards:
        size = sizes.get(shard.file)
        if size != shard.bytes:
            what = "is missing" if size is None else f"has {size:,} bytes instead of {shard.bytes:,}"
            raise UserError(
                f"{folder / shard.file} {what}: remove what is left of it and run the command that made the store "
                "again, which makes it anew."
            )


@lru_cache(maxsize=1024)
def _scores(path: Path, stamp: Stamp | None) -> tuple[Summary, tuple[Origin, ...]]:
    """Summary and sources of a neurons file, kept for as long as it stays as it is."""
    with Neurons.open(path) as neurons:
        return neurons.summary, origins(neurons.provenance.made_from)


def _locked(folder: Path) -> bool:
    """Whether some process is known to write the artefact (see engine.files.lock)."""
    return bool(held(folder / LOCK))


def _when(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
