"""The latents of the report as the page takes them: what is shown of each, what it is filtered and sorted by."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine.config import ReportSettings
from engine.neurons.cropping import Frame
from engine.neurons.file import Neurons
from engine.neurons.labels import Labels
from engine.neurons.quantities import BEST, FIELDS, HEADED, QUANTITIES, SORTS, TEXTS, Form, Quantity
from engine.neurons.query import PROPERTIES
from engine.numbers import UNDEFINED, alike, count, number, percent
from engine.report.pictures import Album, heat_of
from engine.reporter import Reporter

FIRST = ("ms", "matched", "gain")  # always together: no MS without its control
NAMES = 8
_EVERY = 256  # latents, between two looks at whether to go on


@dataclass(frozen=True)
class Value:
    """A quantity of a latent that the page shows."""

    field: str
    title: str
    form: Form


@dataclass(frozen=True)
class Chosen:
    """The latents that were asked for, in their order; ``found``: how many, before ``top`` cut them off."""

    latents: list[int]
    found: int
    sort: str


def chosen(neurons: Neurons, labels: Labels, settings: ReportSettings) -> Chosen:
    """Those of copies come last. UserError for a filter that cannot be understood, or a sort that there is none of."""
    listed = neurons.listed(settings.sort, settings.filter, labels.texts, marks=labels.marks)
    found = [*listed.latents, *listed.aside]
    wanted = _only(settings.only, labels)
    if wanted is not None:
        found = [latent for latent in found if latent in wanted]
    return Chosen(found[: settings.top] if settings.top else found, len(found), settings.sort or BEST)


def _only(only: Literal["all", "marked", "labelled"], labels: Labels) -> set[int] | None:
    match only:
        case "marked":
            return labels.marks
        case "labelled":
            return set(labels.texts)
    return None


def shown(neurons: Neurons) -> list[Value]:
    """The quantities with a column somewhere, those that belong together first."""
    columns = {one.field: one for one in QUANTITIES if one.field and (one.column or one.printed or one.field in FIRST)}
    order = [*FIRST, *(field for field in columns if field not in FIRST)]
    known = [columns[field] for field in order if neurons.defined(columns[field])]
    patches = neurons.summary.patches is not None
    return [Value(one.field, _title(one, patches), _form(one)) for one in known if _form(one) != "text"]


def _title(quantity: Quantity, patches: bool) -> str:
    column = quantity.printed or quantity.column
    return quantity.field if column is None else column.where(patches).title.removesuffix(" %")


def _form(quantity: Quantity) -> Form:
    column = quantity.column or quantity.printed
    return "score" if column is None else column.form


def in_words(value: float, form: Form) -> str:
    """A quantity as the tables of latents write it."""
    if math.isnan(value):
        return UNDEFINED
    match form:
        case "count":
            return count(int(value))
        case "share" | "percent":
            return percent(value, 1)
    return number(value)


def fill(album: Album, neurons: Neurons, latents: Sequence[int], pictures: int, reporter: Reporter) -> None:
    """Take in the top images of ``latents``, all of the first latent before those of the next."""
    tops = neurons.top_images
    paths = [neurons.images[n].path for latent in latents for n in tops[latent][:pictures].tolist() if n >= 0]
    album.fill(paths, reporter)


def rows(
    neurons: Neurons,
    labels: Labels,
    latents: Sequence[int],
    values: Sequence[Value],
    album: Album,
    pictures: int,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """One mapping a latent, of values that JSON has. Keys are short: there are thousands.

    ``n`` number, ``l`` label, ``m`` marked, ``w`` names, ``c`` commonest class, ``d`` that as tables show it, ``k``
    what else finds it; ``v`` values by field, ``t`` those that are shown, as text; ``p`` top images, each with its
    picture, activation, and where there are maps the digits, the strongest patch, its value, and where patches were
    scored left, top, width and height of the crop around it, in per cent; ``o`` how many top images are not here.
    """
    columns = {field: neurons.values(quantity) for field, quantity in FIELDS.items()}
    return [
        {
            "n": latent,
            "l": labels.text(latent),
            "m": int(labels.marked(latent)),
            "w": neurons.names_of(latent)[:NAMES],
            "c": neurons.class_of(latent),
            "d": neurons.kind_of(latent),
            "k": _findable(neurons, latent),
            "v": [_exactly(columns[field][latent]) for field in FIELDS],
            "t": [in_words(float(columns[value.field][latent]), value.form) for value in values],
            **_pictures(neurons, latent, album, pictures),
        }
        for latent in _counted(latents, reporter)
    ]


def _counted(latents: Sequence[int], reporter: Reporter) -> Iterator[int]:
    """``latents``, telling how far one is."""
    for done, latent in enumerate(latents):
        if done % _EVERY == 0:
            reporter.check()
            reporter.progress(done, len(latents), "latents")
        yield latent


def _findable(neurons: Neurons, latent: int) -> str:
    """The commonest class of its top images in all its words; empty where the class says them already."""
    image = int(np.nan_to_num(neurons.class_image[latent], nan=-1))
    classes = neurons.images[image].classes if image >= 0 else ""
    return "" if classes == neurons.class_of(latent) else classes.replace("\n", " ")


def _pictures(neurons: Neurons, latent: int, album: Album, pictures: int) -> dict[str, Any]:
    top = neurons.top(latent)[:pictures]
    places = [album.place(one.path) for one in top]
    if not any(place is not None for place in places):
        return {"p": [], "o": len(top)}
    maps = neurons.maps(latent)
    heat = list(heat_of(maps[: len(top)])) if maps is not None else []
    fires = alike([one.activation for one in top])
    peaks = alike([heat[place][2] if heat else 0.0 for place in range(len(top))])
    frames = neurons.frames(latent)
    found: list[list[Any]] = []
    for place, picture in enumerate(places):
        if picture is not None:
            digits, strongest, _ = heat[place] if heat else ("", -1, 0.0)
            found.append([picture, fires[place], digits, strongest, peaks[place], *_placed(frames[place : place + 1])])
    return {"p": found, "o": len(top) - len(found)}


def _placed(frames: Sequence[Frame | None]) -> list[list[float]]:
    """Left, top, width and height in per cent, of those that there are."""
    return [
        [round(100 * one, 2) for one in (left, top, right - left, bottom - top)]
        for left, top, right, bottom in filter(None, frames)
    ]


def _exactly(value: Any) -> float | int | None:
    """As filters compare it, to seven digits, which single precision has."""
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.7g}")


def properties(neurons: Neurons, labels: Labels) -> dict[str, list[int]]:
    """The latents that have each property of the filter line."""
    return {name: neurons.order("latent", name, labels.texts, marks=labels.marks) for name in PROPERTIES}


def language() -> dict[str, Any]:
    """Fields and sorts as the page's filter line has them: the names that every table of latents knows."""
    kinds = {**dict.fromkeys(FIELDS, "number"), **dict.fromkeys(TEXTS, "text"), **dict.fromkeys(PROPERTIES, "property")}
    aliases = {**HEADED, **TEXTS, **PROPERTIES}
    names = {name.lower(): one for one in kinds for name in aliases.get(one, ())} | {one: one for one in kinds}
    return {"fields": list(FIELDS), "kinds": kinds, "names": names, "sorts": SORTS}
