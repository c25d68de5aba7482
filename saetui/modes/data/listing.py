"""What the three tables of mode Data list, and what each cell says. Knows no widget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from engine.artefacts import inventory
from engine.artefacts.entries import StoreEntry
from engine.config import IMAGE_SOURCES
from engine.errors import UserError
from engine.models.hookpoints import KINDS as HOOK_KINDS
from engine.query import RowField, Rows
from engine.runs.watch import RunSnapshot
from engine.sae.results import CHECK_STAGE, READ_STAGE
from engine.settings import each
from engine.workspace import Workspace
from saetui.formatting import count, percent, size
from saetui.widgets.table import Column

Kind = Literal["source", "encoder", "store"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Selected:
    """A row of one of the tables."""

    kind: Kind
    name: str

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Selected | None:
        """The one that a session remembers."""
        kind, name = kept.get("kind"), kept.get("name")
        return cls(kind, name) if isinstance(kind, str) and kind in KINDS and isinstance(name, str) else None


@dataclass(frozen=True)
class Found:
    """What a workspace has to extract from and with, and what has been extracted."""

    sources: Sequence[str] = ()
    images: Mapping[str, int | None] = field(default_factory=dict)
    """How many of each source; None where not known."""
    encoders: Sequence[str] = ()
    stores: Sequence[StoreEntry] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What workspace.toml says."""
    problem: str = ""
    """Why workspace.toml cannot be read."""

    @classmethod
    def look(cls, workspace: Workspace, added: Sequence[str]) -> Found:
        """``added``: sources that a person added. Reads files: for a thread."""
        defaults, problem = {}, ""
        try:
            defaults = workspace.defaults()
        except UserError as error:
            problem = str(error)
        held = inventory(workspace)
        stores = [*held.stores, *held.embeddings]
        images = {one.spec: one.images for one in held.sources}
        models = [defaults.get("model"), *each(defaults.get("embed_with")), *(one.model for one in stores)]
        encoders = list(dict.fromkeys(model for model in models if isinstance(model, str) and model))
        return cls(list(dict.fromkeys([*images, *added])), images, encoders, stores, defaults, problem)


class Extractions:
    """The runs that make stores and are at work."""

    LOOKS = 10  # at the runs (two a second) between looks at a store that is being written

    def __init__(self) -> None:
        self.live: dict[str, RunSnapshot] = {}
        self._states: dict[str, str] = {}
        self._looks = 0

    def see(self, runs: Sequence[RunSnapshot]) -> bool:
        """Take note of ``runs``. Whether the workspace should be looked through again."""
        before, self.live = self.live, {run.name: run for run in runs if run.live and _makes_a_store(run)}
        was, self._states = self._states, {run.id: run.state for run in runs}
        ended = any(was.get(id) not in (None, state) for id, state in self._states.items())
        self._looks += 1
        return ended or before.keys() != self.live.keys() or bool(self.live and self._looks % self.LOOKS == 0)

    def of(self, store: str) -> RunSnapshot | None:
        """The one that writes ``store``."""
        return next((run for name, run in self.live.items() if makes(name, store)), None)


def _makes_a_store(run: RunSnapshot) -> bool:
    """An import may make an SAE: which it is, is known once its first stage has begun."""
    return run.task == "extract" or (run.task == "import" and run.stage not in ("", READ_STAGE, CHECK_STAGE))


def makes(run: str, store: str) -> bool:
    """Whether an extraction named ``run`` writes ``store``: it adds the hook where there are several."""
    return store == run or store.startswith(tuple(f"{run}-{kind}" for kind in HOOK_KINDS))


class Listing:
    """What was found, and what is under way, as rows of the tables."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: dict[Kind, str] = {}
        """The filter of each table."""
        self.sorts: dict[Kind, str] = {}
        """What each is sorted by."""
        self.found = Found()
        self.extractions = Extractions()

    @property
    def stores(self) -> list[StoreEntry]:
        """Those on the disk, and those whose first shard is still being written."""
        names = {one.name for one in self.found.stores}
        coming = [name for name in self.extractions.live if not any(makes(name, one) for one in names)]
        return [*self.found.stores, *(StoreEntry(path=self.root / "activations" / name) for name in coming)]

    def rows(self, kind: Kind) -> Sequence[Any]:
        """Those that its filter asks for, sorted; none while that is not understood."""
        line, sort, found = self.lines.get(kind, ""), self.sorts.get(kind, ""), self.all_rows(kind)
        if line:
            found = [] if self.mistake(kind) else self.asked(kind).filtered(found, line)
        return self.asked(kind).ordered(found, sort) if sort else found

    def mistake(self, kind: Kind) -> str:
        """What is wrong with the filter of a table."""
        try:
            self.asked(kind).language.parse(self.lines.get(kind, ""))
        except UserError as error:
            return str(error)
        return ""

    def asked(self, kind: Kind) -> Rows[Any]:
        """What the filter of a table may ask: every column."""
        match kind:
            case "source":
                counts: dict[str, Callable[[Any], Any]] = {
                    "images": self.found.images.get,
                    "stores": lambda spec: int(self.made_of(spec) or 0),
                }
                fields = {name: RowField[Any]("number", of) for name, of in counts.items()}
                return Rows("Image sources", {"source": RowField("text", self.within, ("image",)), **fields})
            case "encoder":
                stores = RowField[Any]("number", lambda model: int(self.made_with(model) or 0))
                return Rows("Encoders", {"encoder": RowField("text", self.within, ("model",)), "stores": stores})
            case "store":
                return Rows("Activation stores", {**STORE_FIELDS, "state": RowField("text", self.state)})

    def all_rows(self, kind: Kind) -> Sequence[Any]:
        match kind:
            case "source":
                return self.found.sources
            case "encoder":
                return self.found.encoders
            case "store":
                return self.stores

    def names(self, kind: Kind) -> list[str]:
        rows = self.rows(kind)
        return [f"{one.folder}/{one.name}" for one in rows] if kind == "store" else list(rows)

    def cells(self, kind: Kind, row: int) -> tuple[str, ...]:
        one = self.rows(kind)[row]
        return tuple(say(self, one) for _, say in COLUMNS[kind])

    def columns(self, kind: Kind) -> list[Column]:
        """Numbers take the room that they need, and what is left is the name's: the ends of many names tell them
        apart."""
        cells = [self.cells(kind, row) for row in range(len(self.rows(kind)))]
        return [
            replace(one, width=max(len(one.title), *(len(row[place]) for row in cells)))
            if cells and one.title in FITTED
            else one
            for place, (one, _) in enumerate(COLUMNS[kind])
        ]

    def falls(self, kind: Kind, heading: str) -> bool | None:
        """As of :meth:`Rows.falls`."""
        return self.asked(kind).falls(heading, self.sorts.get(kind, ""))

    def records(self, kind: Kind) -> list[dict[str, Any]]:
        """The listed rows, exactly."""
        return self.asked(kind).records(self.rows(kind))

    def store(self, selected: Selected | None) -> StoreEntry | None:
        """The store that is selected."""
        if selected is None or selected.kind != "store":
            return None
        return next((one for one in self.stores if f"{one.folder}/{one.name}" == selected.name), None)

    def within(self, spec: str) -> str:
        """``spec`` as short as it is clear: its end matters more than where the workspace lies."""
        return spec.removeprefix(f"{self.root}/")

    def images(self, spec: str) -> str:
        images = self.found.images.get(spec)
        return count(images, 10) if images else ""

    def made_of(self, spec: str) -> str:
        return str(sum(one.source == spec for one in self.found.stores) or "")

    def made_with(self, model: str) -> str:
        return str(sum(one.model == model for one in self.found.stores) or "")

    def state(self, store: StoreEntry) -> str:
        run = self.extractions.of(store.name)
        if run is not None:
            mark = "Ⅱ" if run.state == "paused" else "●"
            return f"{mark} {percent(run.share)}" if run.share is not None else mark
        if store.error:
            return "damaged"
        match store.state:
            case "complete":
                return "ready"
            case "writing":
                return "writing"
            case "unfinished":
                return f"at {percent(store.share)}"


STORE_FIELDS: dict[str, RowField[Any]] = {
    "store": RowField("text", lambda store: store.name, ("name",)),
    "rows": RowField("number", lambda store: store.rows),
    "size": RowField("size", lambda store: store.bytes),
    "tokens": RowField("text", lambda store: "image" if store.folder == "embeddings" else store.tokens),
    "model": RowField("text", lambda store: store.model),
    "hook": RowField("text", lambda store: store.hook),
    "images": RowField("number", lambda store: store.images),
}
Cell = Callable[[Listing, Any], str]
COLUMNS: dict[Kind, tuple[tuple[Column, Cell], ...]] = {
    "source": (
        (Column("image sources", 0, "left", ends=True, field="source"), Listing.within),
        (Column("images", 10), Listing.images),
        (Column("stores", 6), Listing.made_of),
    ),
    "encoder": (
        (Column("encoders", 0, "left", ends=True, field="encoder"), Listing.within),
        (Column("stores", 6), Listing.made_with),
    ),
    "store": (
        (Column("activation stores", 0, "left", ends=True, field="store"), lambda _, store: store.name),
        (Column("rows", 11, spare=True), lambda _, store: count(store.rows, 11) if store.rows else ""),
        (Column("size", 7, spare=True), lambda _, store: size(store.bytes) if store.bytes else ""),
        (
            Column("tokens", 8, "left", spare=True),
            lambda _, store: "image" if store.folder == "embeddings" else store.tokens,
        ),
        (Column("state", 7), Listing.state),
    ),
}
"""What is drawn of each kind of row: a heading, and what stands under it."""
FITTED = ("images", "rows", "size")
"""Headings of columns that are as wide as what they hold, at most as wide as above."""
EMPTY: dict[Kind, str] = {
    "source": f"No images yet: a adds {IMAGE_SOURCES}.",
    "encoder": "None named yet: e asks for one.",
    "store": "No stores yet: e extracts activations from images.",
}
