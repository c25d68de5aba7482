"""What is asked of a steered answer, checked before anything is loaded. Costs no torch."""

from collections.abc import Sequence
from dataclasses import replace

from engine.activations.asked import Made
from engine.config import SteerSettings
from engine.errors import UserError
from engine.images.opening import open_image
from engine.links import check_own
from engine.models.asked import check_device, check_vlm
from engine.neurons.latents import scoring
from engine.sae.config import SAEConfig, read_config, weights_sha256
from engine.settings import about, check
from engine.steer.interventions import LatentValue, parse_latents, parse_tokens
from engine.steer.recipes import check_other, with_recipe
from engine.workspace import Workspace, neurons_files


def check_steer(settings: SteerSettings, workspace: Workspace, made: Made = ()) -> None:
    """WrongValue for the first setting that cannot be."""
    check(settings)
    with about("device"):
        check_device(settings.device)
    with about("save_recipe"):
        if settings.save_recipe:
            check_own(workspace.recipe(settings.save_recipe))
    if ("recipes", settings.recipe) in made:
        return
    with about("recipe"):
        asked = with_recipe(workspace, settings)
    with about("sae"):
        check_complete(replace(asked, vlm="demo"))
    with about("vlm"):
        check_complete(asked)
        check_vlm(asked.vlm)
    with about("latent"):
        check_changes(asked)
        wanted = parse_latents(asked.latent, asked.mode)
    with about("tokens"):
        parse_tokens(asked.tokens)
    with about("sae"):
        config = None
        if ("saes", asked.sae) not in made:
            config = read_config(folder := workspace.existing("saes", asked.sae))
    with about("image"):
        open_image(asked.image)
    if config is None:
        return
    with about("latent"):
        check_latents(wanted, config)
        maxima(wanted, folder.name, weights_sha256(folder), workspace)
    with about("save_recipe"):
        if asked.save_recipe:
            check_other(workspace, asked)


def check_complete(settings: SteerSettings) -> None:
    for name, example in (("sae", "an SAE"), ("vlm", "--vlm MODEL")):
        if not getattr(settings, name):
            raise UserError(f"There is nothing to steer: give {example}, or a --recipe that names one.")
    check_length(settings.max_new_tokens)


def check_changes(settings: SteerSettings) -> None:
    if not settings.latent:
        raise UserError("No latent is changed: give at least one --latent LATENT=VALUE.")


def check_latents(wanted: Sequence[LatentValue], config: SAEConfig) -> None:
    for value in wanted:
        check_latent(value.latent, config.w)


def check_latent(latent: int, w: int) -> None:
    if not 0 <= latent < w:
        raise UserError(f"There is no latent {latent}: this SAE has latents 0 to {w - 1}.")


def check_length(max_new_tokens: int) -> None:
    """UserError for an answer of no tokens."""
    if max_new_tokens < 1:
        raise UserError(f"An answer of {max_new_tokens} tokens is none: give --max-new-tokens 1 or more.")


def maxima(wanted: Sequence[LatentValue], sae: str, sha256: str, workspace: Workspace) -> dict[int, float]:
    """The largest activation of each latent whose value is relative, over all image sets that the SAE was scored on."""
    latents = [value.latent for value in wanted if value.relative]
    if not latents:
        return {}
    from engine.neurons.file import Neurons, refusing_damage

    scores, others = [], False
    for path in neurons_files(workspace, sae):
        with Neurons.open(path) as neurons, refusing_damage(path):
            if neurons.sae_sha256 == sha256:
                scores.append(neurons.maximum)
            else:
                others = True
    way_out = f"run {scoring(sae, others and not scores)}, or give an absolute number"
    if not scores:
        why = f"the scores of {sae} are of other weights than it has now" if others else f"{sae} has no scores"
        raise UserError(f"The maximum of latent {latents[0]} is not known, as {why}: {way_out}.")
    maxima = {}
    for latent in latents:
        if latent >= len(scores[0]):
            raise UserError(f"There is no latent {latent}: this SAE has latents 0 to {len(scores[0]) - 1}.")
        maxima[latent] = max(float(maximum[latent]) for maximum in scores)
        if not maxima[latent] > 0:
            raise UserError(f"Latent {latent} fired on none of the images that {sae} was scored on: {way_out}.")
    return maxima
