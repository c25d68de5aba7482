"""What ``report`` and ``figure`` return."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reported:
    path: str
    """The page."""
    bytes: int
    latents: int
    """In its gallery."""
    found: int
    """That were asked for; more where ``top`` is less."""
    pictures: int
    """Different images, each of which it holds once."""
    answers: int
    """Steered, with their controls."""
    missing: tuple[str, ...] = ()
    """What is not in it and why, each a sentence."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    path: str
    """The figure."""
    of: tuple[str, ...]
    """The SAEs that it shows."""
