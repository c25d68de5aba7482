"""Dose and damage: what each strength of a latent gains, what it costs, and which one is worth it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.config import SteerabilitySettings, SteerSettings
from engine.errors import UserError
from engine.numbers import exact
from engine.reporter import Reporter, Warned
from engine.steer.recipes import keep_recipe
from engine.steer.results import Dose, DosePoint
from engine.steer.steerability.asking import Asker, Picture
from engine.steer.steerability.conditions import Conditions
from engine.steer.steerability.one_word import Directions, words
from engine.steer.steerability.space import Space
from engine.steer.steerability.subjects import Subject
from engine.workspace import Workspace


def doses(
    asker: Asker,
    conditions: Conditions,
    subjects: Sequence[Subject],
    multiples: Sequence[float],
    prompts: Sequence[str],
    picture: Picture,
    space: Space,
    directions: Directions,
    most_damage: float,
) -> tuple[Dose, ...]:
    """Of each latent, what ``multiples`` of its largest activation do, beside the two controls."""
    shared = [conditions.untouched, conditions.attached]
    own = {one: [conditions.steered(one, times * one.maximum) for times in sorted(set(multiples))] for one in subjects}
    changes = [*shared, *(change for some in own.values() for change in some)]
    told = words(asker, changes, [picture], space, "strengths: words")
    costs = asker.damage(picture, prompts, changes, "strengths: damage")
    damage = {change.known_by: cost for change, cost in zip(changes, costs, strict=True)}
    found = []
    for one in subjects:
        points = tuple(
            DosePoint(
                change.condition,
                change.value,
                float(told[change.known_by][0] @ directions[one.latent]),
                damage[change.known_by],
            )
            for change in (*shared, *own[one])
        )
        found.append(Dose(one.latent, points, *recommended(points, most_damage)))
    return tuple(found)


def recommended(points: Sequence[DosePoint], most_damage: float) -> tuple[float | None, float | None]:
    """The value with the largest ``concept`` above the attached control among those whose damage is ``most_damage`` at
    most, and that gain; of equals the smallest value. None and None where nothing is gained."""
    attached = next(one.concept for one in points if one.condition == "attached")
    gains = {
        one.value: one.concept - attached
        for one in points
        if one.condition == "steered" and one.value is not None and one.damage <= most_damage and one.concept > attached
    }
    if not gains:
        return None, None
    best = max(sorted(gains), key=lambda value: gains[value])
    return best, gains[best]


def kept(
    found: Sequence[Dose], settings: SteerabilitySettings, sae: str, workspace: Workspace, reporter: Reporter
) -> tuple[Dose, ...]:
    """``found`` with the recipes that were saved for it."""
    if not settings.save_recipes:
        return tuple(found)
    saved: Mapping[int, str] = {
        one.latent: _save(one.latent, one.recommended, settings, sae, workspace, reporter)
        for one in found
        if one.recommended is not None
    }
    return tuple(replace(one, recipe=saved.get(one.latent, "")) for one in found)


def _save(
    latent: int, value: float, settings: SteerabilitySettings, sae: str, workspace: Workspace, reporter: Reporter
) -> str:
    """The name of the recipe; empty, and a warning, where another one has it."""
    name = f"{settings.save_recipes}-{latent}"
    asked = SteerSettings(
        sae=sae,
        vlm=settings.vlm,
        image=settings.image,
        latent=(f"{latent}={exact(float(f'{value:.6g}'))}",),
        keep_error=settings.keep_error,
        save_recipe=name,
    )
    try:
        keep_recipe(workspace, asked)
    except UserError as error:
        reporter.event(Warned(str(error)))
        return ""
    return name
