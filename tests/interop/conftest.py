"""These tests need other tools; where they are not installed there is nothing to collect."""

import contextlib
import importlib.util

if importlib.util.find_spec("sae_lens") is None:
    collect_ignore = ["test_activations.py", "test_other_tools.py"]

with contextlib.suppress(ImportError):  # overcomplete 0.3 asks for a function that newer versions call otherwise
    import matplotlib as mpl
    from matplotlib import cm

    if not hasattr(cm, "get_cmap"):
        cm.get_cmap = mpl.colormaps.get_cmap
