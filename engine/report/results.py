"""What ``report``, ``figure`` and the comparison with the paper return."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reported:
    path: str
    """The page."""
    bytes: int
    latents: int
    """In its gallery."""
    found: int
    """That were asked for; more where ``top`` is less."""
    pictures: int
    """Different images, each of which it holds once."""
    answers: int
    """Steered, with their controls."""
    missing: tuple[str, ...] = ()
    """What is not in it and why, each a sentence."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    path: str
    """The figure."""
    of: tuple[str, ...]
    """The SAEs, or results, that it shows."""


@dataclass(frozen=True)
class PaperCell:
    published: float
    ours: float | None = None
    """None where no SAE of the workspace is of this cell, or was not measured; never a guess."""
    difference: float | None = None
    """Ours less the published."""
    control: float | None = None
    """Of a mean MS, that of matched raw neurons; of raw neurons, all pairs of images; of a depth, random images; of
    steering, the SAE attached and no latent changed."""
    twin: float | None = None
    """Of FVE and MS, that of the best frozen twin; of several SAEs the mean, None unless all have one."""
    n: str = ""
    """Over how many latents, neurons, rows or pairs ours is."""
    saes: tuple[str, ...] = ()
    """Whose mean ours is."""
    low: float | None = None
    """As ``high``, of the interval of ours over what n counts, the SAEs as they are; None where it is not known."""
    high: float | None = None


@dataclass(frozen=True)
class PaperTable:
    title: str
    across: str
    """What differs from column to column."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[PaperCell, ...]], ...]
    notes: tuple[str, ...]
    """What makes ours another thing than the published, a sentence each."""


@dataclass(frozen=True)
class PaperCompared:
    source: str
    """Of the published figures."""
    tables: tuple[PaperTable, ...]
    plan: str = ""
    """Whose [paper] table says which layers and K stand for the published ones; empty: the same ones do."""
