"""``saetui steer``: the same question to a model untouched, with the SAE attached, and steered."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from PIL import Image

from engine.config import SteerSettings
from engine.errors import UserError
from engine.files import check_target
from engine.images.opening import open_image
from engine.links import check_own
from engine.models.device import pick_device
from engine.models.vlm import VLM
from engine.neurons.latents import scoring
from engine.reporter import Intervened, Reporter, StageBegan, Token, Warned
from engine.sae.config import read_config
from engine.sae.model import SAE
from engine.steer.generate import answer, check_length
from engine.steer.interventions import Intervention, LatentValue, attached, check, parse_latents, parse_tokens, resolve
from engine.steer.model_cache import ModelCache
from engine.steer.recipes import keep_recipe, load_recipe, with_recipe
from engine.steer.results import ANSWERS, AnswerName, Steered
from engine.workspace import Workspace, neurons_files


@dataclass(frozen=True, eq=False)
class Steering:
    """A question to a model about an image, and an SAE with which the model is steered: all that answers need."""

    vlm: VLM
    sae: SAE
    sha256: str
    """Content hash of the SAE's weights."""
    image: Image.Image
    prompt: str
    max_new_tokens: int
    intervention: Intervention

    def through(self, name: AnswerName) -> Intervention | None:
        """What is done to the model for the answer ``name``; None for the untouched one."""
        return {"untouched": None, "attached": self.intervention.control(), "steered": self.intervention}[name]

    def answer(self, name: AnswerName, reporter: Reporter) -> str:
        """The greedy answer ``name``, reported as it is generated in events ``token`` (answer, text)."""
        reporter.event(StageBegan(name))

        def on_text(text: str) -> None:
            reporter.event(Token(name, text))
            reporter.check()

        one = self.through(name)
        with nullcontext() if one is None else attached(self.vlm, self.sae, one):
            return answer(self.vlm, self.image, self.prompt, self.max_new_tokens, on_text)


def steer(settings: SteerSettings, workspace: Workspace, reporter: Reporter | None = None) -> Steered:
    """The three greedy answers to what ``settings`` ask.

    Their text is reported as it is generated, in events ``token`` (answer, text).
    """
    reporter = reporter or Reporter()
    recipe, settings = settings.recipe, with_recipe(workspace, settings)
    _check_complete(settings)
    if not settings.latent:
        raise UserError("No latent is changed: give at least one --latent LATENT=VALUE.")
    if settings.save_recipe:
        check_own(path := workspace.recipe(settings.save_recipe))
        check_target(path)
    steering = prepare(settings, workspace, ModelCache(), reporter)
    if recipe and (warning := load_recipe(workspace, recipe).warning(steering.sha256)):
        reporter.event(Warned(warning))
    reporter.event(Intervened(**dataclasses.asdict(steering.intervention)))
    if settings.save_recipe:
        keep_recipe(workspace, settings)
    return Steered(**{name: steering.answer(name, reporter) for name in ANSWERS})


def prepare(settings: SteerSettings, workspace: Workspace, models: ModelCache, reporter: Reporter) -> Steering:
    """What ``settings`` (their recipe apart) ask for, loaded and found to fit. UserError where it does not.

    Without latents the steered answer is the attached one.
    """
    _check_complete(settings)
    wanted = parse_latents(settings.latent, settings.mode)
    tokens = parse_tokens(settings.tokens)
    folder = workspace.existing("saes", settings.sae)
    picture = open_image(settings.image, read_config(folder).transparency)

    reporter.event(StageBegan("load"))
    device = pick_device(settings.device)
    _, sae, sha256 = models.sae(folder, device, reporter)
    intervention = Intervention(
        latents=resolve(wanted, _maxima(wanted, folder.name, sha256, workspace)),
        mode=settings.mode,
        keep_error=settings.keep_error,
        tokens=tokens,
    )
    vlm = models.vlm(settings.vlm, device, settings.dtype, reporter)
    for note in vlm.notes:
        reporter.event(Warned(note))
    check(vlm, sae, intervention)
    image = picture if isinstance(picture, Image.Image) else Image.new("RGB", vlm.image_size, picture)
    return Steering(vlm, sae, sha256, image, settings.prompt, settings.max_new_tokens, intervention)


def _check_complete(settings: SteerSettings) -> None:
    for name, example in (("sae", "an SAE"), ("vlm", "--vlm MODEL")):
        if not getattr(settings, name):
            raise UserError(f"There is nothing to steer: give {example}, or a --recipe that names one.")
    check_length(settings.max_new_tokens)


def _maxima(wanted: Sequence[LatentValue], sae: str, sha256: str, workspace: Workspace) -> dict[int, float]:
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
