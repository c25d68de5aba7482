"""``saetui steer``: the same question to a model untouched, with the SAE attached, and steered."""

import dataclasses
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
from engine.reporter import Intervened, Reporter, StageBegan, Token, Warned
from engine.sae.config import read_config
from engine.sae.model import SAE
from engine.steer.asked import check_changes, check_complete, maxima
from engine.steer.firing import STRANGE, given_back
from engine.steer.generate import answer
from engine.steer.interventions import Intervention, attached, check, parse_latents, parse_tokens, resolve
from engine.steer.model_cache import ModelCache
from engine.steer.recipes import keep_recipe, load_recipe, with_recipe
from engine.steer.results import ANSWERS, AnswerName, Steered
from engine.workspace import Workspace


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

    def doubt(self) -> str:
        """What to tell of an SAE that gives back little of what the model sees in the image; "" of one that fits.

        A name is no identity: the model of that name may have other weights than the SAE was trained on, and its
        vision tower is another file than the encoder's, so that no hash tells.
        """
        try:
            share = given_back(self.vlm, self.sae, self.image)
        except UserError:  # a family that is shown no image alone answers all the same
            return ""
        if share is None or share >= STRANGE:
            return ""
        trained_on = self.sae.config.model or "which, it does not say"
        return (
            f"The SAE gives back {max(share, 0):.0%} of what {self.vlm.spec} sees in this image. It was probably "
            f"trained on a model of other weights ({trained_on}), and changing its latents means little here."
        )


def steer(settings: SteerSettings, workspace: Workspace, reporter: Reporter | None = None) -> Steered:
    """The three greedy answers to what ``settings`` ask.

    Their text is reported as it is generated, in events ``token`` (answer, text).
    """
    reporter = reporter or Reporter()
    recipe, settings = settings.recipe, with_recipe(workspace, settings)
    check_complete(settings)
    check_changes(settings)
    if settings.save_recipe:
        check_own(path := workspace.recipe(settings.save_recipe))
        check_target(path)
    steering = prepare(settings, workspace, ModelCache(), reporter)
    if recipe and (warning := load_recipe(workspace, recipe).warning(steering.sha256)):
        reporter.event(Warned(warning))
    if doubt := steering.doubt():
        reporter.event(Warned(doubt))
    reporter.event(Intervened(**dataclasses.asdict(steering.intervention)))
    if settings.save_recipe:
        keep_recipe(workspace, settings)
    return Steered(**{name: steering.answer(name, reporter) for name in ANSWERS})


def prepare(settings: SteerSettings, workspace: Workspace, models: ModelCache, reporter: Reporter) -> Steering:
    """What ``settings`` (their recipe apart) ask for, loaded and found to fit. UserError where it does not.

    Without latents the steered answer is the attached one.
    """
    check_complete(settings)
    wanted = parse_latents(settings.latent, settings.mode)
    tokens = parse_tokens(settings.tokens)
    folder = workspace.existing("saes", settings.sae)
    picture = open_image(settings.image, read_config(folder).transparency)

    reporter.event(StageBegan("load"))
    device = pick_device(settings.device)
    _, sae, sha256 = models.sae(folder, device, reporter)
    intervention = Intervention(
        latents=resolve(wanted, maxima(wanted, folder.name, sha256, workspace)),
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
