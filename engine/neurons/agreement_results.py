"""What the benchmark of human agreement says, and what was published. Costs no torch."""

from dataclasses import dataclass

from engine.metrics.results import Agreement


@dataclass(frozen=True)
class ScoreAgreement:
    """Of one score of latents with what people chose."""

    score: str
    agreement: Agreement


@dataclass(frozen=True)
class Agreed:
    """Result of the command ``agreement``."""

    pairs: int
    undecided: int
    """Pairs of which people chose neither."""
    scores: tuple[ScoreAgreement, ...]


PUBLISHED = (0.56, 0.66, 0.71, 0.81, 0.85, 0.93, 0.94, 0.96, 1.00)
"""Agreement of MS by DINOv2 in each bin of distance (arXiv 2504.02821), ..."""
PUBLISHED_PAIRS = (177, 139, 126, 138, 121, 90, 105, 63, 41)
"""... how many pairs each has, ..."""
PUBLISHED_MEAN = 0.828
"""... and their mean, over bins."""
PUBLISHED_WEIGHTED = sum(a * n for a, n in zip(PUBLISHED, PUBLISHED_PAIRS, strict=True)) / sum(PUBLISHED_PAIRS)
