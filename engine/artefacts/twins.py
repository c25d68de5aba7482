"""Whether an SAE earns its scores: beside it, what a workspace has that should score less, measured alike.

Its *frozen twins* are trainings that differ in ``frozen`` alone (engine.sae.state.trained_alike); its *directions* were
made of the same store, with as many latents (all that there are, of principal components) and as many active ones
(engine.sae.baseline). ("Sanity Checks for Sparse Autoencoders", arXiv 2602.14111.) Both are found by what the files
say of how they were made, never by names, and both have no controls themselves.

Scores are held against each other only where they are of the same rows (FVE), images and judge (MS), images and
concepts (AUROC), and of SAEs as they are now. The latents of twins are no pairs, though a frozen decoder began as the
same directions: so mean stands beside mean, and what one is ahead of the other has Welch's interval over latents. Raw
neurons and concepts are pairs: there it is of the differences. Costs no torch.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from engine.artefacts.entries import UNREADABLE, Entry, NeuronsEntry, SAEEntry, read_entry
from engine.artefacts.results import ConceptsEntry
from engine.config import ScoresSettings
from engine.errors import counted
from engine.files import Stamp, stamp
from engine.kinds import CONCEPTS, NEURONS, SAES
from engine.metrics.by_group import mean_ms
from engine.metrics.means import difference_of, mean_of
from engine.metrics.results import Interval
from engine.neurons.concept_results import ConceptsTested, ConceptTest, read_concepts
from engine.neurons.file import Neurons
from engine.neurons.results import Beside, Summary
from engine.numbers import exact
from engine.sae.config import control_in_short, named_weights, weights_sha256
from engine.settings import command_line
from engine.workspace import Workspace

_DECIDES = ("pooling", "min_images", "threshold", "limit", "seed")  # settings of concept tests that no source tells
E = TypeVar("E", bound=Entry)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BesideHeldOut:
    """An SAE or a control of it on the rows that were held out of training."""

    control: str
    """As in Beside."""
    sae: str
    fve: float | None
    l0: float | None
    rows: int


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Scores of an SAE and of what it is held against, on the same images."""

    on: str
    """Name of the image set, or of the result."""
    judge: str = ""
    """The encoder that judges, of MS."""
    images: int
    rows: tuple[Beside, ...]
    """The SAE first."""


@dataclass(frozen=True, kw_only=True)
class Earned:
    """An SAE beside its controls."""

    held_out: tuple[BesideHeldOut, ...] = ()
    """The SAE first; empty where it was not measured."""
    ms: tuple[Compared, ...] = ()
    """A comparison for each of its neurons files."""
    auroc: tuple[Compared, ...] = ()
    """Of its concept tests, each."""
    missing: tuple[str, ...] = ()
    """What there is not, and how it is made, a sentence each."""


@dataclass(frozen=True)
class Control:
    """An SAE that another is held against."""

    what: str
    """In a word or two."""
    entry: SAEEntry


class Twins:
    """The SAEs of a workspace by how they were made, and their scores by content: made once, asked for many."""

    def __init__(self, saes: Iterable[SAEEntry], neurons: Iterable[NeuronsEntry], concepts: Iterable[ConceptsEntry]):
        self._frozen: dict[str, list[SAEEntry]] = defaultdict(list)
        self._directions: dict[str, list[SAEEntry]] = defaultdict(list)
        self._shas: dict[Path, str] = {}
        self._saes = list(saes)
        for one in self._saes:
            if one.config and one.config.directions:
                self._directions[_made_from(one, "activations")].append(one)
            elif one.config and one.config.frozen != "none" and one.alike:
                self._frozen[one.alike].append(one)
        self._neurons, self._concepts = _by_sae(neurons), _by_sae(concepts)

    @classmethod
    def of(cls, workspace: Workspace) -> "Twins":
        """Of what the workspace holds now."""
        root = workspace.root
        return cls(
            _read(SAEEntry, SAES.all_in(root)),
            _read(NeuronsEntry, NEURONS.all_in(root)),
            _read(ConceptsEntry, CONCEPTS.all_in(root)),
        )

    def frozen(self, sae: SAEEntry) -> list[Control]:
        """Its frozen twins, by name."""
        return [] if _is_control(sae) or not sae.alike else _controls(self._frozen.get(sae.alike, []))

    def directions(self, sae: SAEEntry) -> list[Control]:
        """Directions of its store, by name: as many as it has latents and as sparse, as far as it says."""
        if _is_control(sae) or not (store := _made_from(sae, "activations")):
            return []
        return _controls(one for one in self._directions.get(store, []) if _as_many(one, sae))

    def controls(self, sae: SAEEntry) -> list[Control]:
        return [*self.frozen(sae), *self.directions(sae)]

    def scores(self, sae: SAEEntry) -> list[NeuronsEntry]:
        """Those of the SAE as it is now; those that name a copy of it only where none names this one."""
        found = self._neurons.get(self._sha256(sae), [])
        return [one for one in found if one.sae == sae.name] or found

    def scored_alike(self, control: SAEEntry, ours: NeuronsEntry) -> NeuronsEntry | None:
        """Scores of ``control`` on the same images, by the same judge, of the same tokens as ``ours``; None without."""
        if not (asked := _scored_as(ours)):
            return None
        return next((one for one in self.scores(control) if _scored_as(one) == asked), None)

    def beside(self, entry: Entry) -> tuple[Beside, ...]:
        """What a listing says beside the figure of ``entry``: the same of controls, looked at no closer than they are
        themselves for a listing, so without what the SAE has over them."""
        if isinstance(entry, SAEEntry):
            return self._fve(entry)
        controls = self.controls(sae) if (sae := self._owner(entry)) else []
        if isinstance(entry, NeuronsEntry):
            return self._ms(entry, controls)
        return self._auroc(entry, controls) if isinstance(entry, ConceptsEntry) else ()

    def of_scores(self, ours: NeuronsEntry) -> tuple[Beside, ...]:
        """Twins and directions that were scored alike, and what the SAE has over each; none where it has no such."""
        sae = self._owner(ours)
        found = _tried(partial(self.ms, sae, ours, self.controls(sae))) if sae else None
        return tuple(one for one in found.rows[1:] if one.sae) if found else ()

    def _owner(self, entry: Entry) -> SAEEntry | None:
        """The SAE that something was measured of, if it has controls."""
        return next(iter(self._owners.get(_made_from(entry, "sae"), [])), None)

    def _fve(self, sae: SAEEntry) -> tuple[Beside, ...]:
        """Of those that were measured on the same rows."""
        found = ((one, one.entry.held_out) for one in self.controls(sae) if _same_rows(one.entry, sae))
        return tuple(_beside(one, Interval(of.rows, of.fve, None, None)) for one, of in found if of)

    def _ms(self, ours: NeuronsEntry, controls: Iterable[Control]) -> tuple[Beside, ...]:
        found = ((one, self.scored_alike(one.entry, ours)) for one in controls)
        means = ((one, theirs.summary.ms.sae) for one, theirs in found if theirs and theirs.summary)
        return tuple(_beside(one, Interval(of.latents, of.mean, of.low, of.high)) for one, of in means)

    def _auroc(self, ours: ConceptsEntry, controls: Iterable[Control]) -> tuple[Beside, ...]:
        found = ((one, self._tested_alike(one.entry, ours)) for one in controls)
        return tuple(_beside(one, theirs.figure.score) for one, theirs in found if theirs and theirs.figure)

    @cached_property
    def _owners(self) -> Mapping[str, list[SAEEntry]]:
        """The SAEs that have controls, by content hash."""
        found: dict[str, list[SAEEntry]] = defaultdict(list)
        for one in self._saes:
            if self.controls(one):
                found[self._sha256(one)].append(one)
        return found

    def earned(self, sae: SAEEntry) -> Earned:
        """All that can be said; where a result cannot be read, it is left out."""
        frozen, directions = self.frozen(sae), self.directions(sae)
        controls = [*frozen, *directions]
        ms = [told for one in self.scores(sae) if (told := _tried(partial(self.ms, sae, one, controls)))]
        tests = self._concepts.get(self._sha256(sae), []) if sae.config else []
        auroc = [told for one in tests if (told := _tried(partial(self.auroc, sae, one, controls)))]
        return Earned(
            held_out=_held_out(sae, controls),
            ms=tuple(ms),
            auroc=tuple(auroc),
            missing=() if _is_control(sae) else (*_missing(sae, frozen, directions), *self._elsewhere(sae, controls)),
        )

    def _elsewhere(self, sae: SAEEntry, controls: Sequence[Control]) -> Iterator[str]:
        """For each image set on which the SAE has a score: the controls that have none alike, and what they have."""
        for ours in self.scores(sae):
            lacking = [one for one in controls if self.scored_alike(one.entry, ours) is None]
            if ours.summary is None or not _scored_as(ours) or not lacking:
                continue
            told = "; ".join(f"{one.what} {one.entry.name}{self._scored_on(one.entry)}" for one in lacking)
            names = tuple(one.entry.name for one in lacking)
            asked = vars(ours.summary.settings) | {"sae": names, "embed_with": (ours.summary.settings.embed_with,)}
            command = command_line("score", ScoresSettings(**asked))
            yield f"There is no MS like that on {_on(ours.images, ours.summary)} of {told}: {command} makes it."

    def _scored_on(self, sae: SAEEntry) -> str:
        found = ", ".join(_on(one.images, one.summary) for one in self.scores(sae) if one.summary)
        return f", scored on {found}" if found else ""

    def ms(self, sae: SAEEntry, ours: NeuronsEntry, controls: Iterable[Control]) -> Compared | None:
        """MS in ``ours`` beside that of ``controls`` that were scored alike, and of matched raw neurons."""
        if ours.summary is None:
            return None
        ms, matched = _latents(ours.path)
        rows = [Beside(control="", sae=sae.name, score=mean_ms(ms)[0])]
        for one in controls:
            theirs = self.scored_alike(one.entry, ours)
            if theirs and (told := _tried(partial(_latents, theirs.path))):
                rows.append(_beside(one, mean_ms(told[0])[0], difference_of(ms, told[0])))
        rows.append(_paired("matched raw neurons", ms, matched))
        return Compared(on=ours.images, judge=ours.summary.embed_with, images=ours.summary.images, rows=tuple(rows))

    def auroc(self, sae: SAEEntry, tests: ConceptsEntry, controls: Iterable[Control]) -> Compared:
        """AUROC of best latents beside that of ``controls`` in the same tests, and of the controls in these."""
        ours = _tests(tests.path)
        aurocs = _of_each(ours, lambda test: test.auroc.mean)
        rows = [Beside(control="", sae=sae.name, score=ours.latents.auroc)]
        for one in controls:
            theirs = self._tested_alike(one.entry, tests)
            if theirs and (told := _tried(partial(_tests, theirs.path))):
                apart = _apart(aurocs, _of_each(told, lambda test: test.auroc.mean))
                rows.append(_beside(one, told.latents.auroc, apart))
        for what, means, each in (
            ("matched raw neurons", ours.matched, _of_each(ours, lambda test: test.matched)),
            ("random directions", ours.random, _of_each(ours, lambda test: test.random)),
            ("shuffled labels", ours.shuffled, _of_each(ours, lambda test: test.shuffled)),
        ):
            rows.append(Beside(control=what, score=means.auroc, ahead=_apart(aurocs, each)))
        return Compared(on=tests.name, images=ours.images, rows=tuple(rows))

    def _tested_alike(self, control: SAEEntry, ours: ConceptsEntry) -> ConceptsEntry | None:
        return next((one for one in self._concepts.get(self._sha256(control), []) if _tested_as(one, ours)), None)

    def _sha256(self, sae: SAEEntry) -> str:
        """Of its weights; empty without any."""
        if sae.path not in self._shas:
            self._shas[sae.path] = _tried(lambda: named_weights(sae.path) or weights_sha256(sae.path)) or ""
        return self._shas[sae.path]


def _is_control(sae: SAEEntry) -> bool:
    return sae.config is None or sae.config.directions is not None or sae.config.frozen != "none"


def _as_many(directions: SAEEntry, sae: SAEEntry) -> bool:
    """Whether there are as many directions as the SAE has latents, or all principal components where they are fewer;
    and as many of them active, where that is set."""
    theirs, ours = directions.config, sae.config
    if theirs is None or ours is None or (ours.k and theirs.k != ours.k):
        return False
    return theirs.w == ours.w or (theirs.directions == "pca" and theirs.w == 2 * theirs.d < ours.w)


def _same_rows(control: SAEEntry, sae: SAEEntry) -> bool:
    """Whether both were measured on the same held-out rows: those of directions follow from seed and share."""
    if control.held_out is None or sae.held_out is None or control.held_out.rows != sae.held_out.rows:
        return False
    measured = control.config.measured if control.config else None
    asked = sae.settings
    return measured is None or (asked is not None and (measured.seed, measured.holdout) == (asked.seed, asked.holdout))


def _controls(entries: Iterable[SAEEntry]) -> list[Control]:
    return [Control(control_in_short(one.config), one) for one in entries if one.config]


def _held_out(sae: SAEEntry, controls: Iterable[Control]) -> tuple[BesideHeldOut, ...]:
    listed = [Control("", sae), *(one for one in controls if _same_rows(one.entry, sae))]
    return tuple(
        BesideHeldOut(control=one.what, sae=one.entry.name, fve=of.fve, l0=of.l0, rows=of.rows)
        for one in listed
        if (of := one.entry.held_out)
    )


def _missing(sae: SAEEntry, frozen: list[Control], directions: list[Control]) -> Iterator[str]:
    if not frozen and sae.alike:
        yield "There is no frozen twin of it: the command that trained it, with --frozen decoder and another --name."
    if not directions and (store := next((one.name for one in sae.made_from if one.kind == "activations"), "")):
        expansion = sae.config.w / sae.config.d if sae.config else 2.0
        width = f" --expansion {exact(expansion)}" if expansion < 2 else ""  # else all that there are
        k = f" --k {sae.k}" if sae.k else ""
        yield f"There are no directions like it: saetui baseline {store} --of pca{width}{k} --name NAME makes some."


def _beside(control: Control, score: Interval, ahead: Interval | None = None) -> Beside:
    twin = bool(control.entry.alike)
    return Beside(control=control.what, sae=control.entry.name, twin=twin, score=score, ahead=ahead)


def _paired(control: str, ours: np.ndarray, theirs: np.ndarray) -> Beside:
    """What is no SAE: unit by unit a control of ours, over the units of which both have a score."""
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    return Beside(control=control, score=mean_ms(theirs[both])[0], ahead=mean_of(ours[both] - theirs[both]))


def _latents(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """MS of the latents in a neurons file, and of their matched raw neurons; NaN where undefined."""
    return _read_latents(path, stamp(path))


def _tests(path: Path) -> ConceptsTested:
    return _read_tests(path, stamp(path))


@lru_cache(maxsize=256)  # for as long as a file stays as it is
def _read_latents(path: Path, at: Stamp | None) -> tuple[np.ndarray, np.ndarray]:
    with Neurons.open(path) as neurons:
        return np.asarray(neurons.ms, np.float64), np.asarray(neurons.matched, np.float64)


@lru_cache(maxsize=64)
def _read_tests(path: Path, at: Stamp | None) -> ConceptsTested:
    return read_concepts(path)


def _made_from(entry: Entry, kind: str) -> str:
    """Content hash of what of that kind it was made from; empty where it does not say."""
    return next((one.sha256 for one in entry.made_from if one.kind == kind), "")


def _on(images: str, scores: Summary) -> str:
    """On which images, and what else tells which scores are alike."""
    return f"{images} ({counted(scores.images, 'image')}, {scores.tokens}, {scores.pooling}, by {scores.embed_with})"


def _scored_as(scores: NeuronsEntry) -> tuple[str, ...]:
    """What scores that may be compared have in common; empty where it is not all known."""
    model, *seen = (_made_from(scores, kind) for kind in ("model", "images", "embeddings"))
    summary = scores.summary
    return (model, *seen, summary.tokens, summary.pooling) if summary and all(seen) else ()


def _tested_as(one: ConceptsEntry, other: ConceptsEntry) -> bool:
    """Whether both are tests of the same concepts on the same halves of the same images."""

    def told(entry: ConceptsEntry) -> tuple[object, ...]:
        settings = _tests(entry.path).settings
        sources = {(source.kind, source.sha256) for source in entry.made_from if source.kind != "sae"}
        return sources, *(getattr(settings, name) for name in _DECIDES)

    return _tried(lambda: told(one) == told(other)) or False


def _of_each(tested: ConceptsTested, value: Callable[[ConceptTest], float | None]) -> dict[str, float]:
    """By concept; NaN where undefined."""
    return {test.concept: np.nan if (found := value(test)) is None else found for test in tested.tests}


def _apart(ours: dict[str, float], theirs: dict[str, float]) -> Interval:
    """Over the concepts that both have."""
    return mean_of(np.array([value - theirs.get(concept, np.nan) for concept, value in ours.items()]))


def _read(kind: type[E], paths: Iterable[Path]) -> list[E]:
    """Those that are there; of damaged ones nothing is known, and so they are controls of none."""
    return [one for path in paths if (one := read_entry(kind, path)) is not None]


def _by_sae(entries: Iterable[E]) -> dict[str, list[E]]:
    """By the content hash of the SAE that they are of."""
    found: dict[str, list[E]] = defaultdict(list)
    for one in entries:
        if sha256 := _made_from(one, "sae"):
            found[sha256].append(one)
    return found


def _tried(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except UNREADABLE:
        return None
