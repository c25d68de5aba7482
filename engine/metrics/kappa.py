"""How far two judges agree."""

import numpy as np
from jaxtyping import Bool

from engine.metrics.results import Concord


def concord(one: Bool[np.ndarray, " case"], other: Bool[np.ndarray, " case"]) -> Concord:
    """Share p of cases in which both say the same, and Cohen's kappa = (p - e) / (1 - e).

    e = y y' + (1 - y)(1 - y'), with y and y' the shares of cases to which each says yes: how often two would agree that
    say yes as often, each on its own. (Cohen, Educational and Psychological Measurement 20, 1960.)
    """
    n = len(one)
    if not n:
        return Concord(0, None, None)
    p, y, z = float((one == other).mean()), float(one.mean()), float(other.mean())
    by_chance = y * z + (1 - y) * (1 - z)
    return Concord(n, p, (p - by_chance) / (1 - by_chance) if by_chance < 1 else None)
