"""What extraction, its estimate and the check of a store return."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class StoreMade:
    """One store of an extraction: there is one for each hook point."""

    name: str
    path: str
    hook: str
    rows: int
    d: int
    shards: int


@dataclass(frozen=True)
class Extracted:
    """What ``extract`` returns."""

    name: str
    images: int
    """That could be read."""
    broken: dict[str, str]
    """Why each of the others could not, by its path."""
    rows: int
    """Of all stores."""
    extracted_now: int
    """Images; 0 when all was there already."""
    stores: tuple[StoreMade, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    """How many files of the source are pictures of kinds that are not read, by kind."""


READS = ("model", "hook", "tokens")
"""Settings of an import that say what an SAE reads, or of what activations are."""


@dataclass(frozen=True)
class Question:
    """A setting of an import that the files do not answer."""

    setting: str
    likely: str = ""
    """What it probably is; empty where nothing speaks for anything."""
    why: str = ""
    """What speaks for that, or why it is asked."""

    @property
    def words(self) -> str:
        """As a refusal asks it."""
        answer = self.likely or ANSWERS[self.setting]
        return f"--{self.setting} {answer}" + (f" ({self.why})" if self.why else "")


ANSWERS = {
    "model": "hf:REPO",
    "hook": "layer:N",
    "tokens": "cls, mean, patches, all or random:K",
    "tokens-per-image": "N",
    "scale": "FACTOR",
    "arch": "relu, topk or batchtopk",
    "k": "K",
    "threshold": "T",
}
"""What may be said to each question."""


@dataclass(frozen=True, kw_only=True)
class RecognisedRows:
    """What ``recognise`` finds: activations of another tool, as their files say that they are."""

    format: str
    place: str
    parts: int
    """Files."""
    rows: int
    d: int
    dtype: str
    """As a store keeps them."""
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


@dataclass(frozen=True, kw_only=True)
class StoreImported:
    """What ``import_activations`` returns."""

    path: str
    format: str
    parts: int
    """Files."""
    rows: int
    d: int
    dtype: str
    images: int | None
    """None where it is not known which images they are of."""
    model: str
    hook: str
    tokens: str
    notes: tuple[str, ...] = ()
    imported_now: int
    """Rows; 0 when all was there already."""


@dataclass(frozen=True, kw_only=True)
class StoreExported:
    """What ``export_store`` returns."""

    out: str
    format: str
    rows: int
    files: tuple[str, ...]
    lost: tuple[str, ...] = ()
    """What the format has no place for."""


@dataclass(frozen=True)
class StoreEstimate:
    """One store of an extraction to come."""

    hook: str
    name: str
    d: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class Estimated:
    """What ``estimate`` returns. Rows and bytes are the most: broken images have none, small ones may have fewer."""

    images: int
    """Listed in the source."""
    images_left: int
    """To run; fewer when an extraction was interrupted."""
    rows: int
    """Of all stores."""
    bytes: int
    """Of the activations, and of the image and token number of each row."""
    free: int
    """Bytes on the disk."""
    seconds: float | None
    """For the images left; None when no sampled image can be read."""
    images_per_s: float | None
    d: int
    """Of the widest store."""
    hooks: tuple[StoreEstimate, ...]
    model_parameters: int
    warnings: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    """As in ``Extracted``."""


@dataclass(frozen=True)
class SourceNow:
    """Something that an artefact was made from."""

    kind: str
    name: str
    state: str
    """As it is now: engine.artefacts.entries.Origin."""


@dataclass(frozen=True)
class Verified:
    """What ``verify`` returns."""

    path: str
    shards: int
    bytes: int
    problems: tuple[str, ...]
    """What is wrong, one sentence each; none when every byte is as it was written."""
    repaired: tuple[str, ...] = ()
    """The shards that were made anew."""
    unit: Literal["shard", "file"] = "shard"
    """What ``shards`` counts."""
    unrecorded: tuple[str, ...] = ()
    """Of which files nothing is recorded to compare them with, one sentence each."""
    sources: tuple[SourceNow, ...] = ()
    """Of a result: what it was made from."""
    changed: tuple[str, ...] = ()
    """Which of these are no longer what they were, one sentence each."""
    unsourced: str = ""
    """A sentence where it does not say what it was made from."""
