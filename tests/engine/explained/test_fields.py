"""Every number that a command answers with is explained, or says for itself what it is."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from engine.artefacts.twins import BesideHeldOut, Earned
from engine.config import ScoreSettings
from engine.demo.results import ConceptFound
from engine.explained import EXPLAINED
from engine.explained.fields import OF, PLAIN, explained, key_of
from engine.metrics.results import GroupDepth, Hierarchy, Interval, Recovery, Trend
from engine.neurons.quantities import FIELDS
from engine.neurons.results import Summary
from engine.report.explained import Explained, explanations
from engine.runs.tasks import TASKS, _named
from engine.steer.fidelity.results import ZeroShot
from engine.workspace import Provenance
from saetui.cli.stages import MEASURES

MEASURING = (*MEASURES, "score", "scores", "paper", "demo")
ASIDE = (Provenance,)
"""What an artefact was made from, and its settings, are no results."""


def fields(record: type, seen: tuple[type, ...] = ()) -> Iterator[tuple[type, str, bool]]:
    """The fields of a record that hold numbers, those of the records in it for which it has no explanation itself, and
    whether each is explained."""
    hints = typing.get_type_hints(record)
    for field in dataclasses.fields(record):
        parts = list(leaves(hints[field.name]))
        inner = [part for part in parts if dataclasses.is_dataclass(part) and part not in ASIDE]
        inner = [part for part in inner if not part.__module__.endswith("engine.config")]
        numbers = [part for part in parts if part in (int, float)]
        key = key_of(record, field.name)
        if numbers or (key and inner):
            yield record, field.name, key is not None
        elif key is None:
            for part in inner:
                if part not in seen:
                    yield from fields(part, (*seen, record))


def leaves(hint: Any) -> Iterator[Any]:
    arguments = [one for one in typing.get_args(hint) if one not in (types.NoneType, ...)]
    if typing.get_origin(hint) is typing.Literal:
        return
    if not arguments:
        yield hint
    for one in arguments:
        yield from leaves(one)


def records(task: str) -> list[type]:
    found = _named(TASKS[task].result)
    return [one for one in leaves(found) if dataclasses.is_dataclass(one)]


@pytest.mark.parametrize("task", MEASURING)
def test_every_number_of_a_result_is_explained_or_plain(task: str) -> None:
    found = {(one.__name__, name, told) for record in records(task) for one, name, told in fields(record)}
    assert any(told for *_, told in found)
    assert [(one, name) for one, name, told in found if not told and name not in PLAIN] == []


_HELD_OUT = {"HeldOutMeasurement", "HeldOutFigures"}
_DETECTION = ("auroc", "ap", "f1", "probes", "above", "precise", "missed", "absorbed")
SHARED = {
    "fve": {*_HELD_OUT, "Checked", "BesideHeldOut"},
    "l0": {*_HELD_OUT, "Checked", "BesideHeldOut", "Encoded"},
    "dead": {*_HELD_OUT, "Checked"},
    "images": {
        *("Summary", "ConceptsTested", "ConceptTest", "EncoderFidelity", "AnswerFidelity", "Retrieval"),
        *("Estimated", "Extracted", "ExtractedImages", "StoreImported", "DrawnPictures", "Relinked"),
    },
    "baseline": {"MSSummary", "MatrixScored"},
    **{name: {"ConceptMeans", "ConceptTest"} for name in _DETECTION},
    "latent": {"ConceptTest", "ConceptFound"},
    **{name: {"ConceptFound", "SteeringRates"} for name in ("inserted", "suppressed")},
}
"""Records whose fields of a name were looked at, and are one quantity; what is another has its own line in ``OF``."""


def test_a_name_that_records_share_is_one_quantity_in_each() -> None:
    found: dict[str, set[str]] = {}
    seen: set[type] = set()

    def look(record: type) -> None:
        if record in seen:
            return
        seen.add(record)
        for name, hint in typing.get_type_hints(record).items():
            parts = [part for part in leaves(hint) if part is not str]
            key = key_of(record, name)
            owner = next(one for one in record.__mro__ if name in vars(one)["__annotations__"])
            if parts and key == name and f"{owner.__name__}.{name}" not in OF:
                found.setdefault(name, set()).add(owner.__name__)
            if key is None and not name.endswith("settings"):
                for part in filter(dataclasses.is_dataclass, parts):
                    look(part)

    results = [one for task in TASKS.values() for one in leaves(_named(task.result))]
    for record in (Earned, Summary, *(one for one in results if dataclasses.is_dataclass(one))):
        look(record)
    assert {name: records for name, records in found.items() if len(records) > 1} == SHARED


def test_texts_are_never_explained_as_numbers_of_their_name() -> None:
    one = Recovery(*[Interval(3, 0.5, 0.4, 0.6)] * 6)
    found = explained(ZeroShot(texts=("a cat", "a dog"), accuracy=one, agreement=one))
    assert list(found) == ["accuracy", "agreement"]
    beside = explained(BesideHeldOut(control="frozen decoder", sae="a", fve=0.5, l0=2.0, rows=9))
    assert list(beside) == ["fve", "l0"]
    told = explained(ConceptFound("cat", "object", 3, 0.9, None, None))["auroc"]
    assert not told.interval and "shuffled" not in told.control, "there the demo measures neither"


def test_no_explanation_is_of_a_field_that_is_not_there() -> None:
    known: set[str] = set()

    def look(record: type) -> None:
        hints = typing.get_type_hints(record)
        for field in dataclasses.fields(record):
            known.update(f"{kind.__name__}.{field.name}" for kind in record.__mro__)
            for part in leaves(hints[field.name]):
                if dataclasses.is_dataclass(part) and f"{part.__name__}." not in str(sorted(known)):
                    look(part)

    for record in (Earned, *(record for task in (*MEASURING, "doctor") for record in records(task))):
        look(record)
    assert set(OF) - known == set() and set(filter(None, OF.values())) <= set(EXPLAINED)


def test_every_explanation_is_whole() -> None:
    for name, one in EXPLAINED.items():
        assert one.title and one.formula and one.n, name
        assert bool(one.term) == bool(one.sentence), name
    assert all(one.told.formula and one.about for one in FIELDS.values())
    scores = ("ms", "depth", "peak", "mass", "fve", "auroc", "max_cosine", "agreement", "one_word", "texts", "ours")
    assert all(EXPLAINED[name].control for name in scores), "a score never stands without its control"


METHODS = ("Student's t", "bootstrap-t", "percentiles of a bootstrap", "Wilson's", "quantiles", "p, two-sided")


def test_every_interval_says_how_it_is_made() -> None:
    given = {name: one.interval for name, one in EXPLAINED.items() if one.interval}
    assert {name: made for name, made in given.items() if not any(method in made for method in METHODS)} == {}
    assert "Hoeffding" in given["spliced_cosine"] and "no value is too large" in given["spliced_kl"]


def test_names_are_those_of_the_json() -> None:
    group = GroupDepth(3, 1, 2.0, 2.0, 2, None, low=1.0, high=3.0)
    found = explained(Hierarchy((group, group), 0.5, Trend(None, None)))
    assert {name: one.title for name, one in found.items()} == {
        **dict.fromkeys(("groups.latents", "groups.left_out"), EXPLAINED["group_latents"].title),
        **dict.fromkeys(("groups.depth", "groups.low", "groups.high"), EXPLAINED["group_depth"].title),
        **dict.fromkeys(("groups.rounded", "groups.mode"), EXPLAINED["group_rounded"].title),
        "expected": EXPLAINED["expected_depth"].title,
        "trend": EXPLAINED["rho"].title,
    }, "what is undefined is not there"
    assert explained(ScoreSettings(sae="a", images="b", embed_with="c")) == {}, "settings are no results"


def test_reports_tell_the_same() -> None:
    (told,) = explanations({"ms": ("8 images", "neurons/a--b.h5")}).values()
    assert told == Explained(EXPLAINED["ms"].title, EXPLAINED["ms"].formula, "8 images", "neurons/a--b.h5")
