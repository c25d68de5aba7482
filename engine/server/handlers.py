"""What the model server does for each kind of request."""

import hashlib
import os
import resource
import sys
import weakref
from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import Any, assert_never

import torch
from PIL import Image

from engine.artefacts import find
from engine.config import Pooling, from_mapping
from engine.errors import UserError
from engine.files import stamp
from engine.images import open_image
from engine.models.device import pick_device
from engine.models.encoder import VisionEncoder
from engine.neurons.file import Neurons
from engine.neurons.image_latents import look
from engine.neurons.names import embed_text
from engine.neurons.text_search import TextSpace
from engine.reporter import Intervened, Reporter, Swept, Token, Warned
from engine.server.protocol import REQUESTS, Answer, Look, Status, Sweep, Text
from engine.steer.compare import ANSWERS, Steering, prepare
from engine.steer.model_cache import ModelCache, Recent
from engine.steer.sweep import sweep
from engine.workspace import Workspace

ANSWERS_KEPT = 512
PLAIN = (224, 224)  # size of a blank image to look at


class Handlers:
    """Handlers to requests, with models and results kept for the next ones."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.loaded = ModelCache()
        self._said: Recent[str] = Recent(ANSWERS_KEPT)
        self._spaces: Recent[TextSpace] = Recent(1)

    def reply(self, ask: str, fields: dict[str, Any], reporter: Reporter) -> Any:
        """Do what is asked, report what comes of it meanwhile, and return the result as JSON values.

        UserError for what the user can mend; what ``reporter.check`` raises.
        """
        if ask not in REQUESTS:
            raise UserError(f"The model server knows no request {ask!r}: it knows {', '.join(REQUESTS)}.")
        request = from_mapping(REQUESTS[ask], fields, f"Request {ask}")
        if isinstance(request, Answer):
            return self.answer(request, reporter)
        if isinstance(request, Sweep):
            return self.sweep(request, reporter)
        if isinstance(request, Text):
            return self.text(request, reporter)
        if isinstance(request, Look):
            return self.look(request, reporter)
        if isinstance(request, Status):
            return self.status()
        assert_never(request)

    def answer(self, request: Answer, reporter: Reporter) -> dict[str, str]:
        steering = prepare(request.settings(), self.workspace, self.loaded, reporter)
        reporter.event(Intervened(**asdict(steering.intervention)))
        reporter.check()
        return {name: self._answer(steering, name, reporter) for name in ANSWERS}

    def _answer(self, steering: Steering, name: str, reporter: Reporter) -> str:
        """Greedy answers are the same every time, so none is generated twice."""
        generated = False

        def generate() -> str:
            nonlocal generated
            generated = True
            return steering.answer(name, reporter)

        text = self._said.get(_identity(steering, name), generate)
        if not generated:
            reporter.event(Token(name, text, cached=True))
        return text

    def sweep(self, request: Sweep, reporter: Reporter) -> list[dict[str, Any]]:
        steering = prepare(request.settings(), self.workspace, self.loaded, reporter)
        says = self._concept(request, steering, reporter)
        points = []
        for point in sweep(steering, request.over, request.values, reporter.check):
            points.append(asdict(point) | {"concept": says(point.answer)})
            reporter.event(Swept(**points[-1]))
            reporter.check()
        return points

    def _concept(self, request: Sweep, steering: Steering, reporter: Reporter) -> Callable[[str], float | None]:
        """How much an answer says the concept of the latent that is swept: their cosine. None where it is not known."""
        if not request.neurons:
            return lambda text: None
        try:
            with self._neurons(request.neurons) as neurons:
                _check_same(neurons, request.sae, steering.sha256)
                space, encoder = self._text_space(neurons, request.device, reporter)
        except UserError as error:
            reporter.event(Warned(f"There is no concept score: {error}"))
            return lambda text: None
        if not space.directions[request.over].any():
            return lambda text: None
        return lambda text: float(space.cosines(embed_text(encoder, [text])[0])[request.over]) if text.strip() else None

    def text(self, request: Text, reporter: Reporter) -> list[tuple[int, float]]:
        if not request.text.strip() or request.top < 1:
            raise UserError("There is nothing to look for: type a text, and ask for at least one latent.")
        with self._neurons(request.neurons) as neurons:
            space, encoder = self._text_space(neurons, request.device, reporter)
        return space.rank(embed_text(encoder, [request.text])[0], request.top)

    def look(self, request: Look, reporter: Reporter) -> dict[str, Any]:
        given, spec, maximum = request.sae, "", None
        pooling: Pooling = "max"
        picture, device = open_image(request.image), pick_device(request.device)
        if request.neurons:
            with self._neurons(request.neurons) as neurons:
                given, spec = given or neurons.summary.sae, neurons.summary.model
                pooling, maximum = neurons.summary.settings.pooling, neurons.maximum
        if not given:
            raise UserError("There is nothing to look through: give an SAE or a neurons file.")
        _, sae, sha256 = self.loaded.sae(self.workspace.existing("saes", given), device, reporter)
        if request.neurons:
            _check_same(neurons, given, sha256)
        spec = spec or sae.config.model
        if not spec or not sae.config.hook:
            raise UserError(f"The SAE {given} does not say what it reads: set model and hook in its config.json.")
        image = picture if isinstance(picture, Image.Image) else Image.new("RGB", PLAIN, picture)
        return look(self.loaded.encoder(spec, device, reporter), sae, image, pooling, maximum)

    def status(self) -> dict[str, Any]:
        loaded = [
            *(("vlm", vlm.spec, vlm.device) for vlm in self.loaded.vlms.values()),
            *(("encoder", encoder.spec, encoder.device) for encoder in self.loaded.encoders.values()),
            *(("sae", one.name, one.sae.W_enc.device) for one in self.loaded.saes.values()),
        ]
        return {
            "loaded": [{"kind": kind, "name": name, "device": str(device)} for kind, name, device in loaded],
            "pid": os.getpid(),
            "rss": _rss(),
            "gpu": _gpu(),
        }

    def _neurons(self, given: str) -> Neurons:
        return Neurons.open(find(given, self.workspace))

    def _text_space(self, neurons: Neurons, device: str, reporter: Reporter) -> tuple[TextSpace, VisionEncoder]:
        """Where the file's latents and texts meet, and the encoder that brings texts there."""
        key = (str(neurons.path), stamp(neurons.path))
        space = self._spaces.get(key, lambda: TextSpace.of(neurons))
        return space, self.loaded.encoder(neurons.summary.model, pick_device(device), reporter)


def _identity(steering: Steering, name: str) -> Hashable:
    """Equal for equal questions to equal models: then the answers are equal as well."""
    image = (steering.image.size, hashlib.sha256(steering.image.tobytes()).hexdigest())
    asked = (weakref.ref(steering.vlm), image, steering.prompt, steering.max_new_tokens)
    one = steering.through(name)
    return (asked, None if one is None else (weakref.ref(steering.sae), one if one.latents else one.control()))


def _check_same(neurons: Neurons, sae: str, sha256: str) -> None:
    """UserError unless the scores are of the SAE with this content hash."""
    if sha256 not in [source.sha256 for source in neurons.provenance.made_from if source.kind == "sae"]:
        raise UserError(f"{neurons.path.name} has the scores of another SAE than {sae}: run saetui score {sae}.")


def _rss() -> int:
    """Resident memory of this process, in bytes."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # no Linux: the largest it ever was
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _gpu() -> dict[str, int] | None:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    free, total = torch.cuda.mem_get_info()
    return {"free": free, "total": total}
