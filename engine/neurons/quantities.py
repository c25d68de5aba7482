"""What is known of each latent: one declaration a quantity, from which all else follows.

The arrays of the file (:mod:`engine.neurons.file`), what ``score`` computes, the fields of filters
(:mod:`engine.neurons.query`), the sorts, the rows of ``saetui neurons --json``, and the columns of the tables, on
screen and printed. Costs no numpy: ``--help`` tells of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from engine.explained import EXPLAINED, Explanation

Form = Literal["score", "count", "share", "percent", "value", "text"]
"""How a value is written: ``.61``, ``1,234``, ``12.5%``, ``12.50`` (per cent, without the sign), ``3.14``, as it is."""


@dataclass(frozen=True)
class Shown:
    """A column of a table."""

    title: str
    width: int
    """In characters, at least that of the title."""
    form: Form
    of_patches: str = ""
    """Another title, where patches are scored."""

    def where(self, patches: bool) -> Shown:
        """As it is headed where ``patches`` are scored, or images."""
        title = (patches and self.of_patches) or self.title
        return replace(self, title=title, width=max(self.width, len(title)))


@dataclass(frozen=True)
class Quantity:
    """One value a latent, or one array. NaN where undefined."""

    name: str
    holds: str = ""
    """A phrase, where :mod:`engine.explained` tells nothing of its field."""
    dtype: str = ""
    """In the file, at ``latents/<name>``; empty for what is derived from others and not kept."""
    shape: str = ""
    """Beside the w latents; empty for one value a latent."""
    optional: bool = False
    """Absent in files of older versions, or of some models or images; then undefined for all, and its column left
    out."""
    derived: Callable[[Callable[[str], Any]], Any] | None = None
    """One value a latent from others, or from what else :class:`engine.neurons.file.Neurons` has, asked for by name."""
    made_by: str = ""
    """``module:function`` that ``score`` calls; empty where :mod:`engine.neurons.score` gives it itself. Neighbours in
    the list with the same function and arguments are its results, in this order."""
    of: tuple[str, ...] = ()
    """Arguments of that function: quantities above this one, or what :func:`engine.neurons.score.measured` names."""
    field: str = ""
    """Name in filters and rows; empty where it is in neither."""
    aliases: tuple[str, ...] = ()
    """Other names in filters."""
    sorts: bool = False
    """Whether tables can be sorted by it."""
    column: Shown | None = None
    """In the workbench's table of latents."""
    printed: Shown | None = None
    """In the table of ``saetui neurons``."""
    beside: bool = False
    """Whether its column also stands in lists that are ranked by something else."""

    @property
    def about(self) -> str:
        """A phrase; the menu of sorts says it too."""
        return self.told.phrase

    @property
    def told(self) -> Explanation:
        """What ``--explain`` and reports say of it."""
        return EXPLAINED.get(self.field) or Explanation(title=self.holds, formula=self.holds, phrase=self.holds)

    def function(self) -> Callable[..., Any]:
        module, name = self.made_by.split(":")
        return getattr(importlib.import_module(module), name)


def _numbers(of: Callable[[str], Any]) -> Any:
    import numpy as np

    return np.arange(len(of("ms")))


def _classes(of: Callable[[str], Any]) -> Any:
    import numpy as np

    called, shares = of("kind_of"), of("class_share")
    shown = [f"{share:4.0%} {called(latent)}" if share > 0 else np.nan for latent, share in enumerate(shares.tolist())]
    once = {text: text for text in shown}  # few differ; all of them held would be most of the table's memory
    return np.array([once[text] for text in shown], object)


QUANTITIES = (
    Quantity(
        "ms",
        dtype="float64",
        field="ms",
        sorts=True,
        column=Shown("MS", 4, "score"),
        printed=Shown("MS", 4, "score"),
        beside=True,
    ),
    Quantity("low", dtype="float64", field="low", sorts=True),  # of 95 %
    Quantity("high", dtype="float64", field="high"),
    Quantity(
        "half_width",
        derived=lambda of: (of("high") - of("low")) / 2,
        field="half_width",
        sorts=True,
        column=Shown("±", 4, "score"),
        printed=Shown("±", 4, "score"),
    ),
    Quantity(
        "matched",
        dtype="float64",
        field="matched",
        sorts=True,
        column=Shown("raw", 4, "score"),
        printed=Shown("matched", 7, "score"),
        beside=True,
    ),
    Quantity(
        "gain",
        derived=lambda of: of("ms") - of("matched"),
        field="gain",
        sorts=True,
        column=Shown("gain", 4, "score"),
        printed=Shown("gain", 4, "score"),
    ),
    Quantity(
        "support",
        dtype="int64",
        field="support",
        aliases=("images", "patches"),
        sorts=True,
        column=Shown("n", 6, "count"),
        printed=Shown("images", 6, "count", of_patches="patches"),
    ),
    Quantity(
        "effective_support",
        dtype="float64",
        field="effective_support",
        aliases=("effective",),
    ),
    Quantity(
        "image_frequency",
        dtype="float64",
        made_by="engine.metrics.firing:image_frequency",
        of=("activations",),
        field="frequency",
        aliases=("freq", "image_frequency"),
        sorts=True,
        column=Shown("freq", 6, "share"),
        printed=Shown("freq %", 6, "percent"),
    ),
    Quantity("token_frequency", dtype="float64", field="token_frequency", aliases=("tokens",)),
    Quantity(
        "maximum",
        dtype="float32",
        field="maximum",
        aliases=("max",),
        sorts=True,
        printed=Shown("max", 6, "value"),
    ),
    Quantity(
        "mean",
        dtype="float32",
        made_by="engine.metrics.firing:mean_activation",
        of=("activations",),
        field="mean",
    ),
    Quantity(
        "histogram",
        "images by activation, in equal bins from 0 to its maximum",
        "uint32",
        "bins",
        made_by="engine.metrics.firing:histograms",
        of=("activations", "maximum"),
    ),
    Quantity("top_images", "numbers of the images, largest activation first; -1 pads", "int32", "top"),
    Quantity("top_activations", "activations on the top images; 0 pads", "float32", "top"),
    Quantity(
        "distinct",
        dtype="int32",
        optional=True,
        made_by="engine.metrics.copies:distinct",
        of=("top_images", "embeddings"),
        field="distinct",
        sorts=True,
    ),
    Quantity(
        "depth",
        dtype="float64",
        made_by="engine.metrics.hierarchy:depths",
        of=("top_images", "paths"),
        field="depth",
        sorts=True,
    ),
    Quantity(
        "depth_mode",
        "the most frequent depth of pairs of top images; -1 below all top images",
        "int16",
        made_by="engine.metrics.hierarchy:depths",
        of=("top_images", "paths"),
    ),
    Quantity(
        "group",
        dtype="int16",
        made_by="engine.metrics.hierarchy:group_of",
        of=("groups", "w"),
        field="group",
        sorts=True,
    ),
    Quantity(
        "class_image",
        "number of the first top image of its commonest class; -1: none",
        "int32",
        optional=True,
        made_by="engine.metrics.classes:commonest",
        of=("top_images", "labels"),
    ),
    Quantity(
        "class_share",
        dtype="float64",
        optional=True,
        made_by="engine.metrics.classes:commonest",
        of=("top_images", "labels"),
        field="class_share",
        sorts=True,
    ),
    Quantity(
        "class",
        "the commonest class of its top images and its share of them",
        optional=True,
        derived=_classes,
        column=Shown("class", 18, "text"),
        printed=Shown("class", 14, "text"),
    ),
    Quantity(
        "peak",
        dtype="float64",
        optional=True,  # NaN where no objects are told
        field="peak",
        sorts=True,
        column=Shown("peak", 4, "score"),
        printed=Shown("peak", 4, "score"),
    ),
    Quantity(
        "chance_peak",
        dtype="float64",
        optional=True,
        field="chance_peak",
        sorts=True,
        column=Shown("rand", 4, "score"),
        printed=Shown("rand", 4, "score"),
    ),
    Quantity("mass", dtype="float64", optional=True, field="mass", sorts=True),
    Quantity("chance_mass", dtype="float64", optional=True, field="chance_mass"),
    Quantity("partner", "latent with the most similar top images; -1: none", "int32"),
    Quantity("jaccard", "Jaccard index of its top images and its partner's", "float32"),
    Quantity("names", "numbers of the nearest words, nearest first; -1: none", "int32", "n"),
    Quantity("name_scores", "cosines of the nearest words", "float32", "n"),
    Quantity(
        "near",
        "latents with the nearest decoder rows; -1 pads",
        "int32",
        "m",
        optional=True,
        made_by="engine.metrics.neighbours:nearest",
        of=("decoder",),
    ),
    Quantity(
        "near_cosines",
        "cosines of the nearest decoder rows",
        "float32",
        "m",
        optional=True,
        made_by="engine.metrics.neighbours:nearest",
        of=("decoder",),
    ),
    Quantity(
        "cofiring",
        "latents that fire on the same images; -1 pads",
        "int32",
        "m",
        optional=True,
        made_by="engine.metrics.neighbours:cofiring",
        of=("activations",),
    ),
    Quantity(
        "cofiring_scores",
        "Jaccard indices of the images",
        "float32",
        "m",
        optional=True,
        made_by="engine.metrics.neighbours:cofiring",
        of=("activations",),
    ),
    Quantity(
        "directions",
        "unit direction of the top images in the space of the text tower",
        "float16",
        "D",
        optional=True,  # absent without a text tower
    ),
    Quantity("latent", derived=_numbers, field="latent", aliases=("#",), sorts=True),
)

KEPT = {one.name: one for one in QUANTITIES if one.dtype}
"""Those in the file."""


def check_order(quantities: Iterable[Quantity]) -> None:
    """ValueError for one that is made of a quantity below it: scoring makes them in this order."""
    above: set[str] = set()
    declared = list(quantities)
    for made, together in groupby(declared, key=lambda one: (one.made_by, one.of)):
        names = {one.name for one in together}
        later = {one.name for one in declared if one.made_by or not one.dtype} - above
        if made[0] and (wanting := sorted(later & set(made[1]))):
            raise ValueError(f"The quantity {min(names)} is made of {wanting[0]}: declare it below {wanting[0]}.")
        above |= names


check_order(QUANTITIES)

FIELDS = {one.field: one for one in QUANTITIES if one.field}
"""Those that filters compare, by their name there."""

TEXTS: dict[str, tuple[str, ...]] = {"class": (), "names": ("name",), "label": ()}
"""Fields of filters that hold text: the commonest class of the top images, what the column *names* shows, the label."""

HEADED = {
    field: (*one.aliases, *(shown.title.replace(" ", "") for shown in (one.column, one.printed) if shown))
    for field, one in FIELDS.items()
}
"""Other names of the fields in filters, among them the headings of their columns."""

BEST = "best"
"""The sort that lists open with."""

SUPPORT = 16
"""Images that a latent must fire on to stand among the first there: as many as its gallery shows. With fewer, the
interval of MS is as wide as what good latents have over their neurons (median half width on the demo: .12 for 8 to 15
images, .08 for 16 to 31)."""

SORTS = (
    {BEST: "gain, those that only few images fire last"}
    | {one.field: one.about for one in QUANTITIES if one.sorts}
    | {
        "class": "the commonest class of its top images",
        "names": "label, or nearest word",
        "marked": "marked ones first",
    }
)
"""What tables can be sorted by, and what that is."""
