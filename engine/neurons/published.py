"""An SAE for others, with what its scores say."""

from engine.config import ExportSettings
from engine.errors import counted
from engine.neurons.file import Neurons
from engine.places import split, workspace_of
from engine.reporter import Reporter
from engine.sae.config import weights_sha256
from engine.sae.exchange import export_sae
from engine.sae.results import Exported
from engine.workspace import Workspace, neurons_files


def export(settings: ExportSettings, workspace: Workspace, reporter: Reporter | None = None) -> Exported:
    """As ``export_sae``; the card of a folder for the hub tells the newest scores of the SAE."""
    return export_sae(settings, workspace, reporter, _scores(settings, workspace) if settings.hub_folder else ())


def _scores(settings: ExportSettings, workspace: Workspace) -> tuple[str, ...]:
    """MS of the latents beside that of the matched raw neurons, never without; nothing where it has no scores."""
    folder = workspace.existing("saes", settings.sae)
    sha256 = weights_sha256(folder)
    for path in neurons_files(Workspace(workspace_of(folder)), folder.name):
        with Neurons.open(path) as neurons:
            if sha256 not in {one.sha256 for one in neurons.provenance.made_from}:
                continue
            found, ms = neurons.summary, neurons.summary.ms
        if ms.sae.mean is None or ms.matched.mean is None or ms.matched.share_beaten is None:
            continue
        judge = "a local model" if split(found.embed_with, "model")[1] else found.embed_with
        return (
            f"| on {counted(found.images, 'image')}, judged by {judge} | mean MS |",
            "|---|---|",
            f"| {counted(ms.sae.latents, 'latent')} | {ms.sae.mean:.3f} |",
            f"| raw neurons of matched support | {ms.matched.mean:.3f} |",
            *([f"| all pairs of images (baseline) | {ms.baseline:.3f} |"] if ms.baseline is not None else []),
            "",
            f"{ms.matched.share_beaten:.1%} of {counted(ms.matched.latents, 'latent')} are above their matched neuron.",
        )
    return ()
