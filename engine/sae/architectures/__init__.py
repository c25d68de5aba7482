"""The architectures by name: each file of this folder registers the one that it defines.

``engine.config.ArchitectureName`` lists the names for settings, which must be known without torch; a test holds that
it is this list.
"""

import importlib
import pkgutil

from engine.config import TrainSettings
from engine.sae.training_sae import REGISTRY, Architecture

__all__ = ["REGISTRY", "architecture"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def architecture(settings: TrainSettings, w: int) -> Architecture:
    """The architecture that the settings describe, for a dictionary of ``w`` latents."""
    return REGISTRY[settings.arch].of(settings, w)
