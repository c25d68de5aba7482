"""How well an SAE reconstructs, and how sparsely: measured on activations it was not trained on."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from engine.sae.model import SAE

DENSE = 0.1  # a latent that fires on a larger share of the tokens is dense


@dataclass(frozen=True)
class Fidelity:
    """Measurements over all rows seen; ``rows`` of them. Without a row, or without variance, NaN."""

    rows: int
    fve: float
    """1 - sum of squared errors / sum of squared deviations from the mean of all rows."""
    fve_batch: float
    """The same batch by batch, each with its own mean, averaged over batches (printed as R2 by other code); a last
    batch of less than half the size is left out."""
    outliers: float
    """Share of the rows that are longer than ``longest``."""
    outlier_variance: float
    """Their share of the sum of squared deviations from the mean of all rows."""
    fve_without_outliers: float
    """FVE of the other rows, about their own mean. A few rows of a hundredfold norm carry most of the variance: an SAE
    that gives back these alone has a high FVE."""
    l0: float
    """Mean number of active latents per token."""
    cosine: float
    """Mean cosine between activation and reconstruction."""
    dead: float
    """Share of latents that fire on no row."""
    dense: float
    """Share of latents that fire on more than a tenth of the rows."""
    frequency: NDArray[np.float64]
    """Share of the rows on which each latent fires, (w)."""


@torch.no_grad()
def measure(
    sae: SAE,
    batches: Iterable[Float[Tensor, "_ d"]],
    watch: Callable[[Float[Tensor, "_ w"]], None] | None = None,
    longest: float = math.inf,
) -> Fidelity:
    """Fidelity of ``sae`` on batches of raw activations on its device; waits for the device once, at the end.

    ``watch`` sees the latents of each batch, so that whoever else needs them does not encode again. Rows with a
    Euclidean norm above ``longest`` are outliers.
    """
    sums, sizes, totals, rest, rest_totals = [], [], [], [], []
    fired = torch.zeros(sae.config.w, dtype=torch.int64, device=sae.W_enc.device)
    for x in batches:
        a = sae.encode(x)
        if watch is not None:
            watch(a)
        x_hat = sae.decode(a)
        active = a > 0
        fired += active.sum(0)
        centred = x - sae.b_dec  # a shift near the mean, so that float32 sums of squares lose nothing
        total = centred.sum(0)
        sums.append(
            torch.stack(
                [
                    (x - x_hat).pow(2).sum(),
                    (centred - total / len(x)).pow(2).sum(),
                    torch.nn.functional.cosine_similarity(x, x_hat, dim=1).sum(),
                ]
            )
        )
        totals.append(total)
        sizes.append(len(x))
        if longest < math.inf:
            kept = (x.norm(dim=1) <= longest).to(x.dtype).unsqueeze(1)
            total_kept, n_kept = (centred * kept).sum(0), kept.sum()
            spread = ((centred - total_kept / n_kept.clamp(min=1)) * kept).pow(2).sum()
            rest.append(torch.stack([n_kept, ((x - x_hat) * kept).pow(2).sum(), spread]))
            rest_totals.append(total_kept)
    rows = sum(sizes)
    if not rows:
        nan = float("nan")
        return Fidelity(0, nan, nan, nan, nan, nan, nan, nan, nan, nan, np.full(sae.config.w, nan))
    n = np.array(sizes, dtype=np.float64)
    error, within, cosine = torch.stack(sums).cpu().double().numpy().T
    sum_of = torch.stack(totals).cpu().double().numpy()
    overall = sum_of.sum(0) / rows
    deviation = _deviation(within, n, sum_of, overall)
    fve = float(1 - error.sum() / deviation) if deviation > 0 else float("nan")
    outliers, outlier_variance, fve_without = 0.0, 0.0, fve
    if rest:
        n_kept, error_kept, within_kept = torch.stack(rest).cpu().double().numpy().T
        sum_kept = torch.stack(rest_totals).cpu().double().numpy()
        outliers = float(1 - n_kept.sum() / rows)
        if outliers:
            own = _deviation(within_kept, n_kept, sum_kept, sum_kept.sum(0) / max(n_kept.sum(), 1))
            about_all = _deviation(within_kept, n_kept, sum_kept, overall)
            outlier_variance = float(1 - about_all / deviation) if deviation > 0 else float("nan")
            fve_without = float(1 - error_kept.sum() / own) if own > 0 else float("nan")
    frequency = fired.cpu().double().numpy() / rows
    full = n >= n.max() / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return Fidelity(
            rows=rows,
            fve=fve,
            fve_batch=float(np.mean(1 - error[full] / within[full])) if (within[full] > 0).all() else float("nan"),
            outliers=outliers,
            outlier_variance=outlier_variance,
            fve_without_outliers=fve_without,
            l0=float(frequency.sum()),
            cosine=float(cosine.sum() / rows),
            dead=float((frequency == 0).mean()),
            dense=float((frequency > DENSE).mean()),
            frequency=frequency,
        )


def _deviation(
    within: Float[np.ndarray, " b"],
    rows: Float[np.ndarray, " b"],
    totals: Float[np.ndarray, "b d"],
    mean: Float[np.ndarray, " d"],
) -> float:
    """Sum of squared deviations from ``mean``: within batches, and of the batches' own means."""
    means = totals / np.maximum(rows, 1)[:, None]
    return float(within.sum() + rows @ ((means - mean) ** 2).sum(1))
