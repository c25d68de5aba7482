"""Mode 2: trainings, their charts while they run, the latents that form in them; start, pause, stop, resume, clone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.worker import Worker

from engine.activations.results import READS
from engine.query import turned
from engine.records import to_json
from engine.workspace import free_name
from saetui.background import look_up_each
from saetui.bindings import key
from saetui.modes.forms import ImportForm
from saetui.modes.mode import Mode
from saetui.modes.train.charts import CHARTS
from saetui.modes.train.forming_latents import FormingLatents
from saetui.modes.train.train_forms import PlanForm, ScoreForm, TrainForm
from saetui.modes.train.training_list import SORTS, TrainingList, sort_of
from saetui.modes.train.training_runs import TrainingRuns
from saetui.modes.train.training_table import TrainingTable, details, facts, in_a_line
from saetui.modes.train.training_view import TrainingView
from saetui.modes.train.watch import Seen, TrainWatch
from saetui.widgets.chart import MOST
from saetui.widgets.dialogs import Pick
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Table
from saetui.widgets.words import Words

if TYPE_CHECKING:
    from engine.runs.trainings import Training
    from engine.runs.watch import RunSnapshot

IMPORTED = ("source", "name", "format", *READS, "scale", "arch", "k", "threshold", "check")
FIRST = ("activations", "name", "arch", "expansion", "k", "steps", "batch_size", "lr", "embeddings")


class TrainMode(Mode):
    """A table of trainings beside the charts of the selected one. Narrow: enter opens the charts, esc returns."""

    MODE = "train"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (28, "-high")]
    """Lines from which on there is room for pictures below the charts."""
    BINDINGS = [
        key("train.new", "n", "new", "New training", show=True),
        key("train.import", "i", "import", "Import", show=True),
        key("train.plan", "P", "plan", "Run a plan"),
        key("train.pause", "p", "pause", "Pause, go on", show=True),
        key("train.stop", "x", "stop", "Stop", show=True),
        key("train.resume", "r", "resume", "Resume", show=True),
        key("train.clone", "c", "clone", "Clone", show=True),
        key("train.score", "s", "score", "Score", show=True),
        key("train.remove", "d,delete", "remove", "Remove"),
        key("train.undo", "u", "undo", "Put back"),
        key("train.overlay", "space", "overlay", "Overlay", show=True),
        key("train.filter", "slash", "filter", "Filter"),
        key("train.sort", "o", "sort", "Sort"),
        key("train.chart", "v", "chart", "Enlarge the next chart", show=True),
        key("train.scale", "L", "scale", "Log scale", show=True),
        key("train.latents", "f", "turn('latents')", "Latents forming", show=True),
        key("train.more_latents", "F", "more_latents", "Next latents forming"),
        key("train.heat", "m", "heat", "Heat maps"),
        key("train.log", "e", "turn('log')", "Its log", show=True),
        key("train.zoom_in", "plus,equals_sign", "part('charts', 'zoom', 0.5)", "Fewer steps"),
        key("train.zoom_out", "minus", "part('charts', 'zoom', 2.0)", "More steps"),
        key("train.zoom_reset", "0", "part('charts', 'reset')", "All steps"),
        key("train.earlier", "h,left", "part('charts', 'pan', -0.25)", "Earlier steps"),
        key("train.later", "l,right", "part('charts', 'pan', 0.25)", "Later steps"),
        key("train.copy", "y", "copy", "Copy its measurements"),
        key("train.back", "escape", "back", "Back", show=True),
    ]
    DEFAULT_CSS = """
    TrainMode #list { width: 46%; border-right: solid $border-blurred; }
    TrainMode #now { height: auto; max-height: 6; color: $secondary; padding: 0 1; }
    TrainMode #forming { height: 25%; min-height: 9; padding: 0 1; display: none; }
    TrainMode.-previewed.-high #forming { display: block; }
    TrainMode.-log #log { display: block; }
    TrainMode.-log Charts, TrainMode.-log TrainingView #facts { display: none; }
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
        self.trainings = TrainingList()
        self.table = TrainingTable(self.trainings)
        self.filter = FilterLine("filter: state=done fve>.7 NOT arch=relu", folds=True)
        self.now = Words(id="now")
        self.view = TrainingView(id="right", classes="right")
        self.charts = self.view.charts
        self.forming = FormingLatents(id="forming")
        self.gallery = self.forming.gallery
        self.watcher = TrainWatch(self.services.workspace)
        self.runs = TrainingRuns(self.services)
        self._looking: Worker[None] | None = None

    def parts(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="list", classes="left"):
                yield from (self.filter, self.table, self.now)
            yield self.view
        yield self.forming

    # Life

    def on_mount(self) -> None:
        overlaid = [name for name in self.recall("overlaid", list[Any]()) if isinstance(name, str)]
        self.trainings.restore(self.recall("sort", ""), self.recall("selected", ""), overlaid)
        self.charts.logarithmic = self.recall("log", False)
        chart = self.recall("chart", "")
        self.charts.alone = chart if chart in CHARTS else ""
        self.gallery.show_heat = self.recall("heat", False)
        self._turned(self.recall("turned", ""))
        self.filter.write(self.recall("filter", ""))
        self.trainings.line = self.filter.value
        self.set_class(self.recall("open", False), "-open")
        self.table.focus()

    @property
    def selected(self) -> Training | None:
        return self.trainings.selected

    def arrive(self) -> None:
        watched = look_up_each(self, "trainings", self.watcher.looks, self._see, self.services.say, unasked=True)
        self._looking = watched

    def on_screen_suspend(self) -> None:
        """Another mode or a dialog is shown: nobody needs to know."""
        if self._looking is not None:
            self._looking.cancel()

    def _look_now(self) -> None:
        """What is selected has changed: its preview and its log are not to wait for the next look."""
        self.watcher.select(self.selected.name if self.selected else "", self.has_class("-log"))

    def _see(self, seen: Seen) -> None:
        self.trainings.see(seen)
        if not seen.rows:
            self.remove_class("-open", "-log", "-latents")
            self.table.empty = self._lesson()
        self._relist()

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        if self.trainings.tell_left({run.id: run.seconds_left for run in runs if run.seconds_left is not None}):
            self._relist()

    def _lesson(self) -> str:
        if self.runs.artefacts("activations"):
            return "No trainings yet: n starts one, P runs a plan, i imports an SAE."
        return "No activations to train on yet: 1 and then e extracts some. i imports an SAE."

    def _relist(self) -> None:
        self.refresh_bindings()
        self.filter.say(self.trainings.mistake)
        if self.trainings.seen.rows:
            self.table.empty = self.filter.empty
        self.table.relist()
        self._draw()

    def action_filter(self) -> None:
        self._opened(False)
        self.filter.focus()

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        self.trainings.line = self.filter.value
        self.trainings.arrange()
        self._relist()
        self._look_now()

    def on_filter_line_left(self, event: FilterLine.Left) -> None:
        self.remember(filter=self.filter.value)
        self.table.focus()

    def on_training_table_resized(self, event: TrainingTable.Resized) -> None:
        self._relist()

    def on_table_moved(self, event: Table.Moved) -> None:
        if self.selected is not None:
            self.remember(selected=self.selected.name)
        self.forming.restart()
        self._draw()
        self._look_now()

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self._open()

    # What is shown of the selected one

    def _draw(self) -> None:
        row, seen = self.selected, self.trainings.seen
        title = in_a_line(row, self.trainings.overlaid) if row else ""
        self.view.show(title, self.trainings.curves(), facts(row) if row else ())
        self.now.say(details(row, row.name in seen.scored) if row else "")
        preview = seen.preview if row and self.watcher.selected == row.name else None
        self.set_class(bool(preview and preview.latents), "-previewed")
        self.forming.each = 3 if self.has_class("-latents") else 2
        self.forming.show(preview, row.name if row else "")
        if self.has_class("-log"):
            self.view.show_log(seen.log)

    # What is in sight

    def _open(self) -> None:
        """Narrow: the charts instead of the table."""
        if not self.trainings.rows:
            return
        self._opened(True)
        if self.has_class("-narrow"):
            self.view.focus_shown()

    def _opened(self, wide: bool) -> None:
        self.set_class(wide, "-open")
        self.remember(open=wide)
        self.refresh_bindings()

    def _turned(self, part: str) -> None:
        """Show ``part`` (log, latents) in the charts' place, or the charts again (empty)."""
        for name in ("log", "latents"):
            self.set_class(name == part, f"-{name}")
        self.remember(turned=part)
        self.refresh_bindings()

    def action_turn(self, part: str) -> None:
        if part == "latents" and not self.has_class("-previewed") and not self.has_class("-latents"):
            self.services.say(
                "No latents to show yet: they come with the first measurement of a training.", "information"
            )
            return
        if not self.trainings.rows:
            return
        back = self.has_class(f"-{part}")
        self._turned("" if back else part)
        if not back and part == "log":
            self._opened(True)
        self._look_now()
        self.call_after_refresh(self._draw)

    def action_more_latents(self) -> None:
        preview = self.trainings.seen.preview
        if preview and preview.latents:
            self.forming.turn(preview)
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
        self.refresh_bindings()

    def action_scale(self) -> None:
        self.charts.toggle_log()
        self.remember(log=self.charts.logarithmic)

    @property
    def goes_back(self) -> bool:
        opened = self.has_class("-open") and self.has_class("-narrow")
        filtered = bool(self.filter.value) or self.filter.typing
        return self.has_class("-log") or self.has_class("-latents") or bool(self.charts.alone) or opened or filtered

    def action_back(self) -> None:
        """esc: out of the log or the latents, then out of one chart, of the charts, of the filter."""
        if self.stop_waiting():
            return
        if self.filter.typing and not self.filter.value:
            self.table.focus()
        elif self.has_class("-log") or self.has_class("-latents"):
            self._turned("")
            self._look_now()
            self.call_after_refresh(self._draw)
        elif self.charts.alone:
            self.charts.enlarge("")
            self.remember(chart="")
            self.refresh_bindings()
        elif self.has_class("-open"):
            self._opened(False)
            self.table.focus()
        elif self.filter.value or self.filter.typing:
            self.filter.value = ""
            self.remember(filter="")
            self.table.focus()

    def action_overlay(self) -> None:
        if self.selected is None:
            return
        if not self.trainings.overlay():
            self.services.say(f"{MOST - 1} trainings are overlaid already: space on one of them takes it away.")
        self.remember(overlaid=list(self.trainings.overlaid))
        self._relist()

    def action_sort(self) -> None:
        names = {name: words for name, (words, _) in SORTS.items()}
        self.services.ask(Pick("Sort by", names, self.trainings.sort), self._sort)

    def _sort(self, sort: str) -> None:
        self.trainings.arrange(sort)
        self.remember(sort=sort)
        self._relist()

    def on_table_headed(self, event: Table.Headed) -> None:
        if sort := sort_of(event.field):
            self._sort(turned(sort, self.trainings.sort))

    def action_copy(self) -> None:
        """The log where it is shown, else all that is known of the training."""
        row = self.selected
        if row is not None and self.has_class("-log"):
            self.services.copy(str(self.view.log_lines.content), f"the log of {row.name}")
        elif row is not None:
            known = ("name", "state", "error", "step", "steps", "run", "settings", "history", "config", "checked")
            text = json.dumps({name: to_json(getattr(row, name)) for name in known}, indent=1)
            self.services.copy(text, f"settings and measurements of {row.name} as JSON")

    # What can be done

    def action_new(self) -> None:
        values = self.runs.new(self.recall("settings", {}), (row.name for row in self.trainings.seen.rows))
        if values is not None:
            self._ask_training("New training", values)

    def action_import(self) -> None:
        self._ask_import(self.runs.importing(None))

    def _ask_import(self, values: dict[str, Any]) -> None:
        def answered(settings: dict[str, Any]) -> None:
            if self.services.start("import", settings):
                self.trainings.awaited = settings["name"]

        taken = {*(row.name for row in self.trainings.rows), *self.runs.artefacts("saes")}
        values = values | {"name": free_name(values["name"], taken) if values.get("name") else ""}
        known = {"check": self.runs.artefacts("activations")}
        self.services.ask(ImportForm(self.services.workspace, "an SAE", values, IMPORTED, known, taken), answered)

    def action_clone(self) -> None:
        if (row := self.selected) is not None and (row.config or row.asked):
            self._ask_import(self.runs.importing(row))
        elif row is not None and (values := self.runs.like(row)) is not None:
            self._ask_training(f"Like {row.name}, but", values)

    def _ask_training(self, title: str, values: dict[str, Any]) -> None:
        def answered(settings: dict[str, Any]) -> None:
            if self.services.start("train", settings):
                self.trainings.awaited = settings["name"]
                self.remember(settings={k: v for k, v in settings.items() if k != "name"})

        known = {kind: self.runs.artefacts(kind) for kind in ("activations", "embeddings")}
        known["mono_embeddings"] = known["embeddings"]
        self.services.ask(TrainForm(self.services.workspace, title, values, FIRST, known), answered)

    def action_plan(self) -> None:
        self._ask_plan("")

    def _ask_plan(self, plan: str) -> None:
        listed = [row.name for row in self.trainings.seen.rows]

        def answered(settings: dict[str, Any]) -> None:
            trained = self.runs.run_plan(settings)
            self.trainings.awaited = next((name for name in trained if name not in listed), "")

        self.services.ask(PlanForm(self.services.workspace, plan, self.runs.plans()), answered)

    def words(self) -> dict[str, str]:
        return {
            "plan": "plan FILE: run the stages of a plan",
            "sort": f"sort {'|'.join(SORTS)}",
            "filter": "filter TEXT: as / does",
        }

    def arguments(self) -> dict[str, Iterable[str]]:
        return {"sort": SORTS}

    def obey(self, word: str, rest: str) -> bool:
        if word == "plan" and rest:
            if self.services.guard(lambda: self.runs.check_plan(rest)):
                self._ask_plan(rest)
        elif word == "filter":
            self.filter.value = rest
        elif word == "sort" and (sort := sort_of(rest)):
            self._sort(sort)
        elif word == "sort" and rest:
            self.services.say(f"Trainings cannot be sorted by {rest!r}: choose one of {', '.join(SORTS)}.")
        else:
            return False
        return True

    def action_pause(self) -> None:
        if (row := self.selected) is not None:
            self.runs.pause(row)

    def action_stop(self) -> None:
        if self.selected is not None and self.runs.control(self.selected, "stop"):
            self.services.say("It stops at its next safe point; r goes on from there.", "information")

    def action_resume(self) -> None:
        if self.selected is not None:
            self.runs.resume(self.selected)

    def action_remove(self) -> None:
        """What is no finished SAE, with its runs."""
        row = self.selected
        if row is None:
            return
        if row.live:
            self.services.say(f"{row.name} is {row.state}: x stops it first.")
        elif row.state == "done":
            self.services.say(f"{row.name} is a finished SAE, and stays: J and then a archives its run.")
        else:
            self._put_away(lambda: self.services.put_away.remove_training(row.name))

    def action_undo(self) -> None:
        self.trainings.awaited = self.services.put_away.next_training or self.trainings.awaited
        self._put_away(self.services.put_away.undo)

    def _put_away(self, act: Callable[[], str]) -> None:
        self.services.guard(lambda: self.services.say(act(), "information"))

    def action_score(self) -> None:
        row, preview = self.selected, self.trainings.seen.preview
        values = self.runs.scoring(row, preview.source if preview else "") if row is not None else None
        if row is None or values is None:
            return

        def answered(settings: dict[str, Any]) -> None:
            from engine.neurons.asked import task_of

            if self.services.start(*task_of(settings)):
                self.services.say(f"Scoring {row.name}: 3 shows its latents when it is done.", "information")

        form = ScoreForm(self.services.workspace, f"Score {row.name}", values, self.runs.known_in_scores())
        self.services.ask(form, answered)
