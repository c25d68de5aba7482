"""What the report tells of a number: its formula, how much it was measured on, and which file says it."""

from dataclasses import dataclass, replace

from engine.errors import counted
from engine.explained import EXPLAINED
from engine.neurons.quantities import FIELDS
from engine.neurons.results import Summary


@dataclass(frozen=True)
class Explained:
    """What is told of a number on hover and focus."""

    title: str
    formula: str
    n: str = ""
    """What it was measured on; ``{support}`` stands for the images that fire the latent."""
    source: str = ""
    """File of the workspace, and the place in it."""


@dataclass(frozen=True)
class Number:
    """A number as it is shown. ``about``: which of the explanations is its own."""

    text: str
    about: str
    n: str = ""
    """Its own sample size, where that differs from the one explained."""


def explanations(where: dict[str, tuple[str, str]]) -> dict[str, Explained]:
    """Those that are asked for in ``where``: sample size and source of each, by its key."""
    return {key: replace(_formula(key), n=n, source=source) for key, (n, source) in where.items()}


def _formula(key: str) -> Explained:
    told = EXPLAINED.get(key) or FIELDS[key].told
    return Explained(told.title, told.formula)


_OF_IMAGES = ("frequency", "token_frequency", "maximum", "mean")  # though patches be scored


def of_fields(summary: Summary, source: str) -> dict[str, tuple[str, str]]:
    """Sample size and source of every field that a latent has. ``source``: the neurons file."""
    n = f"{summary.in_units(summary.units)}, of which {{support}} fire it"
    whole = n if summary.patches is None else counted(summary.images, "image")
    return {
        field: (whole if field in _OF_IMAGES else n, f"{source}: {_kept(quantity.name, bool(quantity.dtype))}")
        for field, quantity in FIELDS.items()
    }


def _kept(name: str, kept: bool) -> str:
    return f"latents/{name}" if kept else f"{name}, from others there"
