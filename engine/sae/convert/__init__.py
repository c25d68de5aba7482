"""SAEs in the formats of other tools: each file of this folder registers the one that it reads and writes."""

import importlib
import pkgutil

from engine.sae.convert.format import FORMATS, Foreign, Format, Likely, Unsaid, Written

__all__ = ["FORMATS", "Foreign", "Format", "Likely", "Unsaid", "Written"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
