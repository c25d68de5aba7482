"""What metrics say of all latents together. None where a number is undefined."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """MS over columns of activations."""

    mean: float | None
    best: float | None
    worst: float | None
    std: float | None = field(default=None, kw_only=True)
    """Standard deviation over them (n - 1); None for fewer than two, and in older files."""


@dataclass(frozen=True)
class AgainstMatched:
    """Latents against their matched raw neurons, over the latents for which both have an MS."""

    mean: float | None
    """MS of the matched neurons."""
    share_beaten: float | None
    """Share of the latents that have the higher MS."""
    latents: int
    """With both."""
    std: float | None = field(default=None, kw_only=True)
    """Of the matched neurons' MS; None for fewer than two, and, as what follows, in older files."""
    low: float | None = field(default=None, kw_only=True)
    """Interval of 95 % of the mean, over latents: engine.metrics.by_group."""
    high: float | None = field(default=None, kw_only=True)
    share_low: float | None = field(default=None, kw_only=True)
    """The same of the share."""
    share_high: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Interval:
    """A mean over units, and where the mean of all such units lies, in 95 of 100 cases: engine.metrics.bootstrap."""

    n: int
    """Units with a value."""
    mean: float | None
    low: float | None
    """None, as ``high``, for fewer than two units, and where values have no bounds and too few units tell."""
    high: float | None


@dataclass(frozen=True)
class GroupMS:
    """MS of one Matryoshka group beside its control: engine.metrics.by_group."""

    latents: int
    ms: Interval
    """Mean over those that have one."""
    std: float | None
    """Standard deviation over them."""
    matched: Interval
    """MS of the matched raw neurons of the latents that have both."""
    matched_std: float | None
    beaten: Interval
    """Share of these latents that have the higher MS."""


@dataclass(frozen=True)
class GroupDepth:
    """Taxonomy depth of one Matryoshka group."""

    latents: int
    left_out: int
    """With fewer than all top images: they have no depth."""
    depth: float | None
    """Mean of the unrounded depths."""
    rounded: float | None
    """Mean of the depths rounded half to even, as the authors' code does."""
    mode: int | None
    """The most frequent rounded depth."""
    ms: float | None
    """Mean MS, over ``ms_latents``."""
    low: float | None = field(default=None, kw_only=True)
    """Interval of 95 % of the mean depth, as of latents like these; None below two, and in older files."""
    high: float | None = field(default=None, kw_only=True)
    random_low: float | None = field(default=None, kw_only=True)
    """Between these the mean depth of as many random sets of images lies 95 times of 100."""
    random_high: float | None = field(default=None, kw_only=True)
    ms_latents: int | None = field(default=None, kw_only=True)
    """With an MS; None in older files."""


@dataclass(frozen=True)
class Trend:
    """Spearman's rank correlation between group and depth over the latents, with its two-sided p."""

    rho: float | None
    p: float | None


@dataclass(frozen=True)
class Hierarchy:
    """Depth per Matryoshka group, and whether it rises from group to group."""

    groups: tuple[GroupDepth, ...]
    """The coarsest first."""
    expected: float | None
    """Depth of images drawn at random: what chance gives."""
    trend: Trend
    random_low: float | None = field(default=None, kw_only=True)
    """Between these the depth of one random set of images lies 95 times of 100; None in older files."""
    random_high: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Overlap:
    """How many pairs of latents show the same images."""

    latents: int
    """With at least one top image."""
    pairs: int
    above_zero: int
    """Pairs that share a top image."""
    above_half: int
    """Pairs whose sets of top images have a Jaccard index above 0.5."""


@dataclass(frozen=True)
class Localisation:
    """Whether maps point at the object: means over images; see engine.metrics.localisation."""

    peak: float
    """Share of the images whose strongest patch lies on the object."""
    mass: float
    """Share of the map's sum that lies on the object."""
    chance_peak: float
    """What a random patch gives."""
    chance_mass: float
    """What a uniform map gives."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How much of a dictionary another one has: see engine.metrics.stability."""

    there: Interval
    """Largest cosine of the first one's latents in the second."""
    back: Interval
    """Of the second one's in the first."""
    matched: Interval
    """Cosine of the pairs of a one-to-one matching."""
    exact: bool
    """Whether that is the best matching of all; else its mean is a lower bound."""
    random_there: Interval
    """The same of directions drawn at random, as many."""
    random_back: Interval
    random_matched: Interval


@dataclass(frozen=True)
class AgreementBin:
    """Pairs of latents whose scores are about as far apart."""

    distance: float
    """From here to a tenth more."""
    pairs: int
    agreement: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """Of a score of latents with what people chose; see engine.metrics.agreement. None without pairs."""

    pairs: int
    left_out: int
    """Pairs of which a latent has no score."""
    weighted: float | None
    """Over pairs."""
    weighted_low: float | None
    weighted_high: float | None
    mean: float | None
    """Over bins of distance that have pairs."""
    mean_low: float | None
    mean_high: float | None
    bins: tuple[AgreementBin, ...]


@dataclass(frozen=True)
class Recovery:
    """What is left of a quantity where something stands in place of activations: engine.metrics.recovery."""

    untouched: Interval
    spliced: Interval
    ablated: Interval
    """The control: with their mean in their place."""
    lost: Interval
    """By how much untouched is better than spliced, unit by unit."""
    gained: Interval
    """By how much spliced is better than ablated, unit by unit."""
    recovered: Interval
    """Share of what ablating costs that splicing does not; None where untouched is not plainly better than ablated."""


@dataclass(frozen=True)
class Concord:
    """Of two judges about the same cases: engine.metrics.kappa."""

    n: int
    """Cases that both have judged."""
    share: float | None
    """In which they say the same; None without a case."""
    kappa: float | None
    """What of it is beyond chance; None where chance alone would have them always agree."""
