"""What one mode asks of another. The app shows the mode that is meant and hands the message to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.message import Message


class ForMode(Message):
    """A message for the mode named ``mode``, whichever is shown when it is sent."""

    mode: ClassVar[str]


@dataclass
class ShowLatents(ForMode):
    """List these latents in Neurons, in this order, under ``title``."""

    mode = "neurons"
    latents: Sequence[int]
    title: str


@dataclass
class SteerLatent(ForMode):
    """Put a latent of an SAE into Steer's rack, at its maximum."""

    mode = "steer"
    latent: int
    sae: str
    neurons: Path
    """The scores that its name and maximum are from."""
    name: str
    maximum: float
