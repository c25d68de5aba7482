"""What is asked of a fidelity, checked before anything is loaded. Costs no torch."""

from pathlib import Path

from engine.activations.asked import Made
from engine.config import FidelitySettings
from engine.errors import UserError
from engine.files import path_of
from engine.images.sources import check_images
from engine.links import check_own
from engine.models import HookPoint
from engine.models.asked import check_device, check_encoder, check_hook, check_vlm
from engine.neurons.asked import no_encoder
from engine.sae.config import SAEConfig, read_config
from engine.settings import about, check
from engine.workspace import Workspace, fidelity_path


def check_fidelity(settings: FidelitySettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be, or cannot be of one of the SAEs."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("images"):
        if ("images", settings.images) not in made:
            check_images(settings.images)
    with about("captions"):
        drawn = ("images", str(Path(settings.captions).parent)) in made  # with labels.jsonl
        if settings.captions and not drawn and not path_of(settings.captions).is_file():
            raise UserError(
                f"{settings.captions} is no file: give a .csv, .tsv or .jsonl with columns path and caption."
            )
    with about("vlm"):
        if settings.vlm:
            check_vlm(settings.vlm)
    with about("sae"):
        if not settings.sae:
            raise UserError("sae names none: give one or more.")
    paths: set[Path] = set()
    for sae in settings.sae:
        config = None
        with about("sae"):
            if ("saes", sae) not in made:
                config = read_config(folder := workspace.existing("saes", sae))
        with about("name"):
            check_own(path := fidelity_path(settings, folder.name if config else sae, workspace))
        with about("sae"):
            if path in paths:
                raise UserError(f"sae names {Path(sae).name} twice: name each SAE once.")
        paths.add(path)
        if config is not None:
            _check_fit(settings, sae, config)


def spliced_tokens(settings: FidelitySettings, sae: str, config: SAEConfig) -> str:
    """``pooled``, ``cls``, ``patches`` or ``all``: whose activations are replaced."""
    if HookPoint.parse(config.hook).pooled:
        return "pooled"
    if settings.splice != "own":
        return settings.splice
    if config.tokens == "mean":
        raise UserError(
            f"{sae} was trained on the mean of an image's patches, which nothing in the encoder reads: give --splice "
            "patches to replace each of them."
        )
    return config.tokens if config.tokens in ("cls", "patches") else "all"


def _check_fit(settings: FidelitySettings, sae: str, config: SAEConfig) -> None:
    with about("encoder"):
        spec = settings.encoder or config.model
        if not spec:
            raise UserError(no_encoder(sae))
        check_encoder(spec)
    with about("sae"):
        check_hook(spec, HookPoint.parse(config.hook), config.d)
    with about("splice"):
        spliced_tokens(settings, sae, config)
