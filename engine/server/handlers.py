"""What the model server does for each kind of request."""

import hashlib
import os
import weakref
from collections.abc import Callable, Hashable
from dataclasses import asdict, replace
from typing import assert_never

import torch
from PIL import Image

from engine.artefacts import find
from engine.config import Pooling, SteerSettings
from engine.errors import UserError
from engine.files import stamp
from engine.images import open_image
from engine.models.device import free_memory, pick_device
from engine.models.encoder import VisionEncoder
from engine.models.kept import Recent
from engine.neurons.file import Neurons, refusing_damage
from engine.neurons.image_latents import image_latents
from engine.neurons.latents import scoring
from engine.neurons.names import embed_text
from engine.neurons.pooling import image_pooling
from engine.neurons.results import ImageLatents
from engine.neurons.text_search import TextSpace
from engine.numbers import size
from engine.reporter import Intervened, Reporter, Token, Warned
from engine.runs.memory import memory
from engine.server.protocol import (
    Answer,
    FindImageLatents,
    LoadAhead,
    LoadedModel,
    PointFound,
    RankByText,
    RankedLatents,
    Request,
    Result,
    ServerStatus,
    Sweep,
    Swept,
    TellStatus,
)
from engine.server.reporting import RequestReporter
from engine.steer.compare import Steering, prepare
from engine.steer.firing import fired
from engine.steer.model_cache import ModelCache
from engine.steer.results import ANSWERS, AnswerName, Fired, Steered, SweepPoint
from engine.steer.sweep import sweep
from engine.workspace import Workspace

ANSWERS_KEPT = 512
MARGIN, SPARE = 1.25, 1 << 30  # of the weights; bytes beside them that others may need
MAPS_KEPT = 64
BLANK = (224, 224)  # size of a blank image whose latents are asked for


class Handlers:
    """Handlers of requests, with models and results kept for the next ones."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.models = ModelCache()
        self._answers: Recent[str] = Recent(ANSWERS_KEPT)
        self._doubts: Recent[str] = Recent(MAPS_KEPT)
        self._maps: Recent[Fired | None] = Recent(MAPS_KEPT)
        self._spaces: Recent[TextSpace] = Recent(1)

    def handle(self, request: Request, reporter: RequestReporter) -> Result:
        """Do what is asked and tell what comes of it meanwhile.

        UserError for what the user can mend; what ``reporter.check`` raises.
        """
        match request:
            case Answer():
                return self.answer(request, reporter)
            case Sweep():
                return self.sweep(request, reporter)
            case RankByText():
                return self.rank_by_text(request, reporter)
            case FindImageLatents():
                return self.image_latents(request, reporter)
            case LoadAhead():
                return self.load_ahead(request, reporter)
            case TellStatus():
                return self.status()
            case _:
                assert_never(request)

    def answer(self, request: Answer, reporter: RequestReporter) -> Steered:
        steering = prepare(request.question, self.workspace, self.models, reporter)
        reporter.tell(Intervened(**asdict(steering.intervention)))
        reporter.check()
        if doubt := self._doubts.get(_pair(steering), steering.doubt):
            reporter.event(Warned(doubt))
        if maps := self._fired(steering):
            reporter.tell(maps)
        return Steered(**{name: self._answer(steering, name, reporter) for name in ANSWERS})

    def _fired(self, steering: Steering) -> Fired | None:
        """Where the latents of the rack fire; None where it has none, or where patches have no places."""
        latents = tuple(sorted({latent for latent, _ in steering.intervention.latents}))
        if not latents:
            return None
        key = (*_pair(steering), latents)
        try:
            return self._maps.get(key, lambda: fired(steering.vlm, steering.sae, steering.image, latents))
        except UserError:  # a family that is shown no image alone answers all the same
            return None

    def _answer(self, steering: Steering, name: AnswerName, reporter: RequestReporter) -> str:
        """Greedy answers are the same every time, so none is generated twice."""
        generated = False

        def generate() -> str:
            nonlocal generated
            generated = True
            return steering.answer(name, reporter)

        text = self._answers.get(_identity(steering, name), generate)
        if not generated:
            reporter.tell(Token(name, text, cached=True))
        return text

    def sweep(self, request: Sweep, reporter: RequestReporter) -> Swept:
        steering = prepare(request.question, self.workspace, self.models, reporter)
        concept = self._concept(request, steering, reporter)
        points: list[SweepPoint] = []
        for point in sweep(steering, request.over, request.values, reporter.check):
            points.append(replace(point, concept=concept(point.answer)))
            reporter.tell(PointFound(points[-1]))
            reporter.check()
        return Swept(tuple(points))

    def _concept(self, request: Sweep, steering: Steering, reporter: Reporter) -> Callable[[str], float | None]:
        """How much an answer says the concept of the latent that is swept: their cosine. None where it is not known."""
        if not request.neurons:
            return lambda text: None
        try:
            with self._neurons(request.neurons) as neurons:
                _check_same(neurons, request.question.sae, steering.sha256)
                space, encoder = self._text_space(neurons, request.question.device, reporter)
        except UserError as error:
            reporter.event(Warned(f"There is no concept score: {error}"))
            return lambda text: None
        if not space.directions[request.over].any():
            return lambda text: None
        return lambda text: float(space.cosines(embed_text(encoder, [text])[0])[request.over]) if text.strip() else None

    def rank_by_text(self, request: RankByText, reporter: Reporter) -> RankedLatents:
        if not request.text.strip() or request.top < 1:
            raise UserError("There is nothing to look for: type a text, and ask for at least one latent.")
        with self._neurons(request.neurons) as neurons:
            space, encoder = self._text_space(neurons, request.device, reporter)
        return RankedLatents(tuple(space.rank(embed_text(encoder, [request.text])[0], request.top)))

    def image_latents(self, request: FindImageLatents, reporter: Reporter) -> ImageLatents:
        given, spec, maximum = request.sae, "", None
        pooling: Pooling = "max"
        device = self._device(request.device)
        if request.neurons:
            with self._neurons(request.neurons) as neurons:
                given, spec = given or neurons.summary.sae, neurons.summary.model
                pooling, maximum = image_pooling(neurons.summary.settings.pooling), neurons.maximum
        if not given:
            raise UserError("There is no SAE to find latents of: give an SAE or a neurons file.")
        _, sae, sha256 = self.models.sae(self.workspace.existing("saes", given), device, reporter)
        if request.neurons:
            _check_same(neurons, given, sha256)
        spec = spec or sae.config.model
        if not spec or not sae.config.hook:
            raise UserError(f"The SAE {given} does not say what it reads: set model and hook in its config.json.")
        picture = open_image(request.image, sae.config.transparency)
        image = picture if isinstance(picture, Image.Image) else Image.new("RGB", BLANK, picture)
        return image_latents(self.models.encoder(spec, device, reporter), sae, image, pooling, maximum)

    def load_ahead(self, request: LoadAhead, reporter: RequestReporter) -> ServerStatus:
        spec = request.question.vlm
        needed = MARGIN * self.models.weights(spec) + SPARE
        free = free_memory(pick_device(request.question.device))
        if free is not None and free < needed:
            raise UserError(
                f"{spec} takes {size(int(needed))}, and {size(free)} of memory are free: the first question loads it."
            )
        prepare(request.question, self.workspace, self.models, reporter)
        return self.status()

    def status(self) -> ServerStatus:
        loaded = (
            *(LoadedModel("vlm", vlm.spec, str(vlm.device)) for vlm in self.models.vlms.values()),
            *(LoadedModel("encoder", one.spec, str(one.device)) for one in self.models.encoders.values()),
            *(LoadedModel("sae", one.name, str(one.sae.W_enc.device)) for one in self.models.saes.values()),
        )
        return ServerStatus(loaded, os.getpid(), memory())

    def _device(self, asked: str) -> torch.device:
        """``asked``; where that leaves it open, what workspace.toml says."""
        return pick_device(self.workspace.defaults_of(SteerSettings).get("device", asked) if asked == "auto" else asked)

    def _neurons(self, given: str) -> Neurons:
        return Neurons.open(find(given, self.workspace))

    def _text_space(self, neurons: Neurons, device: str, reporter: Reporter) -> tuple[TextSpace, VisionEncoder]:
        """Where the file's latents and texts meet, and the encoder that brings texts there."""
        key = (str(neurons.path), stamp(neurons.path))
        with refusing_damage(neurons.path):
            space = self._spaces.get(key, lambda: TextSpace.of(neurons))
        return space, self.models.encoder(neurons.summary.model, self._device(device), reporter)


def _identity(steering: Steering, name: AnswerName) -> Hashable:
    """Equal for equal questions to equal models: then the answers are equal as well."""
    asked = (weakref.ref(steering.vlm), _identity_of(steering.image), steering.prompt, steering.max_new_tokens)
    one = steering.through(name)
    return (asked, None if one is None else (weakref.ref(steering.sae), one if one.latents else one.control()))


def _pair(steering: Steering) -> tuple[Hashable, ...]:
    """Equal for the same image through the same SAE in the same model."""
    return weakref.ref(steering.vlm), weakref.ref(steering.sae), _identity_of(steering.image)


def _identity_of(image: Image.Image) -> Hashable:
    return image.size, hashlib.sha256(image.tobytes()).hexdigest()


def _check_same(neurons: Neurons, sae: str, sha256: str) -> None:
    """UserError unless the scores are of the SAE with this content hash."""
    if neurons.sae_sha256 != sha256:
        raise UserError(
            f"{neurons.path.name} has the scores of another SAE than {sae}: run {scoring(sae, other=True)}."
        )
