"""Mode Data: what there is to extract from and with, what has been extracted, and extracting more."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table as Grid
from rich.text import Text
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widget import Widget

from engine.activations.target import task_of
from engine.config import IMAGE_SOURCES
from engine.runs.run import Run
from engine.runs.watch import RunSnapshot
from engine.settings import to_mapping
from saetui.background import Wanted, look_up, look_up_each
from saetui.bindings import key
from saetui.formatting import duration, literal, percent, rate
from saetui.modes.data import descriptions
from saetui.modes.data.descriptions import Description
from saetui.modes.data.extract_form import IMPORTED, ExtractForm, first_values, imported_values, known_values
from saetui.modes.data.image_strip import PictureStrip
from saetui.modes.data.listing import EMPTY, Found, Kind, Listing, Selected, makes
from saetui.modes.data.store_check import StoreCheck
from saetui.modes.data.tables import Tables
from saetui.modes.forms import ImportForm
from saetui.modes.mode import Mode
from saetui.widgets.bars import waiting
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Table
from saetui.widgets.words import Words


class DataMode(Mode):
    """Left: three tables. Right: the selected row in words and pictures."""

    MODE = "data"
    BINDINGS = [
        key("data.extract", "e", "extract", "Extract", show=True),
        key("data.import", "i", "import", "Import", show=True),
        key("data.add", "a", "add", "Add images", show=True),
        key("data.verify", "v", "verify", "Verify", show=True),
        key("data.continue", "c", "continue", "Continue", show=True),
        key("data.filter", "slash", "filter", "Filter"),
        key("data.sort", "o", "sort", "Sort"),
        key("data.copy", "y", "copy", "Copy where it is"),
        key("data.more", "n", "part('strip', 'more')", "More images", show=True),
        key("data.back", "escape", "back", "Back", show=True),
    ]
    DEFAULT_CSS = """
    DataMode #left { width: 1fr; border-right: solid $border; }
    DataMode #right { width: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    DataMode #right:focus { background-tint: $foreground 2%; }
    DataMode #title, DataMode #facts, DataMode #progress { height: auto; }
    DataMode #title, DataMode PictureStrip { margin-bottom: 1; }
    DataMode #title { text-style: bold; }
    DataMode.-narrow #right { display: none; }
    DataMode.-narrow.-opened #right { display: block; width: 1fr; }
    DataMode.-narrow.-opened #left { display: none; }
    DataMode.-narrow #left { border-right: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.listing = Listing(self.services.workspace.root)
        self.selected: Selected | None = None
        self.tables = Tables(self.listing)
        self.heading, self.progress, self.facts = (Words(id=name) for name in ("title", "progress", "facts"))
        self.strip = PictureStrip()
        self._descriptions: dict[Selected, Description] = {}
        self._verdicts: dict[Selected, str] = {}
        self._check: StoreCheck | None = None
        self._ticking: Timer | None = None

    def parts(self) -> Iterable[Widget]:
        with Horizontal():
            yield self.tables
            with VerticalScroll(id="right", classes="right", can_focus=True):
                yield from (self.heading, self.progress, self.strip, self.facts)

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_again())

    # The filters

    def action_filter(self) -> None:
        """Of the table that was in focus last."""
        self.remove_class("-opened")
        self.tables.filters[self._kind or (self.selected.kind if self.selected else "store")].focus()

    def action_sort(self) -> None:
        """The table in focus."""
        kind = self._kind or "store"
        options = {"as it came": "as it came"} | {name: name for name in self.listing.asked(kind).fields}

        def chosen(sort: str) -> None:
            self._sort(kind, "" if sort == "as it came" else sort)

        self.services.ask(Pick("Sort by", options, self.listing.sorts.get(kind, "")), chosen)

    def _sort(self, kind: Kind, sort: str) -> None:
        self.listing.sorts[kind] = sort
        self._show_tables(False)

    def on_table_headed(self, event: Table.Headed) -> None:
        kind = self.tables.kind_of(event.table)
        self._sort(kind, self.listing.asked(kind).clicked(event.field, self.listing.sorts.get(kind, "")))

    # The command line: of the table in focus

    def words(self) -> dict[str, str]:
        return {"filter": "filter TEXT: as / does", "sort": f"sort NAME: {', '.join(self.arguments()['sort'])}"}

    def arguments(self) -> dict[str, Iterable[str]]:
        return {"sort": self.listing.asked(self._kind or "store").fields}

    def obey(self, word: str, rest: str) -> bool:
        kind = self._kind or "store"
        if word == "filter":
            self.tables.filters[kind].value = rest
        elif word == "sort" and (field := self.listing.asked(kind).language.named.get(rest.lower())):
            self._sort(kind, field)
        else:
            return False
        return True

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        kind = self.tables.kind_of_line(event.line)
        self.listing.lines[kind] = event.line.value
        self.refresh_bindings()
        self.tables.show(None)
        self._select(kind)

    def on_filter_line_left(self, event: FilterLine.Left) -> None:
        self.tables.table(self.tables.kind_of_line(event.line)).focus()

    # What there is

    def arrive(self) -> None:
        self._look()

    def _look(self) -> None:
        find = partial(Found.look, self.services.workspace, self._added)
        look_up(self, "look", find, self._take, self.services.say)

    def _take(self, found: Found) -> None:
        if found.problem:
            self.services.say(found.problem)
        first, changed = self.selected is None, found != self.listing.found
        self.listing.found = found
        if changed or first:
            self._descriptions.clear()
            self._show_tables(first)

    @property
    def _added(self) -> list[str]:
        """Sources that a person added here."""
        return [one for one in self.recall("sources", list[Any]()) if isinstance(one, str)]

    def _show_tables(self, first: bool) -> None:
        kept = self.selected or Selected.of(self.remembered)
        self.tables.show(kept)
        if first:
            known = kept is not None and kept.name in self.listing.names(kept.kind)
            kind: Kind = kept.kind if kept and known else "store" if self.listing.stores else "source"
            self.tables.table(kind).focus()
            self._select(kind)
        elif self.selected:
            self._select(self.selected.kind)

    # What is selected

    def on_table_moved(self, event: Table.Moved) -> None:
        self._select(self.tables.kind_of(event.table))

    def on_descendant_focus(self) -> None:
        if isinstance(self.focused, Table):
            self._select(self.tables.kind_of(self.focused))

    def _select(self, kind: Kind) -> None:
        selected = self.tables.selected(kind)
        again, self.selected = selected == self.selected, selected
        if selected is None:
            self._show(Description("", [("", EMPTY[kind])]))
            return
        if not again:
            self.remember(kind=kind, name=selected.name)
        self.refresh_bindings()
        self._show_progress()
        if selected in self._descriptions:
            self._show(self._descriptions[selected])
        else:
            self._describe(selected)

    def _describe(self, selected: Selected) -> None:
        describe = self._describer(selected)

        def fail(sentence: str) -> None:
            self._described(selected, Description(Path(selected.name).name, [("problem", sentence)]))

        look_up_each(self, "describe", lambda wanted: (describe(wanted),), partial(self._described, selected), fail)

    def _describer(self, selected: Selected) -> Callable[[Wanted], Description]:
        found, name = self.listing.found, selected.name
        if selected.kind == "source":
            return partial(descriptions.source, name, found.stores)
        if selected.kind == "encoder":
            return lambda wanted: descriptions.encoder(name, found.stores, found.defaults)
        entry = self.listing.store(selected)
        assert entry is not None
        return partial(descriptions.store, entry)

    def _described(self, selected: Selected, words: Description) -> None:
        self._descriptions[selected] = words
        if selected == self.selected:
            self._show(words)

    def _show(self, words: Description) -> None:
        quiet = self.app.current_theme.secondary or ""
        self.heading.say(words.title)
        grid = Grid.grid(padding=(0, 2, 0, 0))
        grid.add_column(style=quiet, no_wrap=True)
        grid.add_column(overflow="fold")
        verdict = self._verdicts.get(self.selected) if self.selected else None
        for name, fact in [*words.facts, *([("checked", verdict)] if verdict else [])]:
            grid.add_row(name, Text(literal(fact)))
        self.facts.update(grid)
        self.strip.show(words.source, words.samples)

    def _show_again(self) -> None:
        if self.selected in self._descriptions:
            self._show(self._descriptions[self.selected])

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self.add_class("-opened")
        self.query_one("#right").focus()

    def action_back(self) -> None:
        if self._check is not None:
            self._check.cancel()
        elif self.stop_waiting() or self._out_of_the_filter():
            return
        elif self.selected is not None:
            self.remove_class("-opened")
            self.tables.table(self.selected.kind).focus()

    @property
    def goes_back(self) -> bool:
        typing = any(line.typing for line in self.tables.filters.values())
        filtered = self._kind is not None and bool(self.tables.filters[self._kind].value)
        return self._check is not None or typing or filtered or not isinstance(self.focused, Table)

    def _out_of_the_filter(self) -> bool:
        """Clear the filter that is typed in, or of the selected table; whether there was any."""
        for kind, line in self.tables.filters.items():
            if line.typing or (line.value and not self.has_class("-opened") and self._kind == kind):
                line.value = ""
                self.tables.table(kind).focus()
                return True
        return False

    @property
    def _kind(self) -> Kind | None:
        """Of the table in focus."""
        return self.tables.kind_of(self.focused) if isinstance(self.focused, Table) else None

    # What is going on

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        extractions = self.listing.extractions
        before = set(extractions.live)
        with self.tables.redrawn():
            if extractions.see(runs):
                self._look()
        if before != extractions.live.keys() and self.selected is not None:
            self._show_tables(False)
        self._show_progress()

    def _show_progress(self) -> None:
        words = self._progress_words()
        if self.progress.say(words):
            self.progress.display = bool(words)

    def _progress_words(self) -> str:
        """The check or the extraction of the selected store: a bar, how much, how fast, how long."""
        if self._check is not None and self._check.store == self.selected:
            return f"{_bar(self._check.share)} checked {percent(self._check.share)}   esc cancels"
        entry = self.listing.store(self.selected)
        run = self.listing.extractions.of(entry.name) if entry else None
        return _pace(run) if run else ""

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        entry = self.listing.store(self.selected)
        if action == "verify":
            return entry is not None and not entry.error and entry.state == "complete"
        if action == "continue":
            running = entry is not None and self.listing.extractions.of(entry.name) is not None
            return entry is not None and not entry.error and entry.state == "unfinished" and not running
        return True

    def action_extract(self) -> None:
        def chosen(values: dict[str, Any]) -> None:
            if self.services.start("extract", values) is not None:
                self.services.say(f"Extraction to {values['name']} has started; J pauses and stops it.", "information")

        values, known = first_values(self.listing, self.selected), known_values(self.listing)
        self.services.ask(ExtractForm(self.services.workspace, values, known), chosen)

    def action_import(self) -> None:
        def chosen(values: dict[str, Any]) -> None:
            if self.services.start("import", values) is not None:
                self.services.say(f"The import to {values['name']} has started; J pauses and stops it.", "information")

        known, taken = imported_values(self.listing), {one.name for one in self.listing.stores}
        form = ImportForm(self.services.workspace, "activations", {}, IMPORTED, known, taken)
        self.services.ask(form, chosen)

    def action_copy(self) -> None:
        if self.selected is not None:
            store = self.listing.store(self.selected)
            text = str(store.path) if store else self.selected.name
            self.services.copy(text, text)

    def action_add(self) -> None:
        question = f"Images: {IMAGE_SOURCES}"
        ask = Ask(question, check=self.services.check_images, base=self.services.workspace.root)
        self.services.ask(ask, self._add)

    def _add(self, given: str) -> None:
        spec = self.services.image_source(given)
        if spec is None:
            return
        if "images" not in self.listing.found.defaults and not self.listing.found.sources:
            self.services.guard(lambda: self.services.workspace.set_images(spec))
        elif spec not in self._added:
            self.remember(sources=[*self._added, spec])
        self.selected = None
        self.remember(kind="source", name=spec)
        self._look()

    def action_continue(self) -> None:
        entry = self.listing.store(self.selected)
        if entry is None or entry.manifest is None:
            return
        name, command = entry.name, entry.manifest.command

        def go_on() -> None:
            ended = [one for one in self.services.runs if one.task in ("extract", "import") and makes(one.name, name)]
            last = next((one for one in ended if not one.live), None)
            if last is not None and last.state != "done":
                Run(self.services.workspace.runs / last.id).resume()
            else:
                task, settings = task_of(command, entry.path)
                self.services.start(task, to_mapping(settings))

        if self.services.guard(go_on):
            self.services.say(f"The work on {name} goes on from its last shard.", "information")

    def action_verify(self) -> None:
        entry = self.listing.store(self.selected)
        if entry is None or self._check is not None or self.selected is None:
            return
        self._check = check = StoreCheck(self.services.workspace, self.selected, str(entry.path))
        self.refresh_bindings()
        self._ticking = self.set_interval(0.1, self._show_progress)
        ended = partial(self._checked, check.store)
        look_up(self, "verify", check.verdict, ended, ended)
        self._show_progress()

    def _checked(self, store: Selected, verdict: str) -> None:
        self._check = None
        self.refresh_bindings()
        if self._ticking is not None:
            self._ticking.stop()
        self._verdicts[store] = verdict
        if self.selected == store:
            self._show_again()
        else:
            self.services.say(f"{store.name}: {verdict}", "information")
        self._show_progress()

    def on_unmount(self) -> None:
        if self._check is not None:
            self._check.cancel()


def _pace(run: RunSnapshot) -> str:
    """How far an extraction is, how fast it goes, how long it will take."""
    if run.share is None:
        return waiting(run) or run.stage or run.state
    parts = [f"{_bar(run.share)} {percent(run.share)}", f"{run.done:,} of {run.total:,} {run.unit}"]
    parts += [rate(run.rate, run.unit)] if run.rate else []
    parts += [f"{duration(run.seconds_left)} left"] if run.seconds_left is not None else []
    return "   ".join([*parts, *(["paused"] if run.state == "paused" else [])])


def _bar(share: float, width: int = 24) -> str:
    done = round(share * width)
    return "━" * done + "─" * (width - done)
