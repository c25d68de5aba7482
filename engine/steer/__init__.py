"""Turn latents up and down inside a vision-language model, and read what it says then.

The names below load torch when they are first used; the modules ``interventions`` and ``recipes`` never do.
"""

from typing import Any

_HOMES = {
    "Intervention": "engine.steer.interventions",
    "answer": "engine.steer.generate",
    "answers": "engine.steer.generate",
    "attached": "engine.steer.interventions",
    "load_vlm": "engine.models.vlm",
    "next_token_kl": "engine.steer.generate",
    "steer": "engine.steer.compare",
}
__all__ = ["Intervention", "answer", "answers", "attached", "load_vlm", "next_token_kl", "steer"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
