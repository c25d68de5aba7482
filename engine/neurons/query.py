"""What the filter line (:mod:`engine.query`) may ask of latents."""

from engine.neurons.quantities import FIELDS, HEADED, TEXTS
from engine.query import Kind, Language

PROPERTIES: dict[str, tuple[str, ...]] = {
    "marked": ("★",),
    "labelled": ("labeled",),
    "alive": (),
    "dead": (),
    "copies": (),
}
"""What a latent has (1) or has not (0)."""

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(FIELDS, "number"),
    **dict.fromkeys(TEXTS, "text"),
    **dict.fromkeys(PROPERTIES, "property"),
}
LATENTS = Language("Latents", _KINDS, HEADED | TEXTS | PROPERTIES)
