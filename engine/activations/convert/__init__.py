"""Formats in which other tools keep activations, one file each. A further one is a file here and a line below."""

from engine.activations.convert import arrow, npy, pt, saev, tensors
from engine.activations.convert.format import FORMATS, Likely, Part, Parts, PartsFormat, WritableFormat

__all__ = [
    "FORMATS",
    "Likely",
    "Part",
    "Parts",
    "PartsFormat",
    "WritableFormat",
    "arrow",
    "npy",
    "pt",
    "saev",
    "tensors",
]
