"""What a person steers with, as plain values: the rack of latents and the question, and how they are changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.config import InterventionMode, SteerSettings
from engine.errors import UserError
from engine.neurons.latents import describe
from engine.numbers import exact, typed
from engine.steer.interventions import parse_latents, parse_tokens
from engine.steer.recipes import open_recipe
from engine.workspace import Workspace, neurons_of, saes

UNKNOWN = 10.0  # what a latent without scores is stepped in, as if it were its maximum
STEP, BIG = 0.1, 1.0  # of a latent's own maximum
MOST_DOSES = 100
_SHARED = ("sae", "vlm", "image", "prompt", "mode", "keep_error", "tokens", "max_new_tokens")


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

    def setting(self, mode: InterventionMode) -> str:
        """As ``saetui steer --latent`` takes it."""
        if mode == "ablate":
            return str(self.latent)
        return f"{self.latent}={self.sent(mode):.6g}"

    def in_a_word(self, mode: InterventionMode) -> str:
        """For names and lists: ``pencil+2x``, ``1203-0.5x``, ``pencil=0`` where it is ablated."""
        called = self.name.split(" · ")[0] or str(self.latent)
        if mode == "ablate":
            return f"{called}=0"
        strength = exact(round(self.times, 2))
        return f"{called}{strength if strength.startswith('-') else f'+{strength}'}x"

    def sent(self, mode: InterventionMode) -> float:
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
    mode: InterventionMode = "clamp"
    keep_error: bool = False
    tokens: str = "all"
    max_new_tokens: int = SteerSettings.max_new_tokens
    rack: tuple[Slot, ...] = ()

    @property
    def latents(self) -> tuple[str, ...]:
        return tuple(slot.setting(self.mode) for slot in self.rack if slot.on)

    def settings(self, **more: Any) -> SteerSettings:
        """The same as settings of ``saetui steer``."""
        return SteerSettings(**self._shared, latent=self.latents, **more)

    @property
    def _shared(self) -> dict[str, Any]:
        """What is the same in a setup and in the settings."""
        return {name: getattr(self, name) for name in _SHARED}

    @property
    def lacks(self) -> str:
        """What has to be there before a model can be asked, as a sentence with the way to it; empty when all is."""
        if not self.sae:
            return "There is no SAE to steer with: train or import one (2), or choose one with s."
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
        return repr(self._shared | {"latent": others})

    def of_sae(self, sae: str, neurons: str) -> Setup:
        """With another SAE the rack is empty: its latents are others."""
        return replace(self, sae=sae, neurons=neurons, rack=self.rack if sae == self.sae else ())

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
        return cls(neurons=neurons, rack=tuple(rack), **{name: getattr(settings, name) for name in _SHARED})


class SetupEditor:
    """The present setup, and those before and after it. Changes of the same kind in a row are one step.

    ``show`` is called with the setup before and the present one whenever it is another; ``ask`` after each change of
    which a person wants to see the answer.
    """

    LIMIT = 200  # steps back

    def __init__(self, show: Callable[[Setup, Setup], None], ask: Callable[[], None]):
        self.setup = Setup()
        self._show, self.ask = show, ask
        self._before: list[Setup] = []
        self._after: list[Setup] = []
        self._kind = ""

    def change(self, setup: Setup, kind: str = "") -> None:
        """A person wants ``setup`` now. Changes of the same ``kind`` in a row are undone together."""
        if setup != self.setup:
            self.restore(setup, kind)
            self.ask()

    def restore(self, setup: Setup, kind: str = "") -> None:
        """A person takes back ``setup``, whose answer is known."""
        if not kind or kind != self._kind or not self._before:
            self._before.append(self.setup)
            del self._before[: -self.LIMIT]
        self._kind = kind
        self._after.clear()
        self.become(setup)

    def become(self, setup: Setup) -> None:
        """Show ``setup``, which is no change of a person's own."""
        before, self.setup = self.setup, setup
        if setup != before:
            self._show(before, setup)

    def undo(self) -> bool:
        """Whether there was anything to undo."""
        return self._step(self._before, self._after)

    def redo(self) -> bool:
        return self._step(self._after, self._before)

    def _step(self, source: list[Setup], target: list[Setup]) -> bool:
        if not source:
            return False
        self._kind = ""
        target.append(self.setup)
        self.become(source.pop())
        self.ask()
        return True


def parse_doses(text: str) -> tuple[float, ...]:
    """Multiples of a latent's maximum: ``-1..4`` (in ten steps), ``-1..4 by 0.5``, or a list. UserError otherwise."""
    try:
        doses = _range(text) if ".." in text else _list(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        doses = []
    if not doses or not all(abs(dose) < 1e6 for dose in doses):
        raise UserError(f"{text!r} is no range of strengths: write -1..4, -1..4 by 0.5, or a list like 0 1 2.")
    if len(doses) > MOST_DOSES:
        raise UserError(f"{text!r} are more than {MOST_DOSES} strengths: take larger steps.")
    return tuple(dict.fromkeys(round(dose, 2) for dose in doses))


def _range(text: str) -> list[float]:
    bounds, _, step = text.partition("by")
    low, high = (_dose(bound) for bound in bounds.split(".."))
    by = _dose(step) if step else (high - low) / 10
    count = int((high - low) / by + 1e-9) + 1 if by > 0 else 0
    return [low + i * by for i in range(min(count, 10 * MOST_DOSES))]


def _list(text: str) -> list[float]:
    """Where no number has a point, a comma between digits may be a decimal one, and ends none."""
    between = r"[,\s]+" if "." in text else r",?\s+"
    return [_dose(part) for part in re.split(between, text.strip())]


def _dose(text: str) -> float:
    """ValueError for what is no number."""
    found = typed(text, float)
    if found is None:
        raise ValueError(text)
    return found


def first_setup(workspace: Workspace, defaults: SteerSettings) -> Setup:
    """What the workspace has: its SAE with scores, and what ``defaults`` say of the model and the question."""
    setup = Setup(vlm=defaults.vlm, prompt=defaults.prompt, max_new_tokens=defaults.max_new_tokens)
    names = saes(workspace)
    return setup.of_sae(names[0], neurons_of(workspace, names[0])) if names else setup


def setup_of_recipe(workspace: Workspace, name: str) -> tuple[Setup, str]:
    """The setup of a recipe, and a warning (or nothing) when its SAE is no longer the one that it was saved with."""
    settings, warning = open_recipe(workspace, name)
    neurons = neurons_of(workspace, workspace.existing("saes", settings.sae).name)
    latents = [value.latent for value in parse_latents(settings.latent, settings.mode)]
    return Setup.from_settings(settings, neurons, describe(neurons, latents) if neurons else {}), warning
