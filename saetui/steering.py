"""What a person steers with, as plain values: the rack of latents, the question, and the versions tried so far."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.config import Mode, SteerSettings, from_mapping, to_mapping
from engine.errors import UserError
from engine.steer.interventions import parse_latents, parse_tokens
from engine.workspace import write_text

ANSWERS = ("untouched", "attached", "steered")
Answers = dict[str, str]
UNKNOWN = 10.0  # what a latent without scores is stepped in, as if it were its maximum
STEP, BIG = 0.1, 1.0  # of a latent's own maximum
MOST_DOSES = 100
KEPT = 1_000  # versions of a workspace


@dataclass(frozen=True)
class Slot:
    """A latent in the rack."""

    latent: int
    value: float = 0.0
    """In raw-activation units."""
    on: bool = True
    maximum: float = 0.0
    """Its largest activation on the images that it was scored on; 0 where that is not known."""
    name: str = ""

    @property
    def unit(self) -> float:
        return self.maximum or UNKNOWN

    @property
    def times(self) -> float:
        """The value as a multiple of the unit, which is also the factor in mode scale."""
        return self.value / self.unit

    def at(self, times: float) -> Slot:
        """Set to that multiple of the unit, to a hundredth: steps do not add up errors."""
        return replace(self, value=round(times, 2) * self.unit)

    def setting(self, mode: Mode) -> str:
        """As ``saetui steer --latent`` takes it."""
        if mode == "ablate":
            return str(self.latent)
        return f"{self.latent}={self.sent(mode):.6g}"

    def sent(self, mode: Mode) -> float:
        return self.times if mode == "scale" else self.value


@dataclass(frozen=True)
class Setup:
    """A question to a model about an image, and the latents that are changed meanwhile."""

    sae: str = ""
    vlm: str = ""
    neurons: str = ""
    """Path of the scores that names and maxima are from; may be empty."""
    image: str = "blank"
    prompt: str = SteerSettings.prompt
    mode: Mode = "clamp"
    keep_error: bool = False
    tokens: str = "all"
    max_new_tokens: int = SteerSettings.max_new_tokens
    rack: tuple[Slot, ...] = ()

    @property
    def latents(self) -> tuple[str, ...]:
        return tuple(slot.setting(self.mode) for slot in self.rack if slot.on)

    def settings(self, **more: Any) -> SteerSettings:
        """The same as settings of ``saetui steer``."""
        return SteerSettings(**self.question, **more)

    @property
    def question(self) -> dict[str, Any]:
        """The fields of the model server's requests."""
        shared = ("sae", "vlm", "image", "prompt", "mode", "keep_error", "tokens", "max_new_tokens")
        return {name: getattr(self, name) for name in shared} | {"latent": self.latents}

    @property
    def lacks(self) -> str:
        """What has to be there before a model can be asked, as a sentence with the way to it; empty when all is."""
        if not self.sae:
            return "There is no SAE to steer with: train one (2), or choose one with s."
        if not self.vlm:
            return "There is no vision-language model: M names one (hf:ORG/NAME, a directory, or demo)."
        return ""

    def with_latent(self, slot: Slot) -> Setup:
        """``slot`` in the rack: at its end, or in place of the same latent."""
        if slot.latent in [s.latent for s in self.rack]:
            return replace(self, rack=tuple(slot if s.latent == slot.latent else s for s in self.rack))
        return replace(self, rack=(*self.rack, slot))

    def without(self, latent: int) -> str:
        """All but the place of ``latent`` in the rack, to be compared: what a sweep of it leaves as it is."""
        others = [slot.setting(self.mode) for slot in self.rack if slot.on and slot.latent != latent]
        return repr(self.question | {"latent": others})

    def of_sae(self, sae: str, neurons: str) -> Setup:
        """With another SAE the rack is empty: its latents are others."""
        return replace(self, sae=sae, neurons=neurons, rack=self.rack if sae == self.sae else ())

    def to_mapping(self) -> dict[str, Any]:
        """As JSON values."""
        return to_mapping(self) | {"rack": [to_mapping(slot) for slot in self.rack]}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Setup:
        """UserError for what was not written by ``to_mapping``."""
        where = "A kept setup"
        rack = values.get("rack", [])
        if not isinstance(rack, list) or not all(isinstance(slot, dict) for slot in rack):
            raise UserError(f"{where}: its rack is damaged.")
        plain = from_mapping(cls, {key: value for key, value in values.items() if key != "rack"}, where)
        return replace(plain, rack=tuple(from_mapping(Slot, slot, where) for slot in rack))

    @classmethod
    def from_settings(cls, settings: SteerSettings, neurons: str, known: Mapping[int, tuple[str, float]]) -> Setup:
        """Of a recipe. ``known``: name and maximum of its latents. UserError for a multiple of an unknown maximum."""
        parse_tokens(settings.tokens)
        rack = []
        for wanted in parse_latents(settings.latent, settings.mode):
            name, maximum = known.get(wanted.latent, ("", 0.0))
            slot = Slot(wanted.latent, maximum=maximum, name=name)
            if wanted.relative and not maximum:
                raise UserError(f"The maximum of latent {wanted.latent} is not known: score {settings.sae} first.")
            factor = wanted.relative or settings.mode == "scale"
            rack.append(replace(slot, value=wanted.value * slot.unit if factor else wanted.value))
        shared = ("sae", "vlm", "image", "prompt", "mode", "keep_error", "tokens", "max_new_tokens")
        return cls(neurons=neurons, rack=tuple(rack), **{name: getattr(settings, name) for name in shared})


@dataclass(frozen=True)
class Version:
    """A setup, and what was answered."""

    setup: Setup
    answers: Answers
    time: float = 0.0
    """Seconds since the epoch."""

    def text(self) -> str:
        """To be pasted somewhere else."""
        setup = self.setup
        rack = [f"  {slot.setting(setup.mode)}  {slot.name}".rstrip() for slot in setup.rack if slot.on]
        lines = [
            f"SAE {setup.sae}, model {setup.vlm}, image {setup.image}",
            f"prompt: {setup.prompt}",
            f"mode {setup.mode}, tokens {setup.tokens}, {setup.max_new_tokens} new tokens, "
            f"error {'kept' if setup.keep_error else 'dropped'}",
            *(["latents:", *rack] if rack else ["no latent changed"]),
            *(f"{name}: {self.answers.get(name, '')}" for name in ANSWERS),
        ]
        return "\n".join(lines) + "\n"

    def to_mapping(self) -> dict[str, Any]:
        return {"setup": self.setup.to_mapping(), "answers": dict(self.answers), "time": self.time}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Version:
        """UserError for what was not written by ``to_mapping``."""
        setup, answers = values.get("setup"), values.get("answers")
        if not isinstance(setup, dict) or not isinstance(answers, dict):
            raise UserError("A kept version is damaged.")
        said = {name: str(answers.get(name, "")) for name in ANSWERS}
        return cls(Setup.from_mapping(setup), said, float(values.get("time", 0.0)))


class Versions:
    """The last ``KEPT`` versions of a workspace, a JSON line each. For threads: every call reads or writes a file."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()

    def read(self) -> list[Version]:
        """The newest first. Lines that are torn or damaged are passed over; a file that is missing is empty."""
        try:
            with open(self.path, "rb") as file:
                lines = deque(file, KEPT)
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(Version.from_mapping(json.loads(line)))
            except (ValueError, TypeError, AttributeError, UserError):
                continue
        return found[::-1]

    def add(self, version: Version) -> None:
        """Append it; of a file that has grown to twice ``KEPT`` lines the older half is dropped. Raises OSError."""
        line = json.dumps(version.to_mapping()) + "\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as file:
                file.seek(0)
                lines = file.readlines()
                torn = bool(lines) and not lines[-1].endswith(b"\n")
                file.write(b"\n" * torn + line.encode())
            if len(lines) >= 2 * KEPT:
                kept = [old.decode(errors="replace") for old in lines[-KEPT + 1 :]]
                write_text(self.path, "".join([*kept, line]), durable=False)


@dataclass
class Undo:
    """Setups before and after the present one. Changes of the same kind in a row are one step."""

    limit: int = 200
    _before: list[Setup] = field(default_factory=list)
    _after: list[Setup] = field(default_factory=list)
    _kind: str = ""

    def changed(self, old: Setup, kind: str = "") -> None:
        """``old`` is being replaced by a change of that ``kind``; one without a kind stands for itself."""
        if not kind or kind != self._kind or not self._before:
            self._before.append(old)
            del self._before[: -self.limit]
        self._kind = kind
        self._after.clear()

    def undo(self, present: Setup) -> Setup | None:
        return self._step(self._before, self._after, present)

    def redo(self, present: Setup) -> Setup | None:
        return self._step(self._after, self._before, present)

    def _step(self, source: list[Setup], target: list[Setup], present: Setup) -> Setup | None:
        if not source:
            return None
        self._kind = ""
        target.append(present)
        return source.pop()


def parse_doses(text: str) -> tuple[float, ...]:
    """Multiples of a latent's maximum: ``-1..4`` (in ten steps), ``-1..4 by 0.5``, or a list. UserError otherwise."""
    try:
        doses = _range(text) if ".." in text else [float(part) for part in text.replace(",", " ").split()]
    except (ValueError, ZeroDivisionError, OverflowError):
        doses = []
    if not doses or not all(abs(dose) < 1e6 for dose in doses):
        raise UserError(f"{text!r} is no range of strengths: write -1..4, -1..4 by 0.5, or a list like 0 1 2.")
    if len(doses) > MOST_DOSES:
        raise UserError(f"{text!r} are more than {MOST_DOSES} strengths: take larger steps.")
    return tuple(dict.fromkeys(round(dose, 2) for dose in doses))


def _range(text: str) -> list[float]:
    bounds, _, step = text.partition("by")
    low, high = (float(bound) for bound in bounds.split(".."))
    by = float(step) if step else (high - low) / 10
    count = int((high - low) / by + 1e-9) + 1 if by > 0 else 0
    return [low + i * by for i in range(min(count, 10 * MOST_DOSES))]
