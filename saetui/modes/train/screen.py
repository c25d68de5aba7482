"""Mode 2: trainings, their charts while they run, the latents that form in them; start, pause, stop, resume, clone."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import events, work
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker, get_current_worker

from engine.config import ScoreSettings, TrainSettings
from engine.runs.events import Control
from engine.runs.run import Run
from engine.workspace import slug
from saetui.bindings import key
from saetui.formatting import duration, fit, literal, number, percent
from saetui.modes.mode import Mode
from saetui.modes.train.charts import Charts, Curves
from saetui.modes.train.watch import Seen, TrainWatch
from saetui.widgets.chart import MOST, tick_text
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.form import Form
from saetui.widgets.gallery import Gallery, Tile
from saetui.widgets.runs_drawer import MARKS
from saetui.widgets.table import Column, Table

if TYPE_CHECKING:
    from engine.images.thumbnails import Thumbnails
    from engine.runs.trainings import Training
    from engine.sae.preview import FormingLatent, Preview, TopImage

LOOK = 0.5  # seconds between looks at the files
BREATH = 0.02  # the same while a long log is being read for the first time
LIVE = ("starting", "running", "paused")
NAME = 16  # columns that a name should have
TILES = 12  # pictures of forming latents at most
FIRST = ("activations", "name", "arch", "expansion", "k", "steps", "batch_size", "lr", "embeddings")
COLUMNS = {
    "fve": Column("FVE", 5),
    "left": Column("left", 7),
    "l0": Column("L0", 5),
    "dead": Column("dead", 5),
    "ms": Column("MS", 4),
    "ms_matched": Column("raw", 4),
    "speed": Column("tok/s", 6),
}
"""Those that are left out where there is little room, the last first."""
SORTS: dict[str, tuple[str, Callable[[Training], Any]]] = {
    "newest": ("the newest first", lambda row: 0),
    "name": ("name", lambda row: row.name),
    "fve": ("FVE", lambda row: -_last(row, "fve", -1)),
    "ms": ("MS", lambda row: -_last(row, "ms", -1)),
    "l0": ("L0, the sparsest first", lambda row: _last(row, "l0", float("inf"))),
    "dead": ("dead share, the fewest first", lambda row: _last(row, "dead", 1)),
    "left": ("time left", lambda row: float("inf") if row.eta is None else row.eta),
}


@dataclasses.dataclass
class TrainingsSeen(Message):
    """The trainings as they are now. A newer look replaces one that nobody has read."""

    seen: Seen

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, TrainingsSeen)


class TrainingTable(Table):
    """Tells its pane when its width is another one: which columns it has depends on it."""

    class Resized(Message):
        pass

    def on_resize(self, event: events.Resize) -> None:
        self.post_message(self.Resized())


class TrainMode(Mode):
    """A table of trainings beside the charts of the selected one. Narrow: enter opens the charts, esc returns."""

    MODE = "train"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (28, "-high")]
    """Lines from which on there is room for pictures below the charts."""
    BINDINGS = [
        key("train.new", "n", "new", "New training", show=True),
        key("train.plan", "P", "plan", "Run a plan file"),
        key("train.pause", "p", "pause", "Pause, go on", show=True),
        key("train.stop", "x", "stop", "Stop", show=True),
        key("train.resume", "r", "resume", "Resume", show=True),
        key("train.clone", "c", "clone", "Clone", show=True),
        key("train.score", "s", "score", "Score", show=True),
        key("train.overlay", "space", "overlay", "Overlay", show=True),
        key("train.sort", "o", "sort", "Sort"),
        key("train.chart", "v", "chart", "Enlarge the next chart", show=True),
        key("train.scale", "L", "scale", "Log scale", show=True),
        key("train.latents", "f", "turn('latents')", "Latents forming", show=True),
        key("train.more_latents", "F", "more_latents", "Next latents forming"),
        key("train.heat", "m", "heat", "Heat maps"),
        key("train.log", "e", "turn('log')", "Its log", show=True),
        key("train.zoom_in", "plus,equals_sign", "zoom_in", "Fewer steps"),
        key("train.zoom_out", "minus", "zoom_out", "More steps"),
        key("train.zoom_reset", "0", "zoom_reset", "All steps"),
        key("train.earlier", "h,left", "pan(-0.25)", "Earlier steps"),
        key("train.later", "l,right", "pan(0.25)", "Later steps"),
        key("train.copy", "y", "copy", "Copy its measurements"),
        key("train.back", "escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    TrainMode #list { width: 46%; border-right: solid $border-blurred; }
    TrainMode #now { height: auto; max-height: 6; color: $secondary; padding: 0 1; }
    TrainMode #title { height: 1; padding: 0 1; display: none; text-style: bold; }
    TrainMode .gallery--chosen { color: $secondary; text-style: none; }
    TrainMode #log { width: 1fr; display: none; padding: 0 1; }
    TrainMode #log Static { height: auto; }
    TrainMode #forming { height: 25%; min-height: 9; padding: 0 1; display: none; }
    TrainMode #forming Static { height: 1; color: $secondary; }
    TrainMode.-previewed.-high #forming { display: block; }
    TrainMode.-log #log { display: block; }
    TrainMode.-log Charts { display: none; }
    TrainMode.-latents #body { height: 40%; }
    TrainMode.-latents #forming { height: 1fr; display: block; }
    TrainMode.-narrow #list { width: 1fr; border-right: none; }
    TrainMode.-narrow #right { display: none; }
    TrainMode.-narrow #title { display: block; }
    TrainMode.-narrow #forming { display: none; }
    TrainMode.-narrow.-open #list { display: none; }
    TrainMode.-narrow.-open #right { display: block; }
    TrainMode.-narrow.-latents #body { display: none; }
    TrainMode.-narrow.-latents #forming { height: 1fr; display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()
        self.rows: list[Training] = []
        self.overlaid: dict[str, int] = {}
        """Names of the trainings that are drawn beside the selected one, and their colours."""
        self.sort = "newest"
        self._wanted = ""  # to be selected when it appears
        self._shown: list[tuple[str, ...]] = []  # what the table shows
        self._columns: list[str] = []
        self._watcher: TrainWatch | None = None
        self._looking: Worker[None] | None = None
        self._thumbnails: Thumbnails | None = None
        self._first_latent = 0
        self._told: list[tuple[Any, str]] = []  # what the pictures were asked to show
        self._said: dict[str, Text] = {}  # what the parts in words say
        self._pause = threading.Event()

    def parts(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="list", classes="left"):
                yield TrainingTable((), self._cells, empty="…", id="trainings")
                yield Static(id="now", markup=False)
            with Vertical(id="right", classes="right"):
                yield Static(id="title", markup=False)
                yield Charts()
                with VerticalScroll(id="log"):
                    yield Static(markup=False)
        with Vertical(id="forming"):
            yield Static(id="forming-head", markup=False)
            yield Gallery()

    # Life

    def on_mount(self) -> None:
        was = self.remembered
        self._wanted = str(was.get("selected", ""))
        self.sort = str(was.get("sort", "newest")) if was.get("sort") in SORTS else "newest"
        overlaid = was.get("overlaid", [])
        self.overlaid = {str(name): look for look, name in enumerate(overlaid[: MOST - 1], 1)}
        self.charts.logarithmic = bool(was.get("log", False))
        self.charts.alone = str(was.get("chart", ""))
        self.gallery.show_heat = bool(was.get("heat", False))
        self._turned(str(was.get("turned", "")))
        self.set_class(bool(was.get("open", False)), "-open")
        self.table.focus()

    @property
    def table(self) -> Table:
        return self.query_one("#trainings", Table)

    @property
    def charts(self) -> Charts:
        return self.query_one(Charts)

    @property
    def gallery(self) -> Gallery:
        return self.query_one(Gallery)

    @property
    def watcher(self) -> TrainWatch:
        if self._watcher is None:
            self._watcher = TrainWatch(self.services.workspace)
        return self._watcher

    @property
    def selected(self) -> Training | None:
        return self.rows[self.table.cursor] if self.rows else None

    def arrive(self) -> None:
        self._looking = self._look()

    def on_screen_suspend(self) -> None:
        """Another mode or a dialog is shown: nobody needs to know."""
        if self._looking is not None:
            self._looking.cancel()

    @work(thread=True, exclusive=True, group="trainings")
    def _look(self) -> None:
        worker, always = get_current_worker(), True
        while not worker.is_cancelled:
            seen = self.watcher.look(always)
            if seen is not None and not worker.is_cancelled:
                self.post_message(TrainingsSeen(seen))
            always = False
            self._pause.wait(LOOK if not self.watcher.more else BREATH)
            self._pause.clear()

    def _look_now(self) -> None:
        """What is selected or wanted has changed: its preview and its log are not to wait for the next look."""
        row = self.selected
        self.watcher.selected, self.watcher.with_log = row.name if row else "", self.has_class("-log")
        self._pause.set()

    def on_trainings_seen(self, message: TrainingsSeen) -> None:
        self.seen = message.seen
        if not self.seen.rows:
            self.remove_class("-open", "-log", "-latents")
        self.relist()

    def on_training_table_resized(self, event: TrainingTable.Resized) -> None:
        self.relist()

    # The list

    def relist(self) -> None:
        """Show the trainings as they are; only rows that say something else are painted again."""
        here = self.selected.name if self.selected else ""
        names = [row.name for row in self.rows]
        self.rows = sorted(self.seen.rows, key=SORTS[self.sort][1])
        found = [row.name for row in self.rows]
        if self._wanted in found:
            here, self._wanted = self._wanted, ""
        columns = self._fitting()
        shown, before = [self._texts(row, columns) for row in self.rows], self._shown
        self._shown = shown
        if not found:
            self.table.empty = self._lesson()
        if (
            columns != self._columns
            or found != names
            or not found
            or found.index(here or found[0]) != self.table.cursor
        ):
            self._columns = columns
            self.table.set_columns(self._titled(columns))
            self.table.show(len(found), found.index(here) if here in found else 0)
        else:
            for row, (now, then) in enumerate(zip(shown, before, strict=True)):
                if now != then:
                    self.table.refresh_row(row)
        self._draw()

    def _lesson(self) -> str:
        stores = _names(self.services.workspace.root / "activations")
        if stores:
            return "No trainings yet: n starts one, P runs a plan."
        return "No activations to train on yet: 1 and then e extracts some."

    def _fitting(self) -> list[str]:
        """The columns that there is room for beside a name."""
        room = self.table.size.width - NAME - 1 - 12 - 4
        fitting = []
        for name, column in COLUMNS.items():
            room -= column.width + 1
            if room < 0:
                break
            fitting.append(name)
        return [name for name in ("fve", "l0", "dead", "ms", "ms_matched", "speed", "left") if name in fitting]

    def _titled(self, columns: Sequence[str]) -> list[Column]:
        def titled(name: str, column: Column) -> Column:
            return dataclasses.replace(column, title=column.title + "▾") if name == self.sort else column

        named = [Column("", 2, "left"), titled("name", Column("training", 0, "left")), Column("step", 11)]
        return named + [titled(name, COLUMNS[name]) for name in columns]

    def _cells(self, row: int) -> tuple[str, ...]:
        return self._shown[row]

    def _texts(self, row: Training, columns: Sequence[str]) -> tuple[str, ...]:
        mark = MARKS.get(row.state, "!") + ("+" if row.name in self.overlaid else "")
        said = {
            "fve": _score(row, "fve", 3),
            "l0": _score(row, "l0", 1),
            "dead": percent(_last(row, "dead")),
            "ms": number(_last(row, "ms")),
            "ms_matched": number(_last(row, "ms_matched")),
            "speed": "" if row.tokens_per_s is None else _short(row.tokens_per_s),
            "left": row.state if row.eta is None else duration(row.eta),
        }
        step = _short(row.step) if row.step == row.steps else f"{_short(row.step)}/{_short(row.steps)}"
        return mark, row.name, step, *(said[name] for name in columns)

    def on_table_moved(self, event: Table.Moved) -> None:
        if self.selected is not None:
            self.remember(selected=self.selected.name)
        self._first_latent = 0
        self._draw()
        self._look_now()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self._open()

    # What is shown of the selected one

    def _draw(self) -> None:
        row = self.selected
        self.charts.show(self._curves())
        self._say("#title", Text(literal("  ".join(self._texts(row, ("left",))) if row else ""), no_wrap=True))
        self._say("#now", _now(row, row is not None and row.name in self.seen.scored))
        self._show_latents(self.seen.preview if row and self.watcher.selected == row.name else None)
        if self.has_class("-log"):
            self._show_log()

    def _say(self, where: str, text: Text) -> None:
        """Write ``text`` into the part ``where``, unless it stands there."""
        if self._said.get(where) != text:
            self._said[where] = text
            self.query_one(where, Static).update(text)

    def _curves(self) -> list[Curves]:
        """The selected training, then those overlaid; each keeps its colour."""
        by_name = {row.name: row for row in self.rows}
        here = [self.selected.name] if self.selected else []
        names = dict.fromkeys([*here, *(name for name in self.overlaid if name in by_name)])
        return [
            Curves(name, self.overlaid.get(name, 0), by_name[name].steps, self.seen.lines.get(name, {}))
            for name in names
        ]

    def _show_latents(self, preview: Preview | None) -> None:
        latents = list(preview.latents) if preview else []
        self.set_class(bool(latents), "-previewed")
        each = 3 if self.has_class("-latents") else 2
        shown = (latents[self._first_latent :] + latents[: self._first_latent])[: TILES // each]
        tiles = [self._tile(preview, one, image) for one in shown for image in one.images[:each] if preview]
        told = [(tile.key, tile.caption) for tile in tiles]
        if told != self._told:
            self._told = told
            self.gallery.show(tiles)
        if preview:
            words = f"{len(latents)} latents forming, step {preview.step:,}: the held-out images that fire each most"
            self._say("#forming-head", Text(fit(words, max(self.size.width - 2, 8)), no_wrap=True))

    def _tile(self, preview: Preview, latent: FormingLatent, image: TopImage) -> Tile:
        from engine.images.thumbnails import Thumbnails

        if self._thumbnails is None or self._thumbnails.source != preview.source:
            self._thumbnails = Thumbnails(preview.source)
        thumbnails = self._thumbnails
        row = self.selected
        # A picture is the same at every step; its heat map is not.
        heat = (row and row.name, preview.step, latent.latent) if self.gallery.show_heat else None
        return Tile(
            key=(preview.source, image.path, heat),
            caption=f"#{latent.latent}  {image.activation:.1f}",
            load=lambda: thumbnails.load(image.path),
            heat=lambda: image.map,
            heat_maximum=latent.images[0].activation or 1.0,
        )

    def _show_log(self) -> None:
        text = Text(literal("\n".join(self.seen.log)) or "Nothing in its log.")
        changed = self._said.get("#log Static") != text
        self._say("#log Static", text)
        if changed:
            self.query_one("#log", VerticalScroll).scroll_end(animate=False)

    # What is in sight

    def _open(self) -> None:
        """Narrow: the charts instead of the table."""
        if not self.rows:
            return
        self._opened(True)
        if self.has_class("-narrow"):
            self.charts.focus()

    def _opened(self, wide: bool) -> None:
        self.set_class(wide, "-open")
        self.remember(open=wide)

    def _turned(self, part: str) -> None:
        """Show ``part`` (log, latents) in the charts' place, or the charts again (empty)."""
        for name in ("log", "latents"):
            self.set_class(name == part, f"-{name}")
        self.remember(turned=part)

    def action_turn(self, part: str) -> None:
        if part == "latents" and not self.has_class("-previewed") and not self.has_class("-latents"):
            self.services.say(
                "No latents to show yet: they come with the first measurement of a training.", "information"
            )
            return
        if not self.rows:
            return
        back = self.has_class(f"-{part}")
        self._turned("" if back else part)
        if not back and part == "log":
            self._opened(True)
        self._look_now()
        self.call_after_refresh(self._draw)

    def action_more_latents(self) -> None:
        if self.seen.preview and (count := len(self.seen.preview.latents)):
            self._first_latent = (self._first_latent + TILES // (3 if self.has_class("-latents") else 2)) % count
            self._draw()

    def action_heat(self) -> None:
        self.gallery.show_heat = not self.gallery.show_heat
        self.remember(heat=self.gallery.show_heat)
        self._draw()

    def action_chart(self) -> None:
        self._turned("")
        self._open()
        self.charts.enlarge_next()
        self.remember(chart=self.charts.alone)

    def action_scale(self) -> None:
        self.charts.toggle_log()
        self.remember(log=self.charts.logarithmic)

    def action_zoom_in(self) -> None:
        self.charts.zoom(0.5)

    def action_zoom_out(self) -> None:
        self.charts.zoom(2.0)

    def action_zoom_reset(self) -> None:
        self.charts.reset()

    def action_pan(self, by: float) -> None:
        self.charts.pan(by)

    def action_back(self) -> None:
        """esc: out of the log or the latents, then out of one chart, then out of the charts."""
        if self.has_class("-log") or self.has_class("-latents"):
            self._turned("")
            self._look_now()
            self.call_after_refresh(self._draw)
        elif self.charts.alone:
            self.charts.enlarge("")
            self.remember(chart="")
        elif self.has_class("-open"):
            self._opened(False)
            self.table.focus()

    def action_overlay(self) -> None:
        row = self.selected
        if row is None:
            return
        if row.name in self.overlaid:
            del self.overlaid[row.name]
        elif free := [look for look in range(1, MOST) if look not in self.overlaid.values()]:
            self.overlaid[row.name] = free[0]
        else:
            self.services.say(f"{MOST - 1} trainings are overlaid already: space on one of them takes it away.")
        self.remember(overlaid=list(self.overlaid))
        self.relist()

    def action_sort(self) -> None:
        def chosen(sort: str | None) -> None:
            if sort:
                self.sort, self._columns = sort, []
                self.remember(sort=sort)
                self.relist()

        self.app.push_screen(Pick("Sort by", {name: words for name, (words, _) in SORTS.items()}, self.sort), chosen)

    def action_copy(self) -> None:
        if self.selected is not None:
            import json

            row = dataclasses.asdict(self.selected)
            known = ("name", "state", "step", "steps", "run", "settings", "history")
            self.services.copy(json.dumps({name: row[name] for name in known}, indent=1))

    # What can be done

    def action_new(self) -> None:
        stores = _names(self.services.workspace.root / "activations")
        if not stores:
            self.services.say("There are no activations to train on: 1 and then e extracts some.")
            return
        defaults = _known(TrainSettings, self.services.workspace.defaults())
        values = {"activations": stores[0], **defaults, **_known(TrainSettings, self.remembered.get("settings", {}))}
        if values["activations"] not in stores:
            values["activations"] = stores[0]
        values["name"] = self._free(slug(str(values["activations"])))
        self._ask_training("New training", values)

    def action_clone(self) -> None:
        from engine.runs.trainings import clone

        row = self.selected
        if row is None:
            return
        values: dict[str, Any] = {}
        if self.services.guard(lambda: values.update(clone(row, self.services.workspace))):
            self._ask_training(f"Like {row.name}, but", values)

    def _ask_training(self, title: str, values: dict[str, Any]) -> None:
        def answered(settings: dict[str, Any] | None) -> None:
            if settings is not None and self.services.start("train", settings):
                self._wanted = settings["name"]
                self.remember(settings={k: v for k, v in settings.items() if k != "name"})

        known = {kind: _names(self.services.workspace.root / kind) for kind in ("activations", "embeddings")}
        self.app.push_screen(Form(title, TrainSettings, values, FIRST, known), answered)

    def _free(self, stem: str) -> str:
        """A name that no SAE has: the first of stem-sae, stem-sae-2, ..."""
        taken = {row.name for row in self.rows} | set(_names(self.services.workspace.root / "saes"))
        names = [f"{stem}-sae", *(f"{stem}-sae-{n}" for n in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    def action_plan(self) -> None:
        def answered(path: str | None) -> None:
            if path:
                self.run_plan(path)

        self.app.push_screen(Ask("Plan file, a .toml with [[train]] tables:"), answered)

    def run_plan(self, given: str) -> None:
        from engine.runs.plan import read_plan

        path = Path(given).expanduser().resolve()
        trained: list[str] = []

        def read() -> None:
            trained.extend(stage.name for stage in read_plan(path, self.services.workspace) if stage.task == "train")

        if self.services.guard(read) and self.services.start("run", {"plan": str(path)}):
            self._wanted = next((name for name in trained if name not in [row.name for row in self.rows]), "")

    def words(self) -> dict[str, str]:
        return {"plan": "plan FILE: run the stages of a plan", "sort": f"sort {'|'.join(SORTS)}"}

    def obey(self, word: str, rest: str) -> bool:
        if word == "plan" and rest:
            self.run_plan(rest)
        elif word == "sort" and rest in SORTS:
            self.sort, self._columns = rest, []
            self.remember(sort=rest)
            self.relist()
        else:
            return False
        return True

    def action_pause(self) -> None:
        paused = self.selected is not None and self.selected.state == "paused"
        self._control("" if paused else "pause")

    def action_stop(self) -> None:
        if self._control("stop"):
            self.services.say("It stops at its next safe point; r goes on from there.", "information")

    def _control(self, what: Control) -> bool:
        row = self.selected
        if row is None:
            return False
        if row.state not in LIVE or row.run is None:
            self.services.say(f"{row.name} is not being trained: it is {row.state}.")
            return False
        run = Run(self.services.workspace.runs / row.run)
        return self.services.guard(lambda: run.control(what))

    def action_resume(self) -> None:
        row = self.selected
        if row is None:
            return
        if row.state in ("done", "running", "starting"):
            self.services.say(f"{row.name} is {row.state}: there is nothing to resume.")
        elif row.run is not None:
            run = Run(self.services.workspace.runs / row.run)
            self.services.guard(run.resume)
        else:
            self._begin_again(row)

    def _begin_again(self, row: Training) -> None:
        """Go on from a checkpoint whose run is gone: by its settings, which must be known in full."""
        if "activations" not in row.settings:
            self.services.say(
                f"What {row.name} was trained on is not known: saetui train STORE --name {row.name} goes on."
            )
        else:
            self.services.start("train", row.settings)

    def action_score(self) -> None:
        row = self.selected
        if row is None:
            return
        if row.state != "done":
            self.services.say(f"{row.name} is {row.state}: it can be scored when its training is done.")
            return
        values = _known(ScoreSettings, self.services.workspace.defaults())
        if self.seen.preview is not None:
            values.setdefault("images", self.seen.preview.source)
        values["sae"] = row.name

        def answered(settings: dict[str, Any] | None) -> None:
            if settings is not None and self.services.start("score", settings):
                self.services.say(f"Scoring {row.name}: 3 shows its latents when it is done.", "information")

        self.app.push_screen(
            Form(f"Score {row.name}", ScoreSettings, values, ("sae", "images", "embed_with")), answered
        )


def _now(row: Training | None, scored: bool) -> Text:
    """The selected training in a few lines: its pace, its settings, what went wrong, what can be done next."""
    if row is None:
        return Text()
    pace = []
    if row.tokens_per_s is not None:
        pace.append(f"{_short(row.tokens_per_s)} tokens/s")
    if row.waiting is not None:
        pace.append(f"waiting for data {percent(row.waiting, 1)}")
    if row.memory is not None:
        if gpu := row.memory.gpu:
            pace.append(f"GPU {gpu.used / 2**30:.0f}/{gpu.total / 2**30:.0f} GiB")
        pace.append(f"memory {row.memory.rss / 2**30:.1f} GiB")
    asked = row.settings
    made = [str(asked[name]) for name in ("arch",) if name in asked]
    for name, words in (("expansion", "x{:g}"), ("k", "k {}"), ("batch_size", "{} tokens a step"), ("seed", "seed {}")):
        if name in asked:
            made.append(words.format(asked[name]))
    if "activations" in asked:
        made.append(f"on {asked['activations']}")
    lines = [" · ".join(pace), " · ".join(made), row.error or ""]
    if row.state == "done" and not scored:
        lines.append("Not scored yet: s scores its latents.")
    elif row.state in ("stopped", "died", "unfinished"):
        lines.append("r goes on from its checkpoint.")
    return Text(literal("\n".join(filter(None, lines))))


def _last(row: Training, name: str, otherwise: float = float("nan")) -> float:
    """The newest measurement of ``name``; ``otherwise`` where it was not measured."""
    for measured in reversed(row.history):
        if isinstance(measured.get(name), (int, float)):
            return float(measured[name])
    return otherwise


def _score(row: Training, name: str, digits: int) -> str:
    value = _last(row, name)
    return "–" if value != value else f"{value:.{digits}f}".removeprefix("0") or "0"


def _short(value: float) -> str:
    """A count in few characters: 950, 43.1k, 1.31M."""
    return tick_text(value, 1) if value < 1000 else tick_text(value, 10 ** (len(str(int(value))) - 3))


def _names(folder: Path) -> list[str]:
    """The artefacts in ``folder``, the largest first: what one trains on is larger than what one tests on."""

    def size(path: Path) -> int:
        return sum(file.stat().st_size for file in path.glob("*.h5"))

    try:
        found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return [path.name for path in sorted(found, key=size, reverse=True)]
    except OSError:
        return []


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that are settings of ``kind``."""
    fields = {one.name for one in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in fields}
