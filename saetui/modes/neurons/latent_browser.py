"""The table of latents under a filter, and the selected latent beside it: what mode Neurons browses with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from engine.errors import UserError, sentence_of
from engine.files import Stamp, stamp
from engine.neurons.quantities import BEST, SORTS
from engine.runs.watch import RunSnapshot
from saetui.background import ANEW, CANCELLED, look_up
from saetui.messages import ForMode, ShowLatents
from saetui.modes.mode import Mode
from saetui.modes.neurons.latent_list import LatentList
from saetui.modes.neurons.latent_table import LatentTable
from saetui.modes.neurons.latent_view import LatentView
from saetui.widgets.filter_line import FilterLine
from saetui.widgets.table import Table
from saetui.widgets.words import Words

if TYPE_CHECKING:
    from saetui.scores import Scores

TEACH = "No scores yet: train an SAE (2), then press s there to score it."


class LatentBrowser(Mode):
    """Narrow: the table alone; enter opens the latent, esc returns."""

    AUTO_FOCUS = "#latents"  # not the filter above it, which would take what is typed ahead
    DEFAULT_CSS = """
    LatentBrowser #list { width: 47%; min-width: 62; border-right: solid $border-blurred; }
    LatentBrowser #head { height: 2; color: $secondary; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    LatentBrowser LatentView { width: 1fr; }
    LatentBrowser.-narrow #list { width: 1fr; border-right: none; }
    LatentBrowser.-narrow LatentView { display: none; }
    LatentBrowser.-open #list { display: none; }
    LatentBrowser.-open LatentView { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: Scores | None = None
        self.listed = LatentList()
        self.head = Words(id="head")
        self.filter = FilterLine("/ filter: pencil ms>.3 freq<1% marked")
        self.table, self.view = LatentTable(self.listed), LatentView(classes="right")
        self._damage = ""  # of the file of labels, as it was told
        self._opening = False
        self._failed: tuple[Path, Stamp | None] | None = None
        self._cancelled = False  # by esc, which is not for ever
        self._asked: ShowLatents | None = None  # before the scores were open
        self._aside = ""  # the filter, while something else is listed

    def parts(self) -> Iterable[Widget]:
        with Horizontal():
            with Vertical(id="list", classes="left"):
                yield from (self.head, self.filter, self.table)
            yield self.view

    # Life

    def on_mount(self) -> None:
        sort = self.recall("sort", BEST)
        self.listed.sort, self.listed.descending = sort if sort in SORTS else BEST, self.recall("descending", True)
        self.listed.copies, self.listed.support = self.recall("copies", False), self.services.preferences.support
        self.pictures = self.recall("pictures", 16)
        self.view.gallery.show_heat = self.recall("heat", False)
        self.set_class(self.recall("open", False), "-open")
        self._wanted = self.recall("latent", -1)
        self.filter.write(self.recall("filter", ""))

    @property
    def latents(self) -> list[int]:
        """Those that are listed."""
        return self.listed.latents

    @property
    def latent(self) -> int:
        """The selected one; -1 when there is none."""
        return self.table.latent

    @property
    def selected(self) -> tuple[Scores, int] | None:
        """The selected latent and its scores, if there is one."""
        return None if self.scores is None or self.latent < 0 else (self.scores, self.latent)

    def arrive(self) -> None:
        if self._cancelled:
            self._failed, self._cancelled = None, False
        self.check_files()
        if self.scores is not None:
            self.check_scores(self.scores.path)

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        self.check_files()

    def check_files(self) -> None:
        """Open the scores if they are new, written anew, or asked for; say once when they cannot be read."""
        if self._opening or not self.is_mounted:
            return
        path = self.services.scores_path
        if path is None:
            path = self.services.scores_path = self.services.first_scores()
        if path is None:
            self.teach()
            return
        seen = stamp(path)
        if self.scores and self.scores.path == path and (seen == self.scores.stamp or seen is None):
            self._reload_labels(self.scores)
        elif seen is not None and (path, seen) != self._failed:
            self._open(path, seen)

    def _reload_labels(self, scores: Scores) -> None:
        """Take in what others wrote; a damaged file is told once, and what was known of it stays."""
        damage = ""
        try:
            if scores.labels.reload():
                self.relist(keep=True)
        except (UserError, OSError) as error:
            damage = sentence_of(error)
        if damage and damage != self._damage:
            self.services.say(damage, "error")
        self._damage = damage

    def teach(self) -> None:
        self.table.empty = TEACH
        self.table.refresh()

    def _open(self, path: Path, seen: Stamp) -> None:
        workspace = self.services.workspace

        def find() -> Scores:
            from saetui.scores import Scores

            return Scores.open(path, workspace)

        def fail(sentence: str) -> None:
            self._opening, self._failed, self._cancelled = False, (path, seen), sentence == CANCELLED
            self.services.say(sentence, "error")
            self.say(ANEW if self._cancelled else sentence)

        self._opening = True
        self.say(f"opening {path.name} …")
        look_up(self, "open", find, self._opened, fail)

    def _opened(self, scores: Scores) -> None:
        self._opening = False
        before, self.scores = self.scores, scores
        self.services.garbage.freeze(replaced=before is not None)
        if before is not None and before.path != scores.path:
            self._wanted = -1
        self.services.scores_path = scores.path
        self.check_scores(scores.path)
        self.remember(file=scores.path.name)
        self.relist(keep=True)
        self._list_asked()

    # The list

    def relist(self, keep: bool = False) -> None:
        """List what the filter finds; ``keep``: the selected latent stays selected where it is listed."""
        if self._aside:
            self.filter.write(self._aside)
            self._aside = ""
        if self.scores is not None:
            here = self._wanted if self._wanted >= 0 else self.latent
            self.listed.filter(self.scores, self.filter.value)
            self._show_list(self.scores, here if keep else -1)

    def list_ranked(self, found: Mapping[str, Mapping[int, float]], title: str) -> None:
        """List the latents of ``found`` with what they were found by, measure by measure."""
        if self.scores is not None:
            self.listed.ranked(found, title)
            self._show_list(self.scores)

    def _show_list(self, scores: Scores, latent: int = -1) -> None:
        if self.listed.title and self.filter.value:  # it does not hold for these; it does again after esc
            self._aside = self.filter.value
            self.filter.write("")
        self._wanted = -1
        self.filter.say(self.listed.mistake)
        self.table.empty = self.filter.empty
        self.say(self.listed.head(scores))
        self.table.show_list(scores, latent)
        self.refresh_bindings()
        if not self.latents:
            self.view.show(None)

    def say(self, words: str) -> None:
        """In the head of the list."""
        self.head.say(words)

    def on_table_moved(self, event: Table.Moved) -> None:
        self.table.moved()
        self.show_latent()
        if self.latents:
            self.remember(latent=self.latent)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self.add_class("-open")
        self.refresh_bindings()
        self.remember(open=True)
        self.call_after_refresh(self.show_latent)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self.show_latent)

    def show_latent(self) -> None:
        if self.selected and self.view.display:
            self.view.show(*self.selected, self.table.ahead(), self.pictures)

    def receive(self, message: ForMode) -> None:
        if isinstance(message, ShowLatents):
            self._asked = message
            self._list_asked()

    def _list_asked(self) -> None:
        """List what another mode asked for, as soon as the scores are open."""
        if self.scores is not None and self._asked is not None:
            asked, self._asked = self._asked, None
            wanted, best = set(asked.latents), self.scores.neurons.listed()
            ordered = [latent for latent in (*best.latents, *best.aside) if latent in wanted]
            self.listed.only(ordered, asked.title)
            self._show_list(self.scores)
            self.table.focus()

    # Filter

    def action_filter(self) -> None:
        self.remove_class("-open")
        self.refresh_bindings()
        self.filter.focus()

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        self._aside = ""
        self.relist()

    def on_filter_line_left(self, event: FilterLine.Left) -> None:
        self.remember(filter=self.filter.value)
        self.table.focus()

    @property
    def goes_back(self) -> bool:
        held = self.has_class("-open") or bool(self.listed.title) or bool(self.filter.value)
        return held or (self.focused is not self.table and self.focused is not None)

    def action_back(self) -> None:
        """esc: out of the latent, then out of a listed result, then out of the filter."""
        if self.stop_waiting():
            return
        if self.has_class("-open"):
            self.remove_class("-open")
            self.remember(open=False)
        elif self.listed.title:
            self.relist(keep=True)
        elif self.filter.value:
            self.filter.write("")
            self.remember(filter="")
            self.relist(keep=True)
        self.table.focus()
        self.refresh_bindings()
