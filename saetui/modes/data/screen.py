"""Mode Data: what there is to extract from and with, what has been extracted, and extracting more."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.table import Table as Grid
from rich.text import Text
from textual import work
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from engine.config import ExtractSettings, to_mapping
from engine.errors import UserError
from engine.files import write_text
from engine.inventory import inventory
from engine.reporter import Event, Progress
from engine.runs.attached import Attached
from engine.runs.run import Run
from engine.runs.watch import RunSnapshot
from engine.workspace import MARKER, slug
from saetui.bindings import key
from saetui.formatting import duration, literal, percent, rate, size
from saetui.modes.data import descriptions as described
from saetui.modes.data.descriptions import Description, StoreEntry
from saetui.modes.data.extract_form import ExtractForm
from saetui.modes.data.image_strip import PictureStrip
from saetui.modes.mode import Mode
from saetui.widgets.dialogs import Ask
from saetui.widgets.table import Column, Table

Kind = Literal["source", "encoder", "store"]
LOOK_EVERY = 10  # looks at the runs (two a second) between looks at a store that is being written

SOURCES = (Column("image sources", 0, "left"), Column("images", 10), Column("stores", 6))
ENCODERS = (Column("encoders", 0, "left"), Column("stores", 6))
STORES = (
    Column("activation stores", 0, "left"),
    Column("rows", 11),
    Column("size", 7),
    Column("tokens", 8, "left"),
    Column("state", 7),
)
MOST = 6  # sources and encoders in sight

NO_SOURCES = "No images yet: a adds a folder, a list or .tar shards."
NO_ENCODERS = "None named yet: e asks for one."
NO_STORES = "No stores yet: e extracts activations from images."


@dataclass(frozen=True)
class Selected:
    """What the right side tells of."""

    kind: Kind
    name: str


@dataclass(frozen=True)
class Found:
    """What a workspace has to extract from and with, and what has been extracted."""

    sources: list[str]
    images: dict[str, int | None]
    """How many of each source; None where not known."""
    encoders: list[str]
    stores: list[StoreEntry]

    @classmethod
    def of(cls, listed: dict[str, Any], defaults: dict[str, Any], added: list[str]) -> "Found":
        """From ``engine.inventory``, what workspace.toml names, and the sources that a person added."""
        kinds = (("activations", "stores"), ("embeddings", "embeddings"))
        stores = [StoreEntry.of(kind, one) for kind, key in kinds for one in listed[key]]
        images = {one["spec"]: one["images"] for one in listed["sources"]}
        models = [defaults.get("model"), defaults.get("embed_with"), *(one.model for one in stores)]
        encoders = list(dict.fromkeys(model for model in models if isinstance(model, str) and model))
        return cls([*images, *(one for one in added if one not in images)], images, encoders, stores)


@dataclass
class Looked(Message):
    """The workspace was looked through."""

    found: Found
    defaults: dict[str, Any]


@dataclass
class Told(Message):
    """What there is to say of ``selected``."""

    selected: Selected
    words: Description


@dataclass
class Checked(Message):
    """How far the check of a store is; ``words`` once it has ended."""

    store: str
    share: float = 0.0
    words: str = ""


class DataMode(Mode):
    """Left: three tables. Right: the selected row in words and pictures."""

    MODE = "data"
    BINDINGS = [
        key("data.extract", "e", "extract", "Extract", show=True),
        key("data.add", "a", "add", "Add images", show=True),
        key("data.verify", "v", "verify", "Verify", show=True),
        key("data.continue", "c", "continue", "Continue", show=True),
        key("data.more", "n", "more", "More images", show=True),
        key("data.back", "escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    DataMode #left { width: 1fr; border-right: solid $border; }
    DataMode #stores { height: 1fr; }
    DataMode Table { margin-bottom: 1; }
    DataMode #right { width: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    DataMode #right:focus { background-tint: $foreground 2%; }
    DataMode #title, DataMode #facts, DataMode #progress { height: auto; }
    DataMode #title, DataMode PictureStrip { margin-bottom: 1; }
    DataMode.-narrow #right { display: none; }
    DataMode.-narrow.-opened #right { display: block; width: 1fr; }
    DataMode.-narrow.-opened #left { display: none; }
    DataMode.-narrow #left { border-right: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.found = Found([], {}, [], [])
        self.defaults: dict[str, Any] = {}
        self.selected: Selected | None = None
        self._live: dict[str, RunSnapshot] = {}
        self._states: Mapping[str, str] = {}
        self._told: dict[Selected, Description] = {}
        self._checks: dict[str, str] = {}
        self._check: tuple[str, Attached] | None = None
        self._looks = 0

    def parts(self) -> Iterable[Widget]:
        with Horizontal():
            with Vertical(id="left", classes="left"):
                yield Table(SOURCES, self._source_cells, NO_SOURCES, id="sources")
                yield Table(ENCODERS, self._encoder_cells, NO_ENCODERS, id="encoders")
                yield Table(STORES, self._store_cells, NO_STORES, id="stores")
            with VerticalScroll(id="right", classes="right", can_focus=True):
                yield Static(id="title", markup=False)
                yield Static(id="progress", markup=False)
                yield PictureStrip()
                yield Static(id="facts", markup=False)

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_again())

    # What there is

    def arrive(self) -> None:
        self._look()

    @work(thread=True, exclusive=True, group="look")
    def _look(self) -> None:
        place = self.services.workspace
        defaults: dict[str, Any] = {}
        try:
            defaults = place.defaults()
        except UserError as error:
            self.app.call_later(self.services.say, str(error))
        self.post_message(Looked(Found.of(inventory(place), defaults, self._added), defaults))

    def on_looked(self, message: Looked) -> None:
        first, changed = self.selected is None, message.found != self.found
        self.found, self.defaults = message.found, message.defaults
        if changed or first:
            self._told.clear()
            self._show_tables(first)

    @property
    def _added(self) -> list[str]:
        """Sources that a person added here."""
        kept = self.remembered.get("sources", [])
        return [one for one in kept if isinstance(one, str)] if isinstance(kept, list) else []

    @property
    def stores(self) -> list[StoreEntry]:
        """Those on the disk, and those whose first shard is still being written."""
        names = {one.name for one in self.found.stores}
        coming = [name for name in self._live if not any(_makes(name, one) for one in names)]
        folder = self.services.workspace.root / "activations"
        return [*self.found.stores, *(StoreEntry(kind="activations", path=folder / name) for name in coming)]

    def _show_tables(self, first: bool) -> None:
        kept = self.selected or _remembered(self.remembered)
        for kind, names in self._names().items():
            table = self._table(kind)
            here = kept.name if kept and kept.kind == kind else names[table.cursor] if table.cursor < len(names) else ""
            with self.prevent(Table.Moved):
                table.show(len(names), names.index(here) if here in names else 0)
            if kind != "store":
                table.styles.height = min(max(len(names), 2), MOST) + 1
        if first:
            kind = kept.kind if kept and kept.name in self._names()[kept.kind] else self._first_kind()
            self._table(kind).focus()
            self._select(kind)
        elif self.selected:
            self._select(self.selected.kind)

    def _first_kind(self) -> Kind:
        return "store" if self.stores else "source"

    def _names(self) -> dict[Kind, list[str]]:
        return {
            "source": self.found.sources,
            "encoder": self.found.encoders,
            "store": [f"{one.kind}/{one.name}" for one in self.stores],
        }

    def _table(self, kind: Kind) -> Table:
        return self.query_one(f"#{kind}s", Table)

    def _source_cells(self, row: int) -> tuple[str, ...]:
        spec = self.found.sources[row]
        made = [one for one in self.found.stores if one.source == spec]
        images = self.found.images.get(spec)
        return self._within(spec), f"{images:,}" if images else "", str(len(made) or "")

    def _within(self, spec: str) -> str:
        """``spec`` as short as it is clear: its end matters more than where the workspace lies."""
        root = f"{self.services.workspace.root}/"
        return spec.removeprefix(root)

    def _encoder_cells(self, row: int) -> tuple[str, ...]:
        spec = self.found.encoders[row]
        return self._within(spec), str(sum(one.model == spec for one in self.found.stores) or "")

    def _store_cells(self, row: int) -> tuple[str, ...]:
        one = self.stores[row]
        shown = "image" if one.kind == "embeddings" else one.tokens
        return (
            one.name,
            f"{one.rows:,}" if one.rows else "",
            size(one.bytes) if one.bytes else "",
            shown,
            self._state(one),
        )

    def _state(self, one: StoreEntry) -> str:
        job = self._job(one.name)
        if job is not None:
            mark = "Ⅱ" if job.state == "paused" else "●"
            return f"{mark} {percent(job.share)}" if job.share is not None else mark
        if one.problem:
            return "damaged"
        if one.complete:
            return "ready"
        if one.state == "writing":
            return "writing"
        return f"at {percent(one.images_done / one.images if one.images else 0)}"

    def _job(self, store: str) -> RunSnapshot | None:
        return next((job for name, job in self._live.items() if _makes(name, store)), None)

    # What is selected

    def on_table_moved(self, event: Table.Moved) -> None:
        self._select(self._kind_of(event.table))

    def on_descendant_focus(self) -> None:
        if isinstance(self.focused, Table):
            self._select(self._kind_of(self.focused))

    def _kind_of(self, table: Table) -> Kind:
        kinds: dict[str | None, Kind] = {"sources": "source", "encoders": "encoder", "stores": "store"}
        return kinds[table.id]

    def _select(self, kind: Kind) -> None:
        names, row = self._names()[kind], self._table(kind).cursor
        if row >= len(names):
            self.selected = None
            self._say_nothing(kind)
            return
        selected = Selected(kind, names[row])
        again, self.selected = selected == self.selected, selected
        if not again:
            self.remember(kind=kind, name=selected.name)
        self.refresh_bindings()
        self._show_progress()
        if selected in self._told:
            self._show(self._told[selected])
        else:
            self._describe(selected, self._describer(selected))

    def _say_nothing(self, kind: Kind) -> None:
        teach = {"source": NO_SOURCES, "encoder": NO_ENCODERS, "store": NO_STORES}
        self._show(Description("", [("", teach[kind])]))

    def _describer(self, selected: Selected) -> Callable[[described.Going], Description]:
        stores, name = self.found.stores, selected.name
        if selected.kind == "source":
            return partial(described.source, name, stores)
        if selected.kind == "encoder":
            defaults = self.defaults
            return lambda going: described.encoder(name, stores, defaults)
        entry = self.stores[self._names()["store"].index(name)]
        if not entry.model and not entry.problem:
            return lambda going: Description(entry.name, [("state", "its first shard is being written")])
        return partial(described.store, entry)

    @work(thread=True, exclusive=True, group="describe")
    def _describe(self, selected: Selected, describer: Callable[[described.Going], Description]) -> None:
        worker = get_current_worker()
        try:
            words = describer(lambda: not worker.is_cancelled)
        except described.UNREADABLE as error:
            sentence = str(error) if isinstance(error, UserError) else f"it cannot be read ({error!r})"
            words = Description(Path(selected.name).name, [("problem", sentence)])
        if not worker.is_cancelled:
            self.post_message(Told(selected, words))

    def on_told(self, message: Told) -> None:
        self._told[message.selected] = message.words
        if message.selected == self.selected:
            self._show(message.words)

    def _show(self, words: Description) -> None:
        quiet = self.app.current_theme.secondary or ""
        self.query_one("#title", Static).update(Text(literal(words.title), style="bold"))
        grid = Grid.grid(padding=(0, 2, 0, 0))
        grid.add_column(style=quiet, no_wrap=True)
        grid.add_column(overflow="fold")
        check = self._checks.get(self.selected.name) if self.selected and self.selected.kind == "store" else None
        for name, fact in [*words.facts, *([("checked", check)] if check else [])]:
            grid.add_row(name, Text(literal(fact)))
        self.query_one("#facts", Static).update(grid)
        self.query_one(PictureStrip).show(words.source, words.samples)

    def _show_again(self) -> None:
        if self.selected in self._told:
            self._show(self._told[self.selected])

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self.add_class("-opened")
        self.query_one("#right").focus()

    def action_back(self) -> None:
        if self._check is not None:
            self._check[1].cancel()
        elif self.selected is not None:
            self.remove_class("-opened")
            self._table(self.selected.kind).focus()

    def action_more(self) -> None:
        self.query_one(PictureStrip).more()

    # What is going on

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        live = {job.name: job for job in runs if job.task == "extract" and job.live}
        states = {job.id: job.state for job in runs}
        self._looks += 1
        ended = any(self._states.get(id) not in (None, state) for id, state in states.items())
        if ended or live.keys() != self._live.keys() or (live and self._looks % LOOK_EVERY == 0):
            self._look()
        new, before = live.keys() != self._live.keys(), {row: self._store_cells(row) for row in range(len(self.stores))}
        self._live, self._states = live, states
        if new and self.selected is not None:
            self._show_tables(False)
            return
        for row, cells in before.items():
            if self._store_cells(row) != cells:
                self._table("store").refresh_row(row)
        self._show_progress()

    def _show_progress(self) -> None:
        progress, words = self.query_one("#progress", Static), self._progress_words()
        if str(progress.content) != words:
            progress.update(words)
            progress.display = bool(words)

    def _progress_words(self) -> str:
        """The extraction or the check of the selected store: a bar, how much, how fast, how long."""
        if self.selected is None or self.selected.kind != "store":
            return ""
        name = self.selected.name
        if self._check is not None and self._check[0] == name:
            return f"{_bar(self._share)} checked {percent(self._share)}   esc cancels"
        job = self._job(name.partition("/")[2])
        if job is None:
            return ""
        if job.share is None:
            return literal(job.stage or job.state)
        parts = [f"{_bar(job.share)} {percent(job.share)}", f"{job.done:,} of {job.total:,} {job.unit}"]
        parts += [rate(job.rate, job.unit)] if job.rate else []
        parts += [f"{duration(job.seconds_left)} left"] if job.seconds_left is not None else []
        return literal("   ".join([*parts, *(["paused"] if job.state == "paused" else [])]))

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        entry = self._entry()
        if action == "verify":
            return entry is not None and entry.complete
        if action == "continue":
            return entry is not None and entry.state == "unfinished" and self._job(entry.name) is None
        return True

    def _entry(self) -> StoreEntry | None:
        if self.selected is None or self.selected.kind != "store":
            return None
        names = self._names()["store"]
        return self.stores[names.index(self.selected.name)] if self.selected.name in names else None

    def action_extract(self) -> None:
        def chosen(values: dict[str, Any] | None) -> None:
            if values is not None and self.services.start("extract", values) is not None:
                self.services.say(f"Extraction to {values['name']} has started; J pauses and stops it.", "information")

        known = {
            "model": self.found.encoders,
            "images": self.found.sources,
            "at": ["last", *sorted({one.hook for one in self.found.stores if one.hook})],
            "tokens": ["all", "patches", "cls", "mean", "random:4"],
        }
        self.app.push_screen(ExtractForm(self.services.workspace, self._first_values(), known), chosen)

    def _first_values(self) -> dict[str, Any]:
        """What the form starts from: workspace.toml, and over it what is selected."""
        names = {one.name for one in fields(ExtractSettings)}
        values = {name: value for name, value in self.defaults.items() if name in names}
        values.setdefault("images", self.found.sources[0] if self.found.sources else "")
        values.setdefault("model", self.found.encoders[0] if self.found.encoders else "")
        entry, selected = self._entry(), self.selected
        if entry is not None and entry.model:
            values |= {
                "model": entry.model,
                "images": entry.source,
                "at": [entry.hook],
                "tokens": entry.tokens,
            }
        elif selected is not None and selected.kind != "store":
            values |= {{"source": "images", "encoder": "model"}[selected.kind]: selected.name}
        return values | {"name": self._new_name(str(values["images"]))}

    def _new_name(self, spec: str) -> str:
        """A name for a store of ``spec`` that none has yet."""
        base = slug(Path(spec).stem) if spec else ""
        taken = {one.name for one in self.stores}
        numbered = (f"{base}-{n}" for n in range(2, len(taken) + 3))
        return base if base not in taken else next(name for name in numbered if name not in taken)

    def action_add(self) -> None:
        def chosen(given: str | None) -> None:
            if given:
                self._add(given)

        self.app.push_screen(Ask("Folder of images, a list of paths, or .tar shards:"), chosen)

    def _add(self, given: str) -> None:
        path = Path(given).expanduser()
        spec = str(path.resolve()) if path.exists() else str(path.absolute())
        if not path.exists() and not any(letter in given for letter in "*?["):
            self.services.say(f"There is nothing at {path}: give a folder, a list, or a .tar of images.")
            return
        if "images" not in self.defaults and not self.found.sources:
            self.services.guard(lambda: _set_default_images(self.services.workspace.root / MARKER, spec))
        elif spec not in self._added:
            self.remember(sources=[*self._added, spec])
        self.selected = None
        self.remember(kind="source", name=spec)
        self._look()

    def action_continue(self) -> None:
        entry = self._entry()
        if entry is None:
            return
        name = entry.name

        def go_on() -> None:
            job = next(
                (j for j in self.services.runs if j.task == "extract" and _makes(j.name, name) and not j.live), None
            )
            if job is not None and job.state != "done":
                Run(self.services.workspace.runs / job.id).resume()
            else:
                self.services.start("extract", to_mapping(entry.settings()))

        if self.services.guard(go_on):
            self.services.say(f"The extraction to {name} goes on from its last shard.", "information")

    # Checking

    def action_verify(self) -> None:
        entry = self._entry()
        if entry is None or self._check is not None or self.selected is None:
            return
        self._share = 0.0
        self._check = self.selected.name, Attached(self.services.workspace, "verify", {"store": str(entry.path)})
        self._verify(*self._check)
        self._show_progress()

    @work(thread=True, group="verify")
    def _verify(self, name: str, asked: Attached) -> None:
        def heard(event: Event) -> None:
            if isinstance(event, Progress) and event.total:
                self.post_message(Checked(name, event.done / event.total))

        try:
            told = asked.result(heard)
            words = "cancelled: v checks again" if told is None else _verdict(told)
        except UserError as error:
            words = str(error)
        self.post_message(Checked(name, words=words))

    def on_checked(self, message: Checked) -> None:
        self._share = message.share
        if message.words:
            self._check = None
            self._checks[message.store] = message.words
            if self.selected == Selected("store", message.store):
                self._show_again()
            else:
                self.services.say(f"{message.store}: {message.words}", "information")
        self._show_progress()

    def on_unmount(self) -> None:
        if self._check is not None:
            self._check[1].cancel()


def _verdict(told: dict[str, Any]) -> str:
    if told["problems"]:
        return "\n".join(problem.replace(f"{told['path']}/", "") for problem in told["problems"])
    return f"every byte is as it was written ({size(told['bytes'])})"


def _makes(job: str, store: str) -> bool:
    """Whether an extraction named ``job`` writes ``store``: it adds the hook where there are several."""
    return store == job or store.startswith((f"{job}-layer", f"{job}-mlp", f"{job}-last"))


def _remembered(kept: dict[str, Any]) -> Selected | None:
    kind, name = kept.get("kind"), kept.get("name")
    return Selected(kind, name) if kind in ("source", "encoder", "store") and isinstance(name, str) else None


def _set_default_images(path: Path, spec: str) -> None:
    """Put ``images`` before all that workspace.toml says: a key that follows a table would belong to it."""
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    quoted = spec.replace("\\", "\\\\").replace('"', '\\"')
    write_text(path, f'images = "{quoted}"\n{before}')


def _bar(share: float, width: int = 24) -> str:
    done = round(share * width)
    return "━" * done + "─" * (width - done)
