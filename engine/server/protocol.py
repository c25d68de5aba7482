"""What the interface may ask of the model server (``engine.server``). Imports no torch.

Each request is a frozen dataclass; ``name_of`` is what it is called on the wire.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from engine.config import InterventionMode, SteerSettings, setting


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question to a model about an image, and a rack of latents; the settings of ``saetui steer``."""

    sae: str = setting("Name or path of the SAE.")
    vlm: str = setting("LLaVA-class model: hf:REPO, a local directory, or demo.")
    prompt: str = setting("What to ask.", "Describe this image.")
    image: str = setting("Image file; SOURCE::PATH for one of an image source; blank or blank:COLOUR.", "blank")
    latent: tuple[str, ...] = setting("The rack: LATENT=VALUE each.", ())
    mode: InterventionMode = setting("What VALUE does: set (clamp), add, scale, or ablate to 0.", "clamp")
    keep_error: bool = setting("Add the SAE's reconstruction error back.", False)
    tokens: str = setting("Visual tokens to steer: all, or indices like 0,3,5-9.", "all")
    max_new_tokens: int = setting("Length of an answer at most.", 24)
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto")
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = setting("Precision of the model.", "auto")

    def settings(self) -> SteerSettings:
        return SteerSettings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Question)})


@dataclass(frozen=True, kw_only=True)
class Answer(Question):
    """The answers untouched, attached and steered.

    Events ``token`` (answer, text, perhaps cached). Result: the three texts by name. An answer given before comes at
    once, as one token with ``cached``.
    """


@dataclass(frozen=True, kw_only=True)
class Sweep(Question):
    """Dose-response: answers over a range of values of one latent, the rest of the rack as it is.

    Events ``point`` (answer_of, value, answer, damage, concept), the untouched and attached controls first (value
    None). Result: all points. ``engine.steer.sweep`` defines the quantities.
    """

    over: int = setting("The latent whose value is swept.")
    values: tuple[float, ...] = setting("Its values, in raw-activation units (factors in mode scale).")
    neurons: str = setting("Scores of the SAE, for the concept score (empty: without it).", "")


@dataclass(frozen=True, kw_only=True)
class Text:
    """All latents ranked by free text. Result: the nearest, pairs of latent and cosine."""

    neurons: str = setting("Name or path of a neurons file.")
    text: str = setting("What to look for.")
    top: int = setting("How many latents.", 200)
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto")


@dataclass(frozen=True, kw_only=True)
class Look:
    """The latents that an image fires. Result: see ``engine.neurons.image_latents``."""

    image: str = setting("Image file; SOURCE::PATH for one of an image source; blank or blank:COLOUR.")
    neurons: str = setting("Name or path of a neurons file: its SAE, encoder, pooling and maxima.", "")
    sae: str = setting("Name or path of an SAE (empty: that of the neurons file).", "")
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto")


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is loaded, and memory.

    Result: ``loaded`` (kind, name, device), ``pid``, ``rss`` (bytes), ``gpu`` (free and total bytes; None before CUDA
    is in use).
    """


Request = Answer | Sweep | Text | Look | Status
REQUESTS: dict[str, type[Request]] = {
    "answer": Answer,
    "sweep": Sweep,
    "text": Text,
    "look": Look,
    "status": Status,
}
CANCEL = "cancel"  # with the id of a request, or None for all: no request, it gets no answer of its own


def name_of(request: Request) -> str:
    return type(request).__name__.lower()
