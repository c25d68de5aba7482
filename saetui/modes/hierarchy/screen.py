"""Mode Hierarchy: Matryoshka groups and the taxonomy as trees; from any node to its latents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import events
from textual.containers import Horizontal
from textual.widget import Widget

from engine.errors import counted
from engine.files import Stamp, stamp
from engine.query import Rows
from engine.runs.watch import RunSnapshot
from saetui.background import ANEW, CANCELLED, look_up
from saetui.bindings import key
from saetui.formatting import fit, literal, number
from saetui.messages import ShowLatents
from saetui.modes.mode import Mode
from saetui.widgets.dialogs import Pick
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Column, Table
from saetui.widgets.tree_table import Branch, TreeTable
from saetui.widgets.words import Words

if TYPE_CHECKING:
    from saetui.modes.hierarchy.trees import Trees

GROUPS = (
    Column("groups", 0, "left", field="name"),
    Column("latents", 8),
    Column("depth", 5),
    Column("MS", 5),
    Column("±", 4, field="half_width"),
    Column("n", 5),
    Column("matched", 7),
    Column("beaten", 6),
)
TAXA = (
    Column("taxonomy", 0, "left", ends=True, field="name"),
    Column("images", 8),
    Column("latents", 7),
    Column("here", 6),
    Column("MS", 5),
    Column("n", 5),
    Column("matched", 7),
)
TEACH = "No scores yet: train an SAE (2), then press s there to score it."
NO_TREE = "These images have neither taxonomy nor classes."


class HierarchyMode(Mode):
    """On top how deep the groups are; below two trees side by side, one above the other where it is narrow."""

    MODE = "hierarchy"
    BINDINGS = [
        key("hierarchy.hide", "o", "hide", "Only with latents", show=True),
        key("hierarchy.filter", "slash", "filter", "Filter", show=True),
        key("hierarchy.sort", "O", "sort", "Sort", show=True),
        key("hierarchy.copy", "y", "copy", "Copy its latents"),
        key("hierarchy.back", "escape", "back", "Out of the filter", show=True),
    ]
    DEFAULT_CSS = """
    HierarchyMode #chart { height: auto; max-height: 40%; padding: 0 1; border-bottom: solid $border; }
    HierarchyMode #trees { height: 1fr; }
    HierarchyMode #groups { width: 1fr; border-right: solid $border; }
    HierarchyMode #taxa { width: 1fr; }
    HierarchyMode.-narrow #trees { layout: vertical; }
    HierarchyMode.-narrow #trees TreeTable { width: 1fr; height: 1fr; border-right: none; }
    HierarchyMode.-narrow #trees TreeTable:focus { height: 2fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.chart = Words(id="chart")
        self.groups, self.taxa = TreeTable(GROUPS, id="groups"), TreeTable(TAXA, id="taxa")
        for tree in (self.groups, self.taxa):
            tree.records, tree.order = partial(self._records, tree), partial(self._falls, tree)
        self.filter = FilterLine("filter: ms>.3 latents>5 NOT insect", folds=True)
        self._filtered = self.groups
        self._sorts: dict[str, str] = {}
        self.trees: Trees | None = None
        self._path: Path | None = None
        self._stamp: Stamp | None = None
        self._settled = False  # once what is remembered has been gone back to

    def parts(self) -> Iterable[Widget]:
        yield from (self.chart, self.filter)
        with Horizontal(id="trees"):
            yield self.groups
            yield self.taxa

    # The file

    def arrive(self) -> None:
        if self.trees is None:  # esc may have cancelled it
            self._path = self._stamp = None
        self._check_file()

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        self._check_file()

    def _check_file(self) -> None:
        """Read the scores that mode Neurons has open if they are other ones now, or were written anew."""
        path = self.services.scores_path or self.services.first_scores()
        seen = stamp(path) if path else None
        if path is None or (seen is None and path != self._path):
            self._path = self._stamp = None
            self._show(None)
        elif (path, seen) != (self._path, self._stamp) and seen is not None:
            self._path, self._stamp = path, seen
            self.chart.say(f"reading {path.name} …")
            self._read(path)

    def _read(self, path: Path) -> None:
        def find() -> Trees:
            from saetui.modes.hierarchy.trees import read

            return read(path)

        look_up(self, "read", find, self._show, partial(self._show, None))
        self.check_scores(path)

    # What is shown

    def _show(self, found: Trees | None, error: str = "") -> None:
        self.trees = found
        self.taxa.display = bool(found and found.by_taxon)
        title = "taxonomy" if found and found.has_taxonomy else "classes"
        self.taxa.set_columns([replace(TAXA[0], title=title), *TAXA[1:]])
        self.groups.display = found is not None
        if found is None:
            self.chart.say(ANEW if error == CANCELLED else error or TEACH)
            return
        with self.prevent(Table.Moved):
            self.groups.grow(found.by_group)
            self.taxa.grow(found.by_taxon)
            self._filter()
            self._restore()
        self._draw()
        if not self._settled:
            self._settled = True
            (self.taxa if self.remembered.get("tree") == "taxa" and found.by_taxon else self.groups).focus()

    def _restore(self) -> None:
        """Go where one was in each tree when the app was last here; scores that are read anew keep the place."""
        if self._settled:
            return
        for tree in (self.groups, self.taxa):
            place = self.remembered.get(tree.id or "")
            if isinstance(place, list) and all(isinstance(name, str) for name in place):
                tree.reveal(tuple(place))

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._draw())

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        """The chart: how deep the top images of each group's latents agree in the taxonomy."""
        found = self.trees
        if found is None:
            return
        if not found.has_taxonomy:
            classes = "" if found.by_taxon else f" {NO_TREE}"
            images = counted(found.images, "image")
            self.chart.say(f"{found.sae} on {images} without a taxonomy: no depth.{classes}")
            return
        from saetui.modes.hierarchy.trees import chart, trend_in_words

        theme = self.app.current_theme
        quiet, accent = theme.secondary or "", theme.accent or ""
        expected = number(found.groups[0].expected)
        room = max(self.size.width - 2, 20)
        text = Text(no_wrap=True)
        text.append(
            fit(literal(f"{found.sae} on {counted(found.images, 'image')} · taxonomy depth by group"), room),
            style="bold",
        )
        text.append(f"\n{fit(f'┊ {expected} is the depth of images drawn at random', room)}\n", style=quiet)
        for name, bar, numbers in chart(found, max(room - 44, 10)):
            text.append(f"{name}  ", style=quiet)
            text.append(bar, style=accent)
            text.append(f"  {numbers}\n")
        text.append(fit(trend_in_words(found), room))
        self.chart.say(text)

    # Moving and jumping

    def on_table_moved(self, event: Table.Moved) -> None:
        if isinstance(event.table, TreeTable) and event.table.branch is not None:
            self.remember(**{event.table.id or "": list(event.table.branch.place), "tree": event.table.id})

    async def on_table_chosen(self, event: Table.Chosen) -> None:
        from saetui.modes.hierarchy.trees import title_of

        branch = event.table.branch if isinstance(event.table, TreeTable) else None
        if branch is None:
            return
        if not branch.count:
            self.services.say(f"No latent has its top images below {branch.place[-1]}.", "information")
            return
        self.post_message(ShowLatents(branch.latents(), title_of(branch)))

    def action_copy(self) -> None:
        """The numbers of the latents of the node, for a script."""
        from saetui.modes.hierarchy.trees import title_of

        if (branch := self._tree.branch) is not None:
            self.services.copy(" ".join(map(str, branch.latents())), f"the numbers of {title_of(branch)}")

    # The filter: of the tree that was in focus when it was begun

    def action_filter(self) -> None:
        if isinstance(self.focused, TreeTable):
            self._filter_of(self.focused)
        self.filter.focus()

    def _filter_of(self, tree: TreeTable) -> None:
        if tree is not self._filtered:
            self.filter.value = ""
            self._filter()
            self._filtered = tree

    @property
    def goes_back(self) -> bool:
        return bool(self.filter.value) or self.filter.typing

    def _filter(self) -> None:
        self.refresh_bindings()
        self._filtered.filter(partial(self.filter.listed, self._asked(self._filtered)))
        self._filtered.empty = self.filter.empty

    def _records(self, tree: TreeTable) -> list[dict[str, Any]]:
        """The nodes that are shown, each with those above it."""
        records = self._asked(tree).records(tree.branches)
        return [{"place": list(one.place)} | row for one, row in zip(tree.branches, records, strict=True)]

    def _asked(self, tree: TreeTable) -> Rows[Branch]:
        from saetui.modes.hierarchy.trees import BY_GROUP, BY_TAXON

        return BY_GROUP if tree is self.groups else BY_TAXON

    def action_sort(self) -> None:
        """The nodes below each node of the tree in focus."""
        tree = self._tree
        asked, name = self._asked(tree), tree.id or ""
        options = {"as they are": "as they are"} | {field: field for field in asked.fields}

        def chosen(sort: str) -> None:
            self._sort(tree, "" if sort == "as they are" else sort)

        self.services.ask(Pick("Sort by", options, self._sorts.get(name, "")), chosen)

    def _sort(self, tree: TreeTable, sort: str) -> None:
        asked, self._sorts[tree.id or ""] = self._asked(tree), sort
        tree.set_order(lambda branches: asked.ordered(branches, sort))

    def _falls(self, tree: TreeTable, heading: str) -> bool | None:
        return self._asked(tree).falls(heading, self._sorts.get(tree.id or "", ""))

    def on_table_headed(self, event: Table.Headed) -> None:
        if isinstance(event.table, TreeTable):
            sort = self._sorts.get(event.table.id or "", "")
            self._sort(event.table, self._asked(event.table).clicked(event.field, sort))

    # The command line: of the tree in focus

    @property
    def _tree(self) -> TreeTable:
        return self.focused if isinstance(self.focused, TreeTable) else self.groups

    def words(self) -> dict[str, str]:
        return {"filter": "filter TEXT: as / does", "sort": f"sort NAME: {', '.join(self.arguments()['sort'])}"}

    def arguments(self) -> dict[str, Iterable[str]]:
        return {"sort": self._asked(self._tree).fields}

    def obey(self, word: str, rest: str) -> bool:
        if word == "filter":
            self._filter_of(self._tree)
            self.filter.value = rest
        elif word == "sort" and (field := self._asked(self._tree).language.named.get(rest.lower())):
            self._sort(self._tree, field)
        else:
            return False
        return True

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        self._filter()

    def on_filter_line_left(self, event: FilterLine.Left) -> None:
        self._filtered.focus()

    def action_back(self) -> None:
        if self.stop_waiting():
            return
        if self.filter.value or self.filter.typing:
            self.filter.value = ""
            self._filter()
            self._filtered.focus()

    def action_hide(self) -> None:
        self.taxa.hide(not self.taxa.hide_empty)
