"""From one value a latent under every condition to means with intervals, each beside its control."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from engine.metrics.bootstrap import bootstrap
from engine.steer.results import CONDITIONS, Condition, Measured

Values = Mapping[Condition, Float[np.ndarray, " latent"]]
"""NaN for latents without a value."""


def compared(
    values: Values, seed: int, bounds: tuple[float, float], published: Mapping[Condition, float] | None = None
) -> tuple[Measured, ...]:
    """The mean of every condition, and by how much the steered model is ahead of it, latent by latent."""
    width = bounds[1] - bounds[0]
    return tuple(
        Measured(
            name,
            bootstrap(values[name], bounds, seed),
            None if name == "steered" else bootstrap(values["steered"] - values[name], (-width, width), seed),
            (published or {}).get(name),
        )
        for name in CONDITIONS
        if name in values
    )


def mean_of(rows: Sequence[Sequence[float | bool | None]]) -> Float[np.ndarray, " latent"]:
    """Of each latent, the mean of what is known; NaN where nothing is."""
    known = [[float(one) for one in row if one is not None] for row in rows]
    return np.array([np.mean(row) if row else np.nan for row in known], float)


def plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
