"""Import and export: what is at a place, an SAE or activations, and who brings it in or out."""

from engine.activations.convert import FORMATS as PARTS
from engine.activations.exporting import export_store
from engine.activations.importing import find_parts, import_activations, recognise_activations
from engine.activations.store import Store
from engine.config import ExportSettings, ImportSettings, RecogniseSettings
from engine.errors import UserError
from engine.files import path_of
from engine.neurons.published import export
from engine.reporter import Reporter
from engine.sae.asked import check_format, check_hub_folder, check_outside, exported_store
from engine.sae.convert import FORMATS
from engine.sae.exchange import import_sae, recognise_sae
from engine.sae.results import BroughtIn, Seen, SentOut
from engine.workspace import Workspace


def bring_in(settings: ImportSettings, workspace: Workspace, reporter: Reporter | None = None) -> BroughtIn:
    """Import what ``settings.source`` holds: an SAE, or activations. UserError as of these."""
    check_format(settings.format)
    if _holds_activations(settings):
        return import_activations(settings, workspace, reporter)
    for name in ("images", "tokens_per_image"):
        if getattr(settings, name):
            raise UserError(f"--{name.replace('_', '-')} is of activations, and {settings.source} holds none.")
    return import_sae(settings, workspace, reporter)


def recognise(settings: RecogniseSettings, workspace: Workspace, reporter: Reporter | None = None) -> Seen:
    """What is in ``settings.source``, and what an import would still ask. UserError as of an import."""
    check_format(settings.format)
    if _holds_activations(settings):
        return recognise_activations(settings, workspace)
    return recognise_sae(settings, workspace, reporter)


def send_out(settings: ExportSettings, workspace: Workspace, reporter: Reporter | None = None) -> SentOut:
    """Export the SAE or the store called ``settings.sae``; which of both, where the name has two, ``to`` says."""
    check_format(settings.to)
    check_outside(path_of(settings.out), workspace)
    store = exported_store(settings, workspace)
    check_hub_folder(settings, store)
    if store is None:
        return export(settings, workspace, reporter)
    return export_store(settings, Store.open(store), reporter)


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
