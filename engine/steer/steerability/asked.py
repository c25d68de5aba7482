"""What is asked of a steerability, checked before anything is loaded. Costs no torch."""

import re
from collections.abc import Sequence
from pathlib import Path

from engine.activations.asked import Made
from engine.config import JUDGES, STEERED_PARTS, SteerabilitySettings
from engine.errors import UserError
from engine.files import path_of
from engine.images.opening import open_image
from engine.links import check_own
from engine.models.asked import check_device, check_encoder, check_vlm
from engine.models.hub import check_notation, check_repository
from engine.neurons.latents import scoring
from engine.sae.config import read_config, weights_sha256
from engine.settings import about, check
from engine.steer.asked import check_latent
from engine.steer.interventions import LatentValue, parse_latent
from engine.steer.judges import named
from engine.steer.judges.endpoint import configured
from engine.steer.steerability.prompts import prompts
from engine.workspace import Workspace, image_set_of, neurons_files, steerability_folder

_GIVEN = re.compile(r"\s*(\d{1,18})\s*(?:=\s*(\S.*?)\s*)?", re.ASCII | re.DOTALL)


def check_steerability(settings: SteerabilitySettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("vlm"):
        check_vlm(settings.vlm)
    with about("part"):
        _among(settings.part, STEERED_PARTS, "part")
    with about("latent"):
        given = parse_given(settings.latent)
    for name in ("strength", "suppress_to"):
        with about(name):
            parse_strength(getattr(settings, name))
    with about("doses"):
        if "dose" in settings.part and not (settings.doses and min(settings.doses) > 0):
            raise UserError("doses are multiples of a latent's largest activation: give at least one, all above 0.")
    with about("prompts"):
        prompts(settings)
    with about("image"):
        open_image(settings.image)
    with about("judge"):
        _check_judges(settings)
    with about("compare_with"):
        if settings.compare_with:
            check_encoder(settings.compare_with)
    with about("save_recipes"):
        if settings.save_recipes:
            check_own(workspace.recipe(f"{settings.save_recipes}-0"))
    with about("sae"):
        if ("saes", settings.sae) in made:
            return
        folder = workspace.existing("saes", settings.sae)
        config = read_config(folder)
    with about("latent"):
        for latent in given:
            check_latent(latent, config.w)
    with about("name"):
        check_own(steerability_folder(settings, folder.name, workspace))
    with about("on"):
        if not made:  # else the plan may score it first
            scores_of(settings, folder, workspace)


def scores_of(settings: SteerabilitySettings, folder: Path, workspace: Workspace) -> Path:
    """The neurons file that ``settings`` mean: of the weights that the SAE in ``folder`` has now. UserError for none,
    and for several where ``on`` does not choose."""
    from engine.neurons.file import Neurons  # HDF5, which other commands need not load

    sae, sha256 = folder.name, weights_sha256(folder)
    files = neurons_files(workspace, sae)
    found = []
    for path in files:
        with Neurons.open(path) as neurons:
            if neurons.sae_sha256 == sha256:
                found.append(path)
    if not found:
        why = f"the scores of {sae} are of other weights than it has now" if files else f"{sae} has no scores"
        raise UserError(f"{why}, which tell what its latents stand for: run {scoring(sae, bool(files))}.")
    sets = sorted(map(image_set_of, found))
    chosen = [path for path in found if settings.on in ("", image_set_of(path))]
    if len(chosen) != 1:
        said = f"{sae} was not scored as {settings.on!r}" if settings.on else f"{sae} was scored on several image sets"
        raise UserError(f"{said}: choose one of {', '.join(sets)} with --on.")
    return chosen[0]


def parse_given(texts: Sequence[str]) -> dict[int, str]:
    """``12`` or ``12=pencil``: the concept of each latent, empty where none is given. UserError for anything else."""
    found: dict[int, str] = {}
    for text in texts:
        match = _GIVEN.fullmatch(text)
        if match is None:
            raise UserError(f"{text!r} is not LATENT or LATENT=CONCEPT: write 1203, or 1203=pencil.")
        if int(match[1]) in found:
            raise UserError(f"Latent {int(match[1])} is given twice: give it once.")
        found[int(match[1])] = match[2] or ""
    return found


def parse_strength(text: str) -> LatentValue:
    """``2x`` or ``100``. UserError for anything else."""
    try:
        return parse_latent(f"0={text.strip()}", "clamp")
    except UserError:
        raise UserError(f"{text!r} is no strength: write 2x, a multiple of a latent's maximum, or a number.") from None


def strength(text: str, maximum: float) -> float:
    """The value that ``text`` means for a latent with that largest activation."""
    said = parse_strength(text)
    return said.value * maximum if said.relative else said.value


def _among(given: tuple[str, ...], known: tuple[str, ...], what: str) -> None:
    other = next((one for one in given if one not in known), None)
    if other is not None or not given:
        raise UserError(f"{what} is {other or 'none'}: choose one or more of {', '.join(known)}.")


def _check_judges(settings: SteerabilitySettings) -> None:
    _among(settings.judge, JUDGES, "judge")
    judges = named(settings)
    if "demo" in judges and settings.vlm != "demo":
        raise UserError("The judge demo parses what the demo's model says: take --judge text, or --vlm demo.")
    if "endpoint" in judges:
        configured()
    if "chat" in judges:
        if not settings.chat_model:
            raise UserError("The judge chat needs a model: give --chat-model hf:REPO, or a local directory.")
        _check_language_model(settings.chat_model, "--chat-model")
    if settings.text_model:
        _check_language_model(settings.text_model, "--text-model")


def _check_language_model(spec: str, option: str) -> None:
    check_notation(spec)
    if spec.startswith("hf:"):
        check_repository(spec)
    elif not (path_of(spec) / "config.json").is_file():
        raise UserError(f"There is no model at {spec}: give {option} hf:REPO, or a folder written by save_pretrained.")
