"""What a workspace holds: a reader for each artefact, the listing of all, one with the chain that it came from."""

from engine.artefacts.entries import Origin
from engine.artefacts.listing import Inventory, first_source, inventory, sources
from engine.artefacts.provenance import Description, describe, find

__all__ = ["Description", "Inventory", "Origin", "describe", "find", "first_source", "inventory", "sources"]
