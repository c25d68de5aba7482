"""What the interface and the model server say to each other: one JSON object a line. Imports no torch.

The interface sends a :data:`Request` with a number, or :class:`Cancel`. The server answers with events
(:data:`ServerEvent`) that bear the number of their request; one of :class:`Done`, :class:`Cancelled` and
:class:`Failed` is the last of each.

On the wire: ``{"id": 7, "kind": "answer", "question": {...}}`` and ``{"id": 7, "kind": "token", "answer": ...}``.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any, Literal

from engine.config import SteerSettings
from engine.errors import UserError
from engine.neurons.results import ImageLatents, LatentValues
from engine.records import from_json, parse_json, to_json, union
from engine.reporter import Failed, Intervened, StageBegan, Token, Warned
from engine.runs.memory import Memory
from engine.steer.results import Steered, SweepPoint

# Requests, and the results of those that have one of their own


@dataclass(frozen=True)
class Answer:
    """Ask a model untouched, with the SAE attached, and steered. Without latents the steered answer is the attached.

    Events ``Intervened``, ``StageBegan`` (of an answer) and ``Token``. An answer given before comes at once, as one
    ``cached`` token. Result: ``Steered``.
    """

    question: SteerSettings
    """Its recipe is left out of account."""


@dataclass(frozen=True)
class Sweep:
    """Dose-response: answers over a range of values of one latent, the rest of the rack as it is.

    Events ``PointFound``, the untouched and attached controls first. Result: ``Swept``.
    """

    question: SteerSettings
    over: int
    """The latent whose value is swept."""
    values: tuple[float, ...]
    """Its values, in raw-activation units (factors in mode scale)."""
    neurons: str = ""
    """Scores of the SAE, for the concept score; empty: without it."""


@dataclass(frozen=True)
class RankByText:
    """Rank all latents by free text. Result: ``RankedLatents``."""

    neurons: str
    """Name or path of a neurons file."""
    text: str
    top: int = 200
    device: str = "auto"


@dataclass(frozen=True)
class FindImageLatents:
    """Find the latents that an image fires. Result: ``ImageLatents``."""

    image: str
    """As ``SteerSettings.image``."""
    neurons: str = ""
    """Name or path of a neurons file: its SAE, encoder, pooling and maxima."""
    sae: str = ""
    """Name or path of an SAE; empty: that of the neurons file."""
    device: str = "auto"


@dataclass(frozen=True)
class LoadAhead:
    """Load what a question would need before it is asked, if it is on this machine and there is memory for it. Result:
    ``ServerStatus``."""

    question: SteerSettings


@dataclass(frozen=True)
class TellStatus:
    """Tell what is loaded, and the memory in use. Result: ``ServerStatus``."""


@dataclass(frozen=True)
class Cancel:
    """Stop the request with the number that this bears, or all of them. It is no request: no event answers it."""


@dataclass(frozen=True)
class Swept:
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True)
class RankedLatents:
    latents: LatentValues
    """The nearest to the text, with their cosines."""


@dataclass(frozen=True)
class LoadedModel:
    kind: Literal["vlm", "encoder", "sae"]
    name: str
    device: str


@dataclass(frozen=True)
class ServerStatus:
    loaded: tuple[LoadedModel, ...]
    pid: int
    memory: Memory


Request = Answer | Sweep | RankByText | FindImageLatents | LoadAhead | TellStatus
Result = Steered | Swept | RankedLatents | ImageLatents | ServerStatus


# Events


@dataclass(frozen=True)
class Loading:
    """Something is being loaded; told twice a second, as the libraries that load tell nothing."""

    what: str
    """With its article: the model demo."""
    seconds: float
    """Since it began."""
    bytes: int
    """Size of its files; 0 where that is not known."""


@dataclass(frozen=True)
class PointFound:
    point: SweepPoint


@dataclass(frozen=True)
class Done:
    result: Result


@dataclass(frozen=True)
class Cancelled:
    pass


ServerEvent = Loading | StageBegan | Warned | Intervened | Token | PointFound | Done | Cancelled | Failed
END = (Done, Cancelled, Failed)

_REQUESTS: dict[str, type[Any]] = {
    "answer": Answer,
    "sweep": Sweep,
    "rank_by_text": RankByText,
    "find_image_latents": FindImageLatents,
    "load_ahead": LoadAhead,
    "tell_status": TellStatus,
    "cancel": Cancel,
}
_RESULTS: dict[str, type[Any]] = {
    "steered": Steered,
    "swept": Swept,
    "ranked_latents": RankedLatents,
    "image_latents": ImageLatents,
    "status": ServerStatus,
}
_EVENTS: dict[str, type[Any]] = {
    "loading": Loading,
    "stage": StageBegan,
    "warning": Warned,
    "intervention": Intervened,
    "token": Token,
    "point": PointFound,
    "done": Done,
    "cancelled": Cancelled,
    "failed": Failed,
}


def write_request(number: int | None, message: Request | Cancel) -> bytes:
    """The line of a request; ``number`` is None to cancel all."""
    return _line(number, message, Request | Cancel)


def read_request(line: bytes) -> tuple[int | None, Request | Cancel | UserError]:
    """Number and request of a line; the UserError that answers one which is damaged.

    ValueError for a line that has not even a number.
    """
    number, fields = _numbered(line)
    try:
        return number, from_json(Request | Cancel, fields, "The request")
    except UserError as error:
        return number, error


def write_event(number: int, event: ServerEvent) -> bytes:
    return _line(number, event, ServerEvent)


def read_event(line: bytes) -> tuple[int, ServerEvent]:
    """Number of the request, and an event of it: ``Failed`` for one that is damaged. ValueError for a line that has
    not even a number."""
    number, fields = _numbered(line)
    if number is None:
        raise ValueError("an event without a request")
    try:
        return number, from_json(ServerEvent, fields, "An event of the model server")
    except UserError as error:
        return number, Failed(str(error))


def _numbered(line: bytes) -> tuple[int | None, Any]:
    _know_kinds()
    fields = parse_json(line)
    number = fields.get("id", "") if isinstance(fields, dict) else ""
    if number is not None and type(number) is not int:
        raise ValueError("a message without the number of a request")
    return number, fields


def _line(number: int | None, message: Any, kinds: Any) -> bytes:
    _know_kinds()
    return json.dumps({"id": number, **to_json(message, kinds)}).encode() + b"\n"


@functools.cache
def _know_kinds() -> None:
    """Not on import: who only opens a screen sends nothing yet."""
    union(_RESULTS, Result)
    union(_REQUESTS, Request | Cancel)
    union(_EVENTS, ServerEvent)
