"""Which explanation a field of a result has."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from engine.explained import EXPLAINED, Explanation

OF: Mapping[str, str] = {
    **dict.fromkeys(
        ("Summary.ms", "Summary.frequency", "ConceptsTested.matched", "DemoDone.ms", "DemoDone.concepts"), ""
    ),
    "HeldOutMeasurement.cosine": "reconstruction_cosine",
    **dict.fromkeys((f"HeldOutMeasurement.ms{end}" for end in ("", "_latents", "_low", "_high")), "ms_held_out"),
    **{f"HeldOutMeasurement.ms_matched_{end}": "ms_matched" for end in ("latents", "low", "high")},
    "MSSummary.sae": "ms_mean",
    "MSSummary.raw": "raw_mean",
    "MSSummary.matched": "matched_mean",
    "Frequency.l0": "score_l0",
    "Frequency.dense": "score_dense",
    "Frequency.median": "median_frequency",
    "Summary.dead": "dead_scored",
    **{f"Localisation.{name}": f"mean_{name}" for name in ("peak", "mass", "chance_peak", "chance_mass")},
    **dict.fromkeys(("GroupDepth.latents", "GroupDepth.left_out", "GroupDepth.ms_latents"), "group_latents"),
    **dict.fromkeys(("GroupDepth.depth", "GroupDepth.low", "GroupDepth.high"), "group_depth"),
    **dict.fromkeys(("GroupDepth.rounded", "GroupDepth.mode"), "group_rounded"),
    **dict.fromkeys(("GroupDepth.ms", "GroupMS.ms"), "group_ms"),
    "GroupMS.latents": "group_latents",
    "GroupMS.matched": "group_matched",
    **dict.fromkeys(("GroupMS.std", "GroupMS.matched_std"), "group_std"),
    **{f"{of}.random_{end}": "random_depth" for of in ("GroupDepth", "Hierarchy") for end in ("low", "high")},
    "Hierarchy.expected": "expected_depth",
    "Hierarchy.trend": "rho",
    **{f"MSSummary.lift_{name}": "lift" for name in ("latents", "low", "high")},
    **{f"MatrixScored.{name}": "column_mean" for name in ("mean", "best", "worst", "std", "low", "high")},
    "ConceptsTested.left_out": "concepts",
    **dict.fromkeys(("WorkspaceReport.concepts", "BesideHeldOut.control", "ZeroShot.texts"), ""),  # others of the name
    "ConceptFound.auroc": "found_auroc",
    **{f"ConceptTest.{name}": "concept_control" for name in ("matched", "random", "shuffled")},
    **dict.fromkeys(("Stability.there", "Stability.back"), "max_cosine"),
    "Stability.matched": "matched_cosine",
    **{f"Stability.random_{name}": "random_cosine" for name in ("there", "back", "matched")},
    "StabilityMeasured.matched": "matched_cosine",
    "Steerability.word": "one_word",
    "Steerability.word_on_pictures": "one_word",
    "Steerability.groups": "steered_groups",
    "Steerability.latents": "steered_latents",
    "Steerability.agreement": "judges_agree",
    "Concord.share": "judges_agree",
    "SteeringRates.colours_inserted": "inserted",
    "SteeringRates.colours_suppressed": "suppressed",
    **{
        f"SteeringRates.{name}": "named_by_control"
        for name in ("random_control", "attached_control", "random_any_kind", "attached_suppressed")
    },
    **{f"SteeringRates.two_named{control}": "two_named" for control in ("", "_random")},
    **dict.fromkeys(("PaperCell.low", "PaperCell.high"), "ours"),
    "PaperCell.twin": "paper_twin",
    **dict.fromkeys(("Scored.twins", "Earned.ms"), "twin_ms"),
    "Earned.auroc": "twin_auroc",
    "EncoderFidelity.cosine": "spliced_cosine",
    "ZeroShot.accuracy": "right_class",
    "ZeroShot.agreement": "same_class",
    **{f"Retrieval.{of}_at_{n}": f"{of}_found" for of in ("text", "image") for n in (1, 5)},
    "AnswerFidelity.kl": "spliced_kl",
    "AnswerFidelity.same_token": "same_token",
}
"""Of fields that are not called as their quantity is. A field that holds a record of a quantity, as a mean with its
interval, stands for all of it; one that is called as a quantity and holds several has none."""

PLAIN = {
    **dict.fromkeys(("d", "w", "k", "steps", "seed", "strength"), "a size, or as it was asked"),
    **dict.fromkeys(("bytes", "state_bytes", "seconds"), "room and time"),
    **dict.fromkeys(
        ("rows", "pairs", "compared", "latents", "patches", "broken", "undecided", "left_out", "parts", "shards"),
        "an n, or files, counted",
    ),
    **dict.fromkeys(("captions", "tokens"), "counted"),
    **dict.fromkeys(("extracted_now", "imported_now"), "of these, what was not there yet"),
}
"""Numbers that say for themselves what they are, and what that is."""


def key_of(record: type, field: str) -> str | None:
    """Of what is told of a field that is no text; None where it has none of its own."""
    for kind in record.__mro__:
        if (name := f"{kind.__name__}.{field}") in OF:
            return OF[name] or None
    return field if field in EXPLAINED else None


def explained(result: Any, path: str = "") -> dict[str, Explanation]:
    """What is told of the numbers in a result, by their names in its JSON: of nested ones joined by dots. ``path``: its
    own name, where it is nested itself."""
    return dict(_explained(result, path))


def _explained(value: Any, path: str) -> Iterator[tuple[str, Explanation]]:
    if isinstance(value, (tuple, list)):
        for one in value:
            yield from _explained(one, path)
    if not dataclasses.is_dataclass(value):
        return
    for field in dataclasses.fields(value):
        held, at = getattr(value, field.name), f"{path}.{field.name}" if path else field.name
        key = None if isinstance(held, str) else key_of(type(value), field.name)
        if held is None or held == ():
            continue
        if key is not None:
            yield at, EXPLAINED[key]
        elif not field.name.endswith("settings"):
            yield from _explained(held, at)


def explained_fields(names: Any) -> dict[str, Explanation]:
    """The same of the fields of a table that are called as their quantities."""
    return {name: EXPLAINED[name] for name in names if name in EXPLAINED}
