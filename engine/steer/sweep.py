"""Dose-response: what a model says, and what it costs, as one latent is turned up."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from engine.errors import UserError
from engine.steer.compare import Steering
from engine.steer.generate import answers, next_token_kl
from engine.steer.interventions import Intervention, check
from engine.steer.results import AnswerName, SweepPoint

BATCH = 8  # points generated together: the first are shown before the last are begun


def sweep(
    steering: Steering, latent: int, values: Sequence[float], stop: Callable[[], None] | None = None
) -> Iterator[SweepPoint]:
    """The two controls, then ``steering`` with ``latent`` at each of ``values``; its other latents stay as they are.

    ``stop`` is called after every token; what it raises ends the sweep. UserError for a latent that there is not, no
    values, or mode ablate, which has none.
    """
    if steering.intervention.mode == "ablate":
        raise UserError("Mode ablate always sets 0, there is nothing to sweep: choose clamp, add or scale.")
    if not values or not all(math.isfinite(value) for value in values):
        raise UserError("A sweep needs values: give at least one number, and only finite ones.")
    others = tuple(pair for pair in steering.intervention.latents if pair[0] != latent)
    doses = [replace(steering.intervention, latents=(*others, (latent, value))) for value in values]
    check(steering.vlm, steering.sae, *doses)
    rungs: list[tuple[AnswerName, float | None, Intervention | None]] = [
        ("untouched", None, None),
        ("attached", None, steering.intervention.control()),
        *(("steered", value, dose) for value, dose in zip(values, doses, strict=True)),
    ]
    for start in range(0, len(rungs), BATCH):
        part = rungs[start : start + BATCH]
        interventions = [one for _, _, one in part]
        said = _answers(steering, interventions, stop)
        for (name, value, _), text, damage in zip(part, said, _damage(steering, interventions), strict=True):
            yield SweepPoint(name, value, text, damage)


def _answers(
    steering: Steering, interventions: list[Intervention | None], stop: Callable[[], None] | None
) -> list[str]:
    images = [steering.image] * len(interventions)
    return answers(
        steering.vlm,
        images,
        steering.prompt,
        steering.max_new_tokens,
        sae=steering.sae,
        interventions=interventions,
        check=stop,
    )


def _damage(steering: Steering, interventions: list[Intervention | None]) -> list[float]:
    given = [one for one in interventions if one is not None]
    damage = iter(next_token_kl(steering.vlm, steering.image, steering.prompt, steering.sae, given).tolist())
    return [0.0 if one is None else next(damage) for one in interventions]
