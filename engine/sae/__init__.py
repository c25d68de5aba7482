"""Sparse autoencoders: architectures, training, what is saved of them, latents of activations.

``SAE`` loads torch when it is first used; ``engine.sae.config`` never does.
"""

from typing import Any

__all__ = ["SAE"]


def __getattr__(name: str) -> Any:
    if name == "SAE":
        from engine.sae.model import SAE

        return SAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
