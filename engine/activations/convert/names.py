"""What the code of arXiv 2504.02821 says in the names that it gives to files and folders."""

import re
from pathlib import Path

from engine.activations.convert.format import Likely

_RUN = re.compile(
    r"activations_(?P<model>[A-Za-z0-9.-]+)_(?P<layer>-?\d+)_(?P<point>post_mlp_residual|post_projection)"
)
_OWNERS = {"clip": "openai", "siglip": "google", "dinov2": "facebook"}


def likely_of(path: Path) -> dict[str, Likely]:
    """Model, hook point and tokens, as far as the name of ``path`` or of a folder around it says them."""
    whole = str(path.resolve())
    found = _RUN.search(whole)
    if not found:
        return {}
    model, layer, point = found["model"], int(found["layer"]), found["point"]
    why = f"its path holds ...{found[0]}..."
    likely = {"hook": Likely("last" if point == "post_projection" else f"layer:{layer}", why)}
    if owner := _OWNERS.get(model.split("-")[0]):
        likely["model"] = Likely(f"hf:{owner}/{model}", why)
    if chosen := re.search(r"random_k_(\d+)", whole):
        likely["tokens"] = Likely(f"random:{chosen[1]}", f"it lies below {chosen[0]}")
    return likely
