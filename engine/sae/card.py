"""The card of an SAE for the Hugging Face Hub, and what of an SAE is for everybody: nothing about the machine."""

import json
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from engine.errors import counted
from engine.places import split
from engine.sae.config import SAEConfig, control
from engine.sae.convert import Format, Written
from engine.sae.state import Finished
from engine.settings import place_of
from engine.workspace import Source

CARD = "README.md"
_PATH = re.compile(r"""(?:^|[\s=:,;"'(\[])(?:/|~|\.\.?[/\\]|[A-Za-z]:[/\\]|\\\\|file:)""")


def for_everybody(config: SAEConfig) -> SAEConfig:
    """``config`` without paths: artefacts are known by name and hash, models by their notation."""
    origin = config.origin and replace(config.origin, said=without_paths(config.origin.said))
    made_from = tuple(_nameable(one) for one in config.provenance.made_from)
    provenance = replace(config.provenance, made_from=made_from)
    return replace(config, model=_notation(config.model), origin=origin, provenance=provenance)


def without_paths(value: Any) -> Any:
    """JSON's ``value`` without the texts that say where something is on a machine."""
    match value:
        case dict():
            return {key: without_paths(one) for key, one in value.items() if not (_is_path(one) or _is_path(key))}
        case list() | tuple():
            return [without_paths(one) for one in value if not _is_path(one)]
    return value


def card(
    config: SAEConfig, form: Format, written: Written, training: Finished | None, scores: Sequence[str], weights: str
) -> str:
    """``config`` as :func:`for_everybody` gives it; ``scores``: lines about MS; ``weights``: their hash here."""
    model = config.model.removeprefix("hf:").partition("@")[0] if config.model.startswith("hf:") else ""
    reads = config.model or "a model that is not named (say which)"
    active = f", {config.k:,} active" if config.k else ""
    groups = [f"* Matryoshka groups end at {', '.join(f'{one:,}' for one in config.groups)}"] if config.groups else []
    lines = [
        "---",
        "# license: put yours here, as in `license: mit`; saetui cannot choose it",
        f"library_name: {form.NAME}",
        *([f"base_model: {json.dumps(model)}"] if model else []),
        "tags:",
        *(f"- {tag}" for tag in ("sparse-autoencoder", "sae", "vision", "interpretability", "saetui")),
        "---",
        "",
        f"# A sparse autoencoder on {config.hook} of {reads}",
        "",
        f"* {config.arch}, {counted(config.d, 'dimension')} -> {counted(config.w, 'latent')}{active}",
        *groups,
        *([f"* a control: {why}"] if (why := control(config)) else []),
        f"* model: {reads}" + (f" (content `{config.model_sha256}`)" if config.model_sha256 else ""),
        f"* hook point: {config.hook}; tokens: {config.tokens}",
        *(f"* made from {one.kind} {one.name} (content `{one.sha256}`)" for one in config.provenance.made_from),
        f"* weights here: `{weights}`",
        "* versions: " + ", ".join(f"{name} {version}" for name, version in config.provenance.versions.items()),
        *_origin(config),
        *(_training(training) if training else []),
        *(["", "## Monosemanticity (MS)", "", *scores] if scores else []),
        "",
        "## Load it",
        "",
        "```sh",
        "saetui import hf:REPO --name S" + "".join(f" --{name} ..." for name in _asked(config)),
        "```",
        "",
        f"The files are in the format of {form.NAME}. In Python, where FOLDER is a local copy:",
        "",
        "```python",
        form.LOADS,
        "```",
        *(["", "This format cannot hold:", "", *(f"* {one}" for one in written.lost)] if written.lost else []),
    ]
    return "\n".join(lines) + "\n"


def _asked(config: SAEConfig) -> list[str]:
    return [name for name in ("model", "hook", "tokens") if not getattr(config, name)]


def _origin(config: SAEConfig) -> list[str]:
    if not config.origin:
        return []
    return [f"* imported from the format of {config.origin.format}", *(f"  * {one}" for one in config.origin.notes)]


def _training(training: Finished) -> list[str]:
    said = {one.name: getattr(training.settings, one.name) for one in fields(training.settings) if not place_of(one)}
    settings = ", ".join(f"{key} {_text(value)}" for key, value in without_paths(said).items() if key not in _UNTOLD)
    found = training.result
    figures = (("FVE", found.fve), ("L0", found.l0), ("dead latents, share", found.dead))
    lines = [f"| {name} | {value:.4g} |" for name, value in figures if value is not None]
    if found.ms is not None and found.ms_matched is not None:
        lines += [f"| MS, mean | {found.ms:.3f} |", f"| MS of matched raw neurons, mean | {found.ms_matched:.3f} |"]
    return [
        "",
        "## Training",
        "",
        f"{counted(found.steps, 'step')} on {counted(training.rows.train, 'row')} "
        f"({counted(training.images.train, 'image')}). {settings}.",
        "",
        f"| on {counted(found.rows or training.rows.held_out, 'held-out row')} | |",
        "|---|---|",
        *lines,
    ]


_UNTOLD = ("name", "device", "keep_state", "eval_every", "checkpoint_every", "steps")


def _text(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _nameable(source: Source) -> Source:
    known = split(source.name, "model")[1] if source.kind == "model" else source.name
    return replace(source, name=Path(known).name if _is_path(known) or known != source.name else known, path="")


def _notation(model: str) -> str:
    return "" if split(model, "model")[1] else model


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and _PATH.search(value) is not None
