"""Import and export: what is at a place, an SAE or activations, and who brings it in or out."""

import os
from pathlib import Path

from engine.activations.convert import FORMATS as PARTS
from engine.activations.exporting import export_store
from engine.activations.importing import find_parts, import_activations, recognise_activations
from engine.activations.manifest import FILE as MANIFEST
from engine.activations.store import KINDS, Store
from engine.config import ExportSettings, ImportSettings, RecogniseSettings
from engine.errors import UserError
from engine.files import path_of
from engine.neurons.published import export
from engine.reporter import Reporter
from engine.sae.config import CONFIG
from engine.sae.convert import FORMATS
from engine.sae.exchange import import_sae, recognise_sae
from engine.sae.results import BroughtIn, Seen, SentOut
from engine.workspace import Workspace


def bring_in(settings: ImportSettings, workspace: Workspace, reporter: Reporter | None = None) -> BroughtIn:
    """Import what ``settings.source`` holds: an SAE, or activations. UserError as of these."""
    _check_format(settings)
    if _holds_activations(settings):
        return import_activations(settings, workspace, reporter)
    for name in ("images", "tokens_per_image"):
        if getattr(settings, name):
            raise UserError(f"--{name.replace('_', '-')} is of activations, and {settings.source} holds none.")
    return import_sae(settings, workspace, reporter)


def recognise(settings: RecogniseSettings, workspace: Workspace, reporter: Reporter | None = None) -> Seen:
    """What is in ``settings.source``, and what an import would still ask. UserError as of an import."""
    _check_format(settings)
    if _holds_activations(settings):
        return recognise_activations(settings, workspace)
    return recognise_sae(settings, workspace, reporter)


def send_out(settings: ExportSettings, workspace: Workspace, reporter: Reporter | None = None) -> SentOut:
    """Export the SAE or the store called ``settings.sae``; which of both, where the name has two, ``to`` says."""
    if settings.to and settings.to not in FORMATS | PARTS:
        raise UserError(f"{settings.to!r} is no format: give one of {', '.join(FORMATS | PARTS)}.")
    _check_outside(path_of(settings.out), workspace)
    store = _store(settings, workspace)
    if store is not None and settings.hub_folder:
        raise UserError(f"{store} is an activation store, and --hub-folder is of SAEs: leave it out.")
    if store is None:
        return export(settings, workspace, reporter)
    return export_store(settings, Store.open(store), reporter)


def _check_outside(out: Path, workspace: Workspace) -> None:
    """UserError for a folder among artefacts: what lies there is taken for one, or for a part of one."""
    place = out.resolve()
    if any(place.is_relative_to((workspace.root / kind).resolve()) for kind in (*KINDS, "saes", "neurons", "runs")):
        raise UserError(f"{out} is among the artefacts of the workspace: give --out a folder elsewhere.")


def _check_format(settings: RecogniseSettings) -> None:
    if settings.format and settings.format not in FORMATS | PARTS:
        raise UserError(f"{settings.format!r} is no format: give one of {', '.join(FORMATS | PARTS)}.")


def _holds_activations(settings: RecogniseSettings) -> bool:
    """Whether no SAE is there, but activations are. An SAE's files may look like these, not the other way."""
    if settings.format in PARTS and settings.format not in FORMATS:
        return True
    if settings.source.startswith("hf:") or (settings.format and settings.format not in PARTS):
        return False
    place = path_of(settings.source)
    if settings.format not in PARTS and any(form.find(place) for form in FORMATS.values()):
        return False
    if settings.format in FORMATS and FORMATS[settings.format].find(place):
        return False
    return find_parts(settings.source, settings.format) is not None


def _store(settings: ExportSettings, workspace: Workspace) -> Path | None:
    """The store that is meant; None where an SAE is, or nothing."""
    found = [one for kind in KINDS for one in _named(kind, settings.sae, workspace) if (one / MANIFEST).is_file()]
    saes = [one for one in _named("saes", settings.sae, workspace) if (one / CONFIG).is_file()]
    if settings.to and settings.to not in FORMATS:
        return found[0] if found else workspace.existing(KINDS[0], settings.sae)
    if not found or (settings.to and settings.to not in PARTS) or (saes and not settings.to):
        return None
    if saes:
        raise UserError(
            f"{settings.sae} is a store and an SAE, and {settings.to} holds both: give {found[0]} or {saes[0]}."
        )
    return found[0]


def _named(kind: str, name: str, workspace: Workspace) -> list[Path]:
    return [path_of(name)] if os.sep in name else [workspace.root / kind / name]
