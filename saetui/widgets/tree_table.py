"""A tree as a table: a row for each visible node, its numbers in columns, children indented under it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from saetui.bindings import key
from saetui.widgets.table import Column, Table

Place = tuple[str, ...]


@dataclass(eq=False)
class Branch:
    """A node: the cells of its row (its name first), its children, and its latents."""

    place: Place
    """Names from the root down, by which it is remembered."""
    cells: Sequence[str]
    children: list["Branch"] = field(default_factory=list)
    latents: Callable[[], list[int]] = list
    count: int = 0
    """Number of latents."""
    values: Mapping[str, float | str | None] = field(default_factory=dict)
    """What the filter line may ask of it, by field."""


class TreeTable(Table):
    """A table of the open part of a tree, so that ten thousand species cost little. l opens, h closes or goes up."""

    BINDINGS = [
        key("outline.open", "l,right,space", "open", "Open"),
        key("outline.close", "h,left", "close", "Close, or go up"),
    ]

    def __init__(self, columns: Sequence[Column], empty: str = "", **options: Any) -> None:
        super().__init__(columns, self._row_cells, empty, **options)
        self._roots: list[Branch] = []
        self._opened: set[Place] = set()
        self._shown: list[tuple[Branch, int]] = []
        self.hide_empty = False
        self._arranged: Callable[[Sequence[Branch]], Sequence[Branch]] = lambda branches: branches
        self._kept: set[Place] | None = None  # nodes that the filter asks for, and those above them

    @property
    def branch(self) -> Branch | None:
        """The node under the cursor."""
        return self._shown[self.cursor][0] if self._shown else None

    @property
    def branches(self) -> list[Branch]:
        """The nodes that are shown, from the first row to the last."""
        return [branch for branch, _ in self._shown]

    def grow(self, roots: Sequence[Branch]) -> None:
        """Show the trees of ``roots``. Nodes that were open stay open."""
        here = self.branch
        self._roots = list(roots)
        self._opened |= {root.place for root in roots if len(roots) == 1}
        self._rebuild(here.place if here else ())

    def reveal(self, place: Place) -> None:
        """Open the nodes above ``place`` and move the cursor to it."""
        self._opened |= {place[:length] for length in range(len(place))}
        self._rebuild(place)

    def filter(self, listed: Callable[[list[Branch]], list[Branch]]) -> None:
        """Show the nodes that are ``listed`` of all, and those above them, opened; all where all are listed."""
        everything = [branch for root in self._roots for branch in _below(root)]
        wanted = listed(everything)
        if len(wanted) == len(everything):
            self._kept = None
        else:
            self._kept = {one.place[:length] for one in wanted for length in range(1, len(one.place) + 1)}
        here = self.branch
        self._rebuild(here.place if here else ())

    def set_order(self, arranged: Callable[[Sequence[Branch]], Sequence[Branch]]) -> None:
        """Let the nodes below each node stand as they are ``arranged``."""
        self._arranged = arranged
        here = self.branch
        self._rebuild(here.place if here else ())

    def hide(self, empty: bool) -> None:
        """Hide or show the nodes without latents."""
        self.hide_empty = empty
        here = self.branch
        self._rebuild(here.place if here else ())

    def action_open(self) -> None:
        here = self.branch
        if here is None or not self._children(here):
            return
        if here.place in self._opened:
            self.cursor += 1
        else:
            self._opened.add(here.place)
            self._rebuild(here.place)

    def action_close(self) -> None:
        here = self.branch
        if here is None:
            return
        if here.place in self._opened and self._children(here):
            self._opened.discard(here.place)
            self._rebuild(here.place)
        else:
            self.cursor = self._parent_row(self.cursor)

    def _parent_row(self, row: int) -> int:
        depth = self._shown[row][1]
        return next((above for above in range(row - 1, -1, -1) if self._shown[above][1] < depth), row)

    def _children(self, branch: Branch) -> list[Branch]:
        found = [one for one in branch.children if one.count] if self.hide_empty else branch.children
        return found if self._kept is None else [one for one in found if one.place in self._kept]

    def _rebuild(self, here: Place) -> None:
        """Rebuild the rows, with the cursor on ``here`` or, where that is gone, on its nearest ancestor."""
        self._shown = list(self._walk(self._roots, 0))
        rows = {branch.place: row for row, (branch, _) in enumerate(self._shown)}
        above = (here[:length] for length in range(len(here), -1, -1))
        self.show(len(self._shown), next((rows[place] for place in above if place in rows), 0))

    def _walk(self, branches: Sequence[Branch], depth: int) -> Iterator[tuple[Branch, int]]:
        for branch in self._arranged(branches):
            if self._kept is not None and branch.place not in self._kept:
                continue
            yield branch, depth
            if branch.place in self._opened or self._kept is not None:
                yield from self._walk(self._children(branch), depth + 1)

    def _row_cells(self, row: int) -> Sequence[str]:
        branch, depth = self._shown[row]
        mark = (
            " "
            if not self._children(branch)
            else "▾"
            if branch.place in self._opened or self._kept is not None
            else "▸"
        )
        return f"{'  ' * depth}{mark} {branch.cells[0]}", *branch.cells[1:]


def _below(branch: Branch) -> Iterator[Branch]:
    """``branch`` and all nodes below it."""
    yield branch
    for child in branch.children:
        yield from _below(child)
