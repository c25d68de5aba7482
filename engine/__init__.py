"""Compute: images -> activations -> SAE -> neurons -> steering. Knows nothing of screens.

Importing ``engine`` costs no torch; what computes is imported when it is first used: ``engine.train`` brings torch,
``engine.Store`` does not.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "engine.errors": ("Stopped", "UserError"),
    "engine.workspace": ("Workspace",),
    "engine.reporter": ("Reporter",),
    "engine.config": (
        "EncodeSettings",
        "ExtractSettings",
        "MsSettings",
        "ScoreSettings",
        "SteerSettings",
        "TrainSettings",
    ),
    "engine.images": ("open_images",),
    "engine.models": ("HookPoint", "TokenPolicy", "load_encoder"),
    "engine.activations.store": ("Store",),
    "engine.activations.extract": ("extract",),
    "engine.sae.model": ("SAE",),
    "engine.sae.train": ("train",),
    "engine.sae.encode": ("encode_store",),
    "engine.metrics.monosemanticity": ("monosemanticity",),
    "engine.neurons.file": ("Neurons",),
    "engine.neurons.score": ("score", "score_together"),
    "engine.models.vlm": ("load_vlm",),
    "engine.steer.generate": ("answer", "answers"),
    "engine.steer.interventions": ("Intervention", "attached"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
