"""Settings and provenance of an SAE in words: what it is, what it reads, how it was trained and scored, from what."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.activations.manifest import Manifest
from engine.artefacts.entries import Origin, SAEEntry
from engine.neurons.file import Neurons
from engine.numbers import count, significant
from engine.places import recorded
from engine.sae.config import SAEConfig, control

Fact = tuple[str, str]
"""A name and what stands for it."""


@dataclass(frozen=True)
class FactTable:
    title: str
    source: str
    """File of the workspace that says so."""
    facts: tuple[Fact, ...]


def of_sae(entry: SAEEntry, sha256: str, root: Path) -> Iterator[FactTable]:
    """``sha256``: of its weights."""
    folder = f"saes/{entry.name}"
    if entry.config is not None:
        config = recorded(entry.config, root)
        yield FactTable("SAE", f"{folder}/config.json", tuple(_config(config, sha256)))
        yield from _imported(config, folder)
        yield from _versions("Versions that trained it", config.provenance.versions, f"{folder}/config.json")
    if entry.settings is not None:
        yield _settings("Training", recorded(entry.settings, root), f"{folder}/training.json")


def _config(config: SAEConfig, sha256: str) -> Iterator[Fact]:
    yield "architecture", config.arch
    yield "dimensions -> latents", f"{count(config.d)} -> {count(config.w)}"
    if config.k:
        yield "active latents a token (k)", count(config.k)
    if config.groups:
        yield "Matryoshka groups end at", ", ".join(map(count, config.groups))
    if why := control(config):
        yield "a control", why
    yield "reads the model", config.model
    yield "at the hook point", config.hook
    yield "of the tokens", config.tokens
    yield "transparent pixels", config.transparency
    yield "activations were divided by", significant(config.scale, 6)
    yield "sha256 of the model", config.model_sha256 or ""
    yield "sha256 of the weights", sha256


def _imported(config: SAEConfig, folder: str) -> Iterator[FactTable]:
    if config.origin is None:
        return
    facts = [("format", config.origin.format), *((str(k), _plain(v)) for k, v in config.origin.said.items())]
    facts += [("otherwise than there", note) for note in config.origin.notes]
    yield FactTable("Imported from another tool", f"{folder}/config.json", tuple(facts))


def of_store(manifest: Manifest, name: str, root: Path) -> FactTable:
    said = recorded(manifest, root)
    facts: list[Fact] = [
        ("model", said.model.spec),
        ("hook point", said.hook),
        ("tokens", said.tokens),
        ("rows", count(manifest.rows)),
        ("width", count(said.d)),
        ("stored as", said.dtype),
        ("images", said.source.spec),
        ("number of images", "" if said.source.images is None else count(said.source.images)),
        ("transparent pixels", said.transparency),
        ("precision", said.precision),
        ("device", said.device),
        ("command", said.command),
    ]
    return FactTable(f"Activations {name}", f"activations/{name}/manifest.json", tuple(facts))


def of_scores(neurons: Neurons, source: str, root: Path) -> Iterator[FactTable]:
    summary = recorded(neurons.summary, root)
    about: list[Fact] = [
        ("scored images", count(summary.images)),
        ("images that could not be read", count(summary.broken)),
        ("scored tokens", summary.tokens),
        ("pooled by", summary.pooling),
        *([("scored patches", count(summary.patches))] if summary.patches is not None else []),
        ("encoder", summary.model),
        ("hook point", summary.hook),
        ("judge", summary.embed_with),
    ]
    settings = _settings("", summary.settings, source).facts
    yield FactTable("Scores", source, (*about, *(one for one in settings if one[0] not in ("pooling", "embed with"))))
    yield from _versions("Versions that scored it", neurons.provenance.versions, source)


def _settings(title: str, settings: Any, source: str) -> FactTable:
    """All of them: what was left at its default, too, is what the result was made with."""
    facts = [(one.name.replace("_", " "), _plain(getattr(settings, one.name))) for one in dataclasses.fields(settings)]
    return FactTable(title, source, tuple(facts))


def _versions(title: str, versions: Mapping[str, str], source: str) -> Iterator[FactTable]:
    if versions:
        yield FactTable(title, source, tuple(versions.items()))


def placed(origin: Origin, root: Path) -> Origin:
    """With its paths as artefacts write them: relative to the workspace where they are in it."""
    return dataclasses.replace(
        origin,
        path=_within(origin.path, root),
        name=_within(origin.name, root),
        chain=tuple(placed(one, root) for one in origin.chain),
    )


def _within(path: str, root: Path) -> str:
    return path.removeprefix(f"{root}/") if path.startswith("/") else path


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case float():
            return significant(value, 6)
        case tuple() | list():
            return ", ".join(map(_plain, value))
        case None:
            return ""
        case _:
            return str(value)
