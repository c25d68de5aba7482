"""Who says what a text is about: judges of steered answers, one file each, by name. Costs no torch until one is loaded.

``text`` compares embeddings, offline; ``demo`` parses what the demo's model says, exactly; ``chat`` asks a local
instruction model; ``endpoint`` asks a server, and is the only one that uses a network.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from engine.config import SteerabilitySettings
from engine.reporter import Reporter
from engine.steer.results import QuestionKind

MODULES = {
    "text": "engine.steer.judges.text",
    "demo": "engine.demo.judge",
    "chat": "engine.steer.judges.chat",
    "endpoint": "engine.steer.judges.endpoint",
}
"""Where each judge is: the module's function ``load`` makes it of a :class:`Given`."""


@dataclass(frozen=True)
class Case:
    """One question to a judge about one answer."""

    kind: QuestionKind
    concept: str
    prompt: str
    answer: str
    untouched: str = ""
    """What the untouched model answers to the same prompt about the same image."""
    others: tuple[str, ...] = ()
    """What it answers to the other prompts."""


@dataclass(frozen=True)
class Verdict:
    yes: bool | None
    """None where the judge does not say."""
    said: str = ""
    """In words, of a judge that has any."""
    score: float | None = None
    """What it is decided by, of a judge that counts."""


@runtime_checkable
class Judge(Protocol):
    name: str
    """As the settings call it."""
    model: str
    """What it reads with."""
    identity: str
    """Changes whenever its verdicts may."""
    asks: Mapping[str, str]
    """The question of each kind, or the rule, in words."""

    def judge(self, cases: Sequence[Case]) -> list[Verdict]: ...


@dataclass(frozen=True)
class Given:
    """What judges are made of."""

    settings: SteerabilitySettings
    embed: Callable[[list[str]], Any]
    """Texts as rows (text, D) of an array, in the space of the images."""
    embeds_with: str
    """The encoder that does."""
    embeds_sha256: str
    vocabulary: Sequence[str]
    """Words with which latents were named."""
    device: Any
    reporter: Reporter


def named(settings: SteerabilitySettings) -> tuple[str, ...]:
    """The judges that ``settings`` ask for, each once."""
    own = "demo" if settings.vlm == "demo" else "text"
    return tuple(dict.fromkeys(own if name == "auto" else name for name in settings.judge))


def load(name: str, given: Given) -> Judge:
    """The judge ``name``. UserError without its model."""
    judge: Judge = importlib.import_module(MODULES[name]).load(given)
    return judge
