"""What every quantity is that a command, a screen or a report shows: told once, here.

Help, menus, reports and ``--explain`` take their words from here. Costs next to nothing to import.
"""

from engine.explained.explanation import Explanation as Explanation
from engine.explained.latents import LATENT
from engine.explained.saes import SAE
from engine.explained.uses import TESTED

EXPLAINED: dict[str, Explanation] = {**LATENT, **SAE, **TESTED}
"""By the name of the field, where that always means the same."""
