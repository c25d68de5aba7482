"""What training and encoding return, and what is measured on the way. Costs no torch.

These records are also JSON, in training.json, in checkpoints and in the events of runs.
"""

from dataclasses import dataclass

from engine.activations.results import Question, RecognisedRows, StoreExported, StoreImported
from engine.config import Directions, StabilitySettings
from engine.metrics.results import Stability
from engine.records import seldom
from engine.workspace import Provenance


@dataclass(frozen=True, kw_only=True)
class HeldOutMeasurement:
    """An SAE on held-out activations. None: not measured, as without embeddings or of activations without variance."""

    rows: int = 0
    fve: float | None = None
    fve_batch: float | None = None
    outliers: float | None = None
    outlier_variance: float | None = None
    fve_without_outliers: float | None = None
    l0: float | None = None
    cosine: float | None = None
    dead: float | None = None
    dense: float | None = None
    """These as in engine.sae.fidelity.Fidelity; outliers are rows longer than ten median ones."""
    ms: float | None = None
    """Mean MS of the latents, of the largest activation over an image's tokens."""
    ms_matched: float | None = None
    """Mean MS of raw neurons that are thresholded to fire on as many images (engine.metrics.matched_neurons)."""
    ms_beaten: float | None = None
    """Share of the latents whose MS is above that of their matched neuron."""
    ms_latents: int | None = None
    """With an MS; None, as what follows, in older files, too."""
    ms_low: float | None = None
    """Interval of 95 % of the mean, over latents: engine.metrics.by_group."""
    ms_high: float | None = None
    ms_matched_latents: int | None = None
    """That have both, of those of which matched neurons are scored."""
    ms_matched_low: float | None = None
    ms_matched_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuredStep(HeldOutMeasurement):
    """One point of the history of a training."""

    step: int
    loss: float
    theta: float | None = None
    """The threshold in raw units, the mean over latents; None for an architecture without one."""


@dataclass(frozen=True, kw_only=True)
class FinalMeasurement(HeldOutMeasurement):
    """The end of a training, as training.json keeps it."""

    name: str
    arch: str
    d: int
    """Width of the activations."""
    w: int
    """Number of latents."""
    k: int = 0
    """Active latents per token; 0 where that is not fixed."""
    steps: int
    theta: float | None = None
    """As in MeasuredStep."""


@dataclass(frozen=True, kw_only=True)
class Trained(FinalMeasurement):
    """What ``train`` returns."""

    path: str
    """The folder of the SAE."""
    made: bool = True
    """False: it was finished already."""
    state_bytes: int = 0
    """Size of what a longer training goes on from; 0 where it is not kept."""


@dataclass(frozen=True, kw_only=True)
class BaselineMade(HeldOutMeasurement):
    """What ``baseline`` returns."""

    name: str
    path: str
    """The folder of the SAE."""
    directions: Directions
    arch: str
    d: int
    w: int
    k: int
    made: bool = True
    """False: it was there already."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What ``encode_store`` returns."""

    out: str
    rows: int
    latents: int
    nonzero: int
    l0: float | None
    """Active latents a row; None without rows."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """An SAE on the activations of a store, as in engine.sae.fidelity.Fidelity. None: not defined there."""

    store: str
    rows: int
    fve: float | None
    l0: float | None
    dead: float | None
    scale: float | None = None
    """A factor by which its inputs seem to have been divided in training; None where it fits as it is."""
    fve_scaled: float | None = None
    """FVE with that factor."""


@dataclass(frozen=True, kw_only=True)
class ComparedSAE:
    """An SAE whose dictionary is compared with others."""

    name: str
    sha256: str
    """Of its weights."""
    w: int
    compared: int
    """Latents that are; the others fire on no row of the store that was given."""
    seed: int | None
    """Of its training; None where that is not known."""


@dataclass(frozen=True, kw_only=True)
class ComparedPair(Stability):
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class StabilityMeasured:
    """What ``stability`` returns."""

    path: str
    """The file that says it of every latent."""
    saes: tuple[ComparedSAE, ...]
    pairs: tuple[ComparedPair, ...]
    max_cosine: float
    """Mean max cosine, the mean over pairs in both directions."""
    matched: float
    """Mean cosine under one-to-one matchings, the mean over pairs."""
    settings: StabilitySettings | None = None
    """None, as ``provenance``, in older files."""
    provenance: Provenance | None = None
    made: bool = seldom(True)
    """False: it was there already."""


READ_STAGE, CHECK_STAGE = "read the SAE", "check"
"""Stages of an import of one, once it is recognised."""


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What ``recognise`` finds: an SAE of another tool, as its files say that it is."""

    format: str
    file: str
    """Of its weights."""
    arch: str = ""
    """Empty, and the sizes 0, where that is among the questions."""
    d: int = 0
    w: int = 0
    k: int = 0
    model: str = ""
    hook: str = ""
    tokens: str = ""
    questions: tuple[Question, ...] = ()
    """What an import would still ask."""
    bytes: int = 0
    """That an import writes."""
    free: int = 0
    """Bytes that are free where it writes."""
    notes: tuple[str, ...] = ()
    """What will be other than it is there."""


Seen = Recognised | RecognisedRows
"""What ``recognise`` returns."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What ``import_sae`` returns."""

    path: str
    format: str
    arch: str
    d: int
    w: int
    k: int
    model: str
    hook: str
    tokens: str
    notes: tuple[str, ...] = ()
    """What is other than it was there."""
    checked: Checked | None = None
    made: bool = True
    """False: it was imported already."""


BroughtIn = Imported | StoreImported
"""What ``bring_in`` returns."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What ``export_sae`` returns."""

    out: str
    format: str
    files: tuple[str, ...]
    lost: tuple[str, ...] = ()
    """What the format has no place for."""


SentOut = Exported | StoreExported
"""What ``send_out`` returns."""
