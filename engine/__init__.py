"""Compute: images -> activations -> SAE -> neurons -> steering. Knows nothing of screens.

Importing ``engine`` costs no torch; the functions that compute import it when they are first used.
"""

__version__ = "0.1.0"
