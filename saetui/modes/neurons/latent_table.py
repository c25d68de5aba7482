"""The table of latents. Its columns are declared in ``engine.neurons.quantities``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.neurons.quantities import QUANTITIES, Quantity, Shown
from saetui.formatting import cell, number
from saetui.modes.neurons.latent_list import LatentList
from saetui.modes.neurons.latent_view import AHEAD
from saetui.widgets.table import Column, Table

if TYPE_CHECKING:
    from saetui.scores import Scores

Quantities = list[tuple[Quantity, Shown]]

ALL = [(one, one.column) for one in QUANTITIES if one.column]
BESIDE = [(one, column) for one, column in ALL if one.beside]
"""Those that stand in every list of latents."""


def columns(quantities: Quantities) -> list[Column]:
    return [_column(one, shown) for one, shown in quantities]


def _column(one: Quantity, shown: Shown) -> Column:
    """MS beside its control gives way to nothing, all else to the names."""
    if shown.form == "text":
        return Column(shown.title, shown.width, "left", ends=True, spare=True)
    return Column(shown.title, shown.width, spare=not one.beside)


def known(scores: Scores, quantities: Quantities) -> Quantities:
    """Those of ``quantities`` that these scores have."""
    return [(one, shown) for one, shown in quantities if not one.optional or scores.neurons.defined(one)]


def cells(scores: Scores, latent: int, quantities: Quantities) -> list[str]:
    """What the columns of ``quantities`` say of ``latent``."""
    return [cell(scores.neurons.values(one)[latent], shown.form, shown.width) for one, shown in quantities]


NUMBER, NAMES = Column("#", 6), [Column("", 1, "left"), Column("names", 0, "left")]
MATCH = 7  # terminal cells of what latents were ranked by


class LatentTable(Table):
    """The rows of a :class:`LatentList`, with a cursor."""

    def __init__(self, listed: LatentList) -> None:
        super().__init__([NUMBER, *NAMES], self._cells_of, empty="…", id="latents")
        self.listed = listed
        self.quantities: Quantities = []
        self.scores: Scores | None = None
        self.records, self.order = self._records, listed.falls
        self._place, self._stride = 0, 1  # of the cursor, and how far the last key moved it

    @property
    def latent(self) -> int:
        """The selected one; -1 when there is none."""
        return self.listed.latents[self.cursor] if self.listed.latents else -1

    def show_list(self, scores: Scores, latent: int = -1) -> None:
        """The list is another one now; the cursor goes to ``latent`` where it is listed."""
        self.scores = scores
        matches = [Column(measure, MATCH) for measure in self.listed.matches]
        self.quantities = known(scores, BESIDE if matches else ALL)
        self.set_columns([NUMBER, *matches, *columns(self.quantities), *NAMES])
        self.show(len(self.listed.latents), self.listed.place(latent))

    def go_to(self, latent: int) -> bool:
        """Select ``latent``; whether it is listed."""
        if latent not in self.listed.latents:
            return False
        self.cursor = self.listed.place(latent)
        return True

    def moved(self) -> None:
        """The cursor moved: remember how far."""
        self._stride, self._place = self.cursor - self._place or 1, self.cursor

    def ahead(self) -> list[int]:
        """The latents that the last key leads to when it is pressed again, and those next to this one."""
        steps = [self._stride, -self._stride, *(n * self._stride for n in range(2, AHEAD + 1)), 1, -1]
        places = dict.fromkeys(self.cursor + step for step in steps)
        return [self.listed.latents[place] for place in places if 0 <= place < len(self.listed.latents)]

    def _records(self) -> list[dict[str, Any]]:
        """All that is known of the listed latents, with what they were found by."""
        assert self.scores is not None
        labels, neurons = self.scores.labels, self.scores.neurons
        rows = [neurons.row(latent, labels.texts).to_json() for latent in self.listed.latents]
        matches = self.listed.matches.items()
        return [
            row
            | {measure: values.get(row["latent"]) for measure, values in matches}
            | {"marked": labels.marked(row["latent"])}
            for row in rows
        ]

    def _cells_of(self, row: int) -> list[str]:
        assert self.scores is not None
        latent = self.listed.latents[row]
        mark = "★" if self.scores.labels.marked(latent) else ""
        matches = [number(values.get(latent), 3, MATCH) for values in self.listed.matches.values()]
        numbers = cells(self.scores, latent, self.quantities)
        name = self.scores.name(latent, first=self.listed.through.get(latent, ""))
        return [str(latent), *matches, *numbers, mark, name]
