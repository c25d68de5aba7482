"""What scoring says: the summary of a neurons file, and the results of the commands. Costs no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.config import ScoreSettings
from engine.errors import counted
from engine.metrics.results import AgainstMatched, GroupMS, Hierarchy, Interval, Localisation, Overlap, Spread


@dataclass(frozen=True)
class LatentSpread(Spread):
    """MS over the latents."""

    latents: int
    """With an MS."""
    low: float | None = field(default=None, kw_only=True)
    """Interval of 95 % of the mean, over latents: engine.metrics.by_group; None below two, and in older files."""
    high: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class RawMS(Spread):
    """MS over raw neurons."""

    columns: int | None = field(default=None, kw_only=True)
    """With an MS; None, as the ends, in older files."""
    low: float | None = field(default=None, kw_only=True)
    """Interval of 95 % of the mean, over neurons; None below two, too."""
    high: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class MSSummary:
    """MS of the latents beside its controls."""

    sae: LatentSpread
    raw: RawMS
    """Coordinates of the model's activations as they are."""
    raw_relu: RawMS
    """relu(v) and relu(-v) of every coordinate v."""
    matched: AgainstMatched
    baseline: float | None
    """Mean cosine of all pairs of images."""
    lift: float | None
    """Mean MS of the latents above the baseline."""
    median_support: float | None
    """Of the latents that fire."""
    groups: tuple[GroupMS, ...] = ()
    """Of each Matryoshka group, the coarsest first; empty without groups, and in older files."""
    lift_latents: int | None = field(default=None, kw_only=True)
    """Latents with an MS; None, as what follows, in older files."""
    lift_low: float | None = field(default=None, kw_only=True)
    """Interval of 95 % of the lift, over latents, the baseline as it is."""
    lift_high: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Frequency:
    """How often latents fire on the scored tokens."""

    l0: float
    """Mean number of latents that fire on a token."""
    dense: float
    """Share of the latents that fire on more than a tenth of the tokens."""
    median: float | None
    """Of the latents that fire: share of the tokens."""


@dataclass(frozen=True)
class Summary:
    """What a neurons file says of all latents together."""

    sae: str
    images: int
    """That were scored."""
    broken: int
    """Images that could not be read."""
    tokens: str
    """Which tokens were scored: ``pooled``, ``cls``, ``mean`` or ``patches``."""
    pooling: str
    """How the tokens of an image became one value; ``none`` for one token an image, ``crop`` where MS, support and
    matched neurons are of patches, all else of images by their largest patch."""
    model: str = field(metadata={"place": "model"})
    """The encoder that the SAE reads."""
    hook: str
    embed_with: str = field(metadata={"place": "model"})
    """The encoder that judges."""
    ms: MSSummary
    alive: int
    dead: int
    frequency: Frequency
    hierarchy: Hierarchy | None
    """None without a taxonomy."""
    uniqueness: Overlap
    named: int
    """Latents with a name."""
    settings: ScoreSettings
    left_out: dict[str, int] = field(default_factory=dict, kw_only=True)
    """How many files of the source are pictures of kinds that are not read, by kind."""
    localisation: Localisation | None = field(default=None, kw_only=True)
    """Means over the latents on whose top images objects are told; None where none are, and in older files."""
    copies: int | None = field(default=None, kw_only=True)
    """Latents whose top images are copies of one another; None in older files."""
    patches: int | None = field(default=None, kw_only=True)
    """That were scored, each judged by the crop around it; None where images were."""

    @property
    def units(self) -> int:
        """How many there are of what MS and support are of: patches, or images."""
        return self.images if self.patches is None else self.patches

    def in_units(self, number: int) -> str:
        """So many of them, in words."""
        return counted(number, "image") if self.patches is None else f"{number:,} patch{'' if number == 1 else 'es'}"


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A score of something that an SAE is held against, measured alike: see engine.artefacts.twins."""

    control: str
    """What it is, in a word or two; empty of the SAE itself."""
    sae: str = ""
    """Its name, where it is an SAE."""
    twin: bool = False
    """Whether it is a frozen twin, trained as the SAE was."""
    score: Interval
    ahead: Interval | None = None
    """What the SAE has over it; None where that is not known, and of itself."""


def best(found: Iterable[Beside]) -> Beside | None:
    """That with the largest score: what an SAE must at least be ahead of; None where none has one."""
    known = [one for one in found if one.score.mean is not None]
    return max(known, key=lambda one: one.score.mean or 0.0, default=None)


@dataclass(frozen=True)
class Scored(Summary):
    """Result of the stage ``score``."""

    path: str
    """The neurons file."""
    made: bool = True
    """False: these very scores were there already."""
    twins: tuple[Beside, ...] = ()
    """Mean MS of its frozen twins, and of directions like it, by the same judge on the same images."""


@dataclass(frozen=True)
class ScoredAll:
    """Result of the stage ``score`` for several SAEs, in the order in which they were named."""

    scores: tuple[Scored, ...]


@dataclass(frozen=True)
class MatrixScored:
    """Result of the command ``ms``; one value a column of the activations, None where undefined."""

    ms: tuple[float | None, ...]
    support: tuple[int, ...]
    effective_support: tuple[float | None, ...]
    mean: float | None
    best: float | None
    worst: float | None
    undefined: int
    """Columns without an MS."""
    baseline: float | None
    """Mean cosine of all pairs of rows of the embeddings."""
    std: float | None = None
    """Standard deviation over the columns (n - 1)."""
    low: float | None = None
    """Interval of 95 % of the mean, over columns: engine.metrics.by_group; None below two."""
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """One of the images that were scored."""

    path: str
    label: str | None
    taxonomy: tuple[str, ...]
    """Root first; () without one."""
    sha256: str
    also: tuple[str, ...] = ()
    """Other names of its class."""

    @property
    def kind(self) -> str:
        """Its class in a word or two: its last folder, or genus and species; empty without."""
        folder = (self.label or "").rpartition("/")[2]
        return folder if not self.taxonomy or self.taxonomy[-1] == folder else " ".join(self.taxonomy[-2:])

    @property
    def classes(self) -> str:
        """Class, taxonomy and other names in words; empty without. File names join words by - and _."""
        written = "\n".join(dict.fromkeys([self.label or "", "/".join(self.taxonomy), *self.also])).strip()
        spaced = written.replace("_", " ").replace("-", " ")
        return written if spaced == written else f"{written}\n{spaced}"


Value = float | int | None
"""Of one latent; None where undefined."""


@dataclass(frozen=True)
class LatentRow:
    """What a table shows of one latent."""

    latent: int
    label: str
    """What a person calls it; empty for none."""
    names: list[str]
    """The nearest words, nearest first."""
    values: dict[str, Value]
    """By field (:mod:`engine.neurons.quantities`)."""
    top_class: str = ""
    """The commonest class of its top images; empty for none."""
    match: float | None = None
    """How well a search for text found it."""
    through: str = ""
    """The word near it through which that search found it; empty where a label or a class was what it found."""

    @property
    def called(self) -> list[str]:
        """The names, that first by which it was found."""
        return list(dict.fromkeys([self.through, *self.names] if self.through else self.names))

    def to_json(self) -> dict[str, Any]:
        said = {"label": self.label, "names": self.names, "class": self.top_class}
        row: dict[str, Any] = {"latent": self.latent} | said | self.values
        return row if self.match is None else row | {"match": self.match, "through": self.through}


@dataclass(frozen=True)
class Listed:
    """Latents as a table shows them."""

    latents: list[int]
    """In order."""
    aside: tuple[int, ...]
    """Those that would stand among them, were their top images not copies of one another."""


@dataclass(frozen=True)
class TopImage:
    """An image on which a latent fires strongly."""

    image: int
    """Its number among the images that were scored."""
    path: str
    label: str | None
    activation: float
    """Pooled."""


@dataclass(frozen=True)
class Related:
    """Other latents like one, best first, each with how much; empty where there are none."""

    near: list[tuple[int, float]]
    """With the nearest decoder rows, and the cosines."""
    cofiring: list[tuple[int, float]]
    """That fire on the same images, and the Jaccard indices."""


LatentValues = tuple[tuple[int, float], ...]
"""Pairs of a latent and a number, the most interesting first."""


@dataclass(frozen=True)
class ImageLatents:
    """The latents that one image fires, with their values; see ``engine.neurons.image_latents``."""

    grid: tuple[int, int] | None
    """Rows and columns of patches; None for an SAE of one token an image."""
    image: LatentValues
    """The strongest of the whole image."""
    patches: tuple[LatentValues, ...]
    """The strongest of each patch, row by row; empty without a grid."""
    maps: tuple[tuple[int, tuple[float, ...]], ...] = ()
    """Pairs of a latent, one of the strongest of the whole image, and its values patch by patch, row by row."""
