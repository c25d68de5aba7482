"""What commands measured and keep as JSON: a class for each kind says what differs, all else is theirs in common."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Generic, Self, TypeVar

from engine.artefacts.entries import Entry, Figure, Origin, State, origins
from engine.errors import UserError, counted
from engine.files import Stamp, path_of, stamp, value_sha256
from engine.images import open_images
from engine.integrity import content_sha256
from engine.kinds import CONCEPTS, FIDELITY, STABILITY, STEERABILITY
from engine.metrics.results import Interval, Recovery
from engine.neurons.concept_labels import read_labels
from engine.neurons.concept_results import ConceptsTested, read_concepts
from engine.records import to_json
from engine.reporter import Reporter
from engine.sae.results import StabilityMeasured
from engine.sae.stability_file import read_stability
from engine.steer.fidelity.captions import read_captions
from engine.steer.fidelity.file import read_fidelity
from engine.steer.fidelity.results import Fidelity
from engine.steer.results import Steerability
from engine.steer.steerability.file import ANSWERS, SCORES, read_steerability
from engine.steer.steerability.log import damaged_lines
from engine.workspace import Provenance

Hashes = Mapping[str, Callable[[str], str]]
"""By the kind of what is no artefact of a workspace: the hash of what lies at a place."""
R = TypeVar("R", ConceptsTested, Fidelity, StabilityMeasured, Steerability)


@dataclass(frozen=True)
class _Told:
    """What a listing says of a result."""

    about: str
    figure: Figure | None
    made_from: tuple[Origin, ...]
    says_origin: bool
    """Whether that is all; older files do not say it."""


@dataclass(frozen=True, kw_only=True)
class ResultEntry(Entry, Generic[R]):
    """A result, of which only what a listing says is held: it may be large."""

    FILE: ClassVar[str] = ""
    """Where such a result is a folder, its file in it."""
    RECORD: ClassVar[type[Any]]
    """What the file says."""
    state: State = "complete"
    told: _Told | None = None
    """None where it is damaged, or not finished."""

    @classmethod
    def file_of(cls, path: Path) -> Path:
        return path / cls.FILE if cls.FILE else path

    @classmethod
    def is_at(cls, path: Path) -> bool:
        (kind,) = cls.KINDS
        if path.parent.name != kind.folder:
            return False
        return path.suffix == kind.suffix if kind.suffix else any((path / mark).is_file() for mark in kind.marks)

    @classmethod
    def identity(cls, path: Path) -> str:
        return content_sha256(cls.file_of(path))

    @classmethod
    def read(cls, path: Path) -> Self:
        told = _told(cls, cls.file_of(path), stamp(cls.file_of(path)))
        return cls(path=path, made_from=told.made_from, told=told)

    @classmethod
    def tell(cls, record: R) -> tuple[str, Figure | None]:
        """What a listing says of it: in words, and the first of its figures."""
        return cls.about_of(record), next(iter(cls.figures(record)), None)

    @property
    def about(self) -> str:
        return self.told.about if self.told else ""

    @property
    def figure(self) -> Figure | None:
        return self.told.figure if self.told else None

    def to_json(self) -> dict[str, Any]:
        record = to_json(self.record(self.file_of(self.path)))
        for said in ("path", "origin", "provenance", "made"):  # otherwise, or in the chain
            record.pop(said, None)
        return record | {"sha256": self.identity(self.path)}

    @classmethod
    @abstractmethod
    def record(cls, file: Path) -> R:
        """What is in the file. UserError for damage, and what is none."""

    @classmethod
    @abstractmethod
    def about_of(cls, record: R) -> str:
        """What was measured, in a few words."""

    @classmethod
    @abstractmethod
    def figures(cls, record: R, sae: str = "") -> tuple[Figure, ...]:
        """Its scores, each beside its controls, that of a listing first. ``sae``: the hash of the weights of one, where
        it is of several."""

    @classmethod
    def origin(cls, record: R) -> Provenance | None:
        """What it was made from; None where it does not say, as in older files."""
        return record.origin if isinstance(record, ConceptsTested) else record.provenance

    @classmethod
    def made_of(cls, record: R) -> tuple[Origin, ...]:
        """The same as far as it is known at all."""
        origin = cls.origin(record)
        return origins(origin.made_from) if origin else ()

    @classmethod
    def hashes(cls, record: R, reporter: Reporter) -> Hashes:
        """How those of its sources that are no artefacts come about."""
        return {}

    @classmethod
    def check(cls, path: Path) -> None:
        """UserError unless every byte of it is as it was written, as far as it says."""
        cls.record(cls.file_of(path))


@lru_cache(maxsize=1024)
def _told(kind: type[ResultEntry[Any]], file: Path, stamp: Stamp | None) -> _Told:
    """Kept for as long as the file stays as it is."""
    record = kind.record(file)
    return _Told(*kind.tell(record), kind.made_of(record), kind.origin(record) is not None)


class ConceptsEntry(ResultEntry[ConceptsTested]):
    """How well latents tell labelled concepts."""

    KINDS = (CONCEPTS,)
    RECORD = ConceptsTested

    @classmethod
    def record(cls, file: Path) -> ConceptsTested:
        return read_concepts(file)

    @classmethod
    def about_of(cls, record: ConceptsTested) -> str:
        return f"{counted(record.concepts, 'concept')} on {counted(record.images, 'image')}"

    @classmethod
    def figures(cls, record: ConceptsTested, sae: str = "") -> tuple[Figure, ...]:
        ours, matched = record.latents.auroc, record.matched.auroc
        return (Figure("AUROC of best latents", ours, "matched neurons", matched, quantity="auroc"),)

    @classmethod
    def hashes(cls, record: ConceptsTested, reporter: Reporter) -> Hashes:
        return {
            "images": lambda place: _of_images(place, record.settings.limit, reporter),
            "labels": lambda place: value_sha256(read_labels(place)),
            "taxonomy": lambda place: content_sha256(path_of(place)),
        }


class FidelityEntry(ResultEntry[Fidelity]):
    """What a model still does with an SAE in place."""

    KINDS = (FIDELITY,)
    RECORD = Fidelity

    @classmethod
    def record(cls, file: Path) -> Fidelity:
        return read_fidelity(file)

    @classmethod
    def about_of(cls, record: Fidelity) -> str:
        part = record.encoder or record.answers
        return f"{part.spec} on {counted(part.images, 'image')}" if part else record.hook

    @classmethod
    def figures(cls, record: Fidelity, sae: str = "") -> tuple[Figure, ...]:
        """Zero-shot accuracy where it was measured, the cosine, what finds captions, and what the model says next."""
        found = []
        if part := record.encoder:
            if part.zero_shot:
                found.append(_in_place("zero-shot accuracy", part.zero_shot.accuracy, "right_class"))
            found.append(_in_place("cosine", part.cosine, "spliced_cosine", constant=True))
            if part.retrieval:
                found.append(_in_place("caption found at 1", part.retrieval.text_at_1, "text_found"))
                found.append(_in_place("image found at 1", part.retrieval.image_at_1, "image_found"))
        if answers := record.answers:
            found.append(_in_place("tokens that stay", answers.same_token, "same_token", constant=True))
            found.append(_in_place("KL of answers, nats", answers.kl, "spliced_kl", constant=True))
        return tuple(found)

    @classmethod
    def hashes(cls, record: Fidelity, reporter: Reporter) -> Hashes:
        return {
            "images": lambda place: _of_images(place, record.settings.limit, reporter),
            "captions": lambda place: value_sha256(read_captions(place)),
        }


class StabilityEntry(ResultEntry[StabilityMeasured]):
    """What SAEs have in common."""

    KINDS = (STABILITY,)
    RECORD = StabilityMeasured

    @classmethod
    def record(cls, file: Path) -> StabilityMeasured:
        return read_stability(file)

    @classmethod
    def about_of(cls, record: StabilityMeasured) -> str:
        return f"{counted(len(record.saes), 'SAE')} compared"

    @classmethod
    def figures(cls, record: StabilityMeasured, sae: str = "") -> tuple[Figure, ...]:
        """Over all pairs; of one SAE, with each of the others."""
        if sae:
            (own,) = [one.name for one in record.saes if one.sha256 == sae][:1] or [""]
            pairs = [(one, {one.first: one.second, one.second: one.first}.get(own)) for one in record.pairs]
            told = [(f"matched with {other}", one.matched, one.random_matched) for one, other in pairs if other]
        else:
            ours = _over_pairs([one.matched for one in record.pairs])
            random = _over_pairs([one.random_matched for one in record.pairs])
            told = [("cosine of matched latents", ours, random)] if ours and random else []
        return tuple(
            Figure(name, score, "random directions", random, quantity="matched_cosine") for name, score, random in told
        )

    @classmethod
    def made_of(cls, record: StabilityMeasured) -> tuple[Origin, ...]:
        """Older files name the SAEs alone, by their hashes."""
        return super().made_of(record) or tuple(Origin("sae", one.name, "", one.sha256) for one in record.saes)


class SteerabilityEntry(ResultEntry[Steerability]):
    """How well latents steer a model."""

    KINDS = (STEERABILITY,)
    FILE = SCORES
    RECORD = Steerability

    @classmethod
    def read(cls, path: Path) -> Self:
        if not cls.file_of(path).exists() and (path / ANSWERS).exists():
            return cls(path=path, state="unfinished")
        return super().read(path)

    @property
    def about(self) -> str:
        return "unfinished: the same command goes on" if self.state == "unfinished" else super().about

    def to_json(self) -> dict[str, Any]:
        if self.state == "unfinished":
            raise UserError(f"{self.path} is not finished: run the same saetui steerability again, which goes on.")
        return super().to_json()

    @classmethod
    def record(cls, file: Path) -> Steerability:
        return read_steerability(file)

    @classmethod
    def about_of(cls, record: Steerability) -> str:
        return f"{counted(len(record.latents), 'latent')} in {record.vlm}"

    @classmethod
    def figures(cls, record: Steerability, sae: str = "") -> tuple[Figure, ...]:
        """The one word, then insertion and suppression by each judge."""
        words = {"one word": record.word, "one word, pictures": record.word_on_pictures}
        measured = [(name, one.conditions, "one_word") for name, one in words.items() if one]
        measured += [(f"{one.task} by {one.judge}", one.both, "texts") for one in record.texts]
        found = []
        for name, conditions, quantity in measured:
            by = {one.condition: one.score for one in conditions}
            if "steered" in by:
                beside = by.get("attached"), by.get("untouched")
                found.append(Figure(name, by["steered"], "SAE attached", *beside, quantity))
        return tuple(found)

    @classmethod
    def check(cls, path: Path) -> None:
        if damaged := damaged_lines(path / ANSWERS):
            lines = counted(len(damaged), "line")
            raise UserError(
                f"{path / ANSWERS} is damaged (a bit has changed in {lines}, the first is line {damaged[0]:,}): remove "
                f"{SCORES} and run the same saetui steerability again, which asks anew what they said."
            )
        if cls.file_of(path).exists():
            super().check(path)


RESULTS: tuple[type[ResultEntry[Any]], ...] = (ConceptsEntry, FidelityEntry, SteerabilityEntry, StabilityEntry)


def _in_place(name: str, found: Recovery, quantity: str, constant: bool = False) -> Figure:
    """``constant``: the untouched model is held against itself."""
    untouched = None if constant else found.untouched
    return Figure(name, found.spliced, "mean in place", found.ablated, untouched, quantity)


def _of_images(place: str, limit: int, reporter: Reporter) -> str:
    images = open_images(place, limit)
    images.learn(reporter=reporter)
    return images.sha256


def _over_pairs(means: list[Interval]) -> Interval | None:
    """The mean over pairs of SAEs, whose latents are the same ones again and again: between the least and the largest
    end of an interval of one."""
    if not means:
        return None
    low = [one.low for one in means if one.low is not None]
    high = [one.high for one in means if one.high is not None]
    return Interval(
        min(one.n for one in means),
        fmean(one.mean for one in means if one.mean is not None),
        min(low, default=None),
        max(high, default=None),
    )
