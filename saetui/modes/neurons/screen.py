"""Mode 3: the latents of a scored SAE: sort, filter, look, label; the way into steering."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual import events, work
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.errors import UserError, sentence_of
from engine.files import stamp
from engine.runs.watch import RunSnapshot
from engine.server.protocol import Done, Failed, Loading, RankByText, RankedLatents, ServerEvent
from saetui.bindings import key
from saetui.formatting import literal, number, percent
from saetui.messages import ForMode, ShowLatents, SteerLatent
from saetui.modes.mode import Mode
from saetui.modes.neurons.latent_view import AHEAD, LatentView
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.table import Column, Table

if TYPE_CHECKING:
    from saetui.scores import Scores

PICTURES = (4, 8, 16)
COLUMNS = (
    Column("#", 6),
    Column("MS", 4),
    Column("±", 4),
    Column("raw", 4),
    Column("n", 6),
    Column("freq", 6),
    Column("", 1, "left"),
    Column("names", 0, "left"),
)
RANKED = (
    Column("#", 6),
    Column("match", 6),
    Column("MS", 4),
    Column("raw", 4),
    Column("", 1),
    Column("names", 0, "left"),
)
SORTS = {
    "ms": "monosemanticity score",
    "gain": "MS above its matched raw neuron",
    "low": "lower end of the interval of MS",
    "matched": "MS of the matched raw neuron",
    "support": "images that fire it",
    "frequency": "share of images",
    "maximum": "largest activation",
    "depth": "taxonomy depth",
    "group": "Matryoshka group",
    "latent": "number",
}


class Opened(Message):
    """Scores have been opened in a thread, or could not be."""

    def __init__(self, path: Path, results: Scores | None, error: str = ""):
        super().__init__()
        self.path, self.results, self.error = path, results, error


class NeuronsMode(Mode):
    """A table of latents and the selected one. Narrow: the table alone, enter opens the latent, esc returns."""

    MODE = "neurons"
    AUTO_FOCUS = "#latents"  # not the filter above it, which would take what is typed ahead
    BINDINGS = [
        key("neurons.filter", "slash", "filter", "Filter", show=True),
        key("neurons.steer", "s", "steer", "Steer", show=True),
        key("neurons.heat", "m", "heat", "Heat map", show=True),
        key("neurons.full", "v", "full", "Full size", show=True),
        key("neurons.label", "e", "label", "Label", show=True),
        key("neurons.mark", "asterisk,space", "mark", "Mark", show=True),
        key("neurons.sort", "o", "sort", "Sort", show=True),
        key("neurons.text", "t", "text", "Text search", show=True),
        key("neurons.image", "i", "image", "Image search", show=True),
        key("neurons.look", "I", "look", "Search by the chosen picture"),
        key("neurons.compare", "c", "compare", "Compare", show=True),
        key("neurons.related", "r", "related", "Related latents", show=True),
        key("neurons.reverse", "O", "reverse", "Reverse the order"),
        key("neurons.copy", "y", "copy", "Copy", show=True),
        key("neurons.undo", "u", "undo(True)", "Undo a label"),
        key("neurons.redo", "ctrl+r", "undo(False)", "Redo"),
        key("neurons.next", "n", "step(1)", "Next match"),
        key("neurons.previous", "N", "step(-1)", "Previous match"),
        key("neurons.left", "h,left", "picture(-1)", "Picture to the left"),
        key("neurons.right", "l,right", "picture(1)", "Picture to the right"),
        key("neurons.more", "plus", "pictures(1)", "More pictures"),
        key("neurons.fewer", "minus", "pictures(-1)", "Fewer, larger pictures"),
        key("neurons.scores", "f", "scores", "Open other scores"),
        key("neurons.back", "escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    NeuronsMode #list { width: 45%; min-width: 62; border-right: solid $border-blurred; }
    NeuronsMode #head { height: 2; color: $secondary; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    NeuronsMode #filter { border: none; height: 1; padding: 0 1; background: $background; }
    NeuronsMode #filter.-aside { color: $secondary; text-style: dim; }
    NeuronsMode #filter:focus { background: $panel; }
    NeuronsMode LatentView { width: 1fr; }
    NeuronsMode.-narrow #list { width: 1fr; border-right: none; }
    NeuronsMode.-narrow LatentView { display: none; }
    NeuronsMode.-open #list { display: none; }
    NeuronsMode.-open LatentView { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.results: Scores | None = None
        self.latents: list[int] = []
        self.title_of_list = ""
        self._damage = ""  # of the file of labels, as it was told
        self._place, self._stride = 0, 1  # of the selected row, and how far the last key moved it
        self._by_match = False  # rather than sorted by a column
        self.matches: dict[int, float] = {}
        """What a search by text or image said of each latent, while its result is listed."""
        self._opening = False
        self._failed: tuple[Path, Any] | None = None
        self._asked: tuple[list[int], str] | None = None

    def parts(self) -> Iterable[Widget]:
        with Horizontal():
            with Vertical(id="list", classes="left"):
                yield Static(id="head", markup=False)
                yield Input(placeholder="/ filter: pencil ms>.3 freq<1% marked", id="filter")
                yield Table(COLUMNS, self._cells, empty="…", id="latents")
            yield LatentView(classes="right")

    # Life

    def on_mount(self) -> None:
        was = self.remembered
        self.sort, self.descending = str(was.get("sort", "ms")), bool(was.get("descending", True))
        self.pictures = int(was.get("pictures", 16))
        self.view.gallery.show_heat = bool(was.get("heat", False))
        self.set_class(bool(was.get("open", False)), "-open")
        self._wanted = int(was.get("latent", -1))
        with self.prevent(Input.Changed):
            self.query_one("#filter", Input).value = str(was.get("filter", ""))

    @property
    def table(self) -> Table:
        return self.query_one("#latents", Table)

    @property
    def view(self) -> LatentView:
        return self.query_one(LatentView)

    @property
    def latent(self) -> int:
        """The selected one; -1 when there is none."""
        return self.latents[self.table.cursor] if self.latents else -1

    def arrive(self) -> None:
        self._check_files()

    def runs_changed(self, jobs: list[RunSnapshot]) -> None:
        self._check_files()

    def _check_files(self) -> None:
        """Open the scores if they are new, written anew, or asked for; say once when they cannot be read."""
        from saetui.scores import scored

        if self._opening or not self.is_mounted:
            return
        path = self.services.scores_path
        if path is None:
            path = self.services.scores_path = next(iter(scored(self.services.workspace)), None)
        if path is None:
            self._teach()
            return
        seen = stamp(path)
        if self.results and self.results.path == path and (seen == self.results.stamp or seen is None):
            self._reload_labels(self.results)
            return
        if seen is not None and (path, seen) != self._failed:
            self._opening = True
            self._say(f"opening {path.name} …")
            self._open(path)

    def _reload_labels(self, results: Scores) -> None:
        """Take in what others wrote; a damaged file is told once, and what was known of it stays."""
        damage = ""
        try:
            if results.labels.reload():
                self.relist(keep=True)
        except (UserError, OSError) as error:
            damage = sentence_of(error)
        if damage and damage != self._damage:
            self.services.say(damage, "error")
        self._damage = damage

    def _teach(self) -> None:
        self.table.empty = "No scores yet: train an SAE (2), then press s there to score it."
        self.table.refresh()

    @work(thread=True, exclusive=True, group="open")
    def _open(self, path: Path) -> None:
        from saetui.scores import Scores, error_of

        seen = stamp(path)
        try:
            self.post_message(Opened(path, Scores.open(path, self.services.workspace)))
        except (UserError, OSError, KeyError, ValueError) as error:
            self._failed = (path, seen)
            self.post_message(Opened(path, None, error_of(error, path)))

    def on_opened(self, message: Opened) -> None:
        self._opening = False
        if message.results is None:
            self.services.say(message.error, "error")
            self._say(message.error)
            return
        before, self.results = self.results, message.results
        self.services.collect_garbage(replaced=before is not None)
        if before is not None and before.path != self.results.path:
            self._wanted = -1
        self.services.scores_path = message.path
        self.remember(file=message.path.name)
        self.relist(keep=True)
        self._list_asked()

    # The list

    def relist(self, keep: bool = False) -> None:
        """List what the filter finds; ``keep``: the selected latent stays selected where it is listed."""
        if self.results is not None:
            self._list(self._found(self.query_one("#filter", Input).value), keep=keep)

    def _list_ranked(self, found: dict[int, float], title: str) -> None:
        """List the latents of ``found``, in its order, with what they were found by."""
        self._list(list(found), f"{title}: esc lists all", found)

    def _list(
        self, latents: list[int], title: str = "", matches: dict[int, float] | None = None, keep: bool = False
    ) -> None:
        here = self._wanted if self._wanted >= 0 else self.latent
        self.title_of_list, self.latents, self.matches = title, latents, matches or {}
        self.query_one("#filter", Input).set_class(bool(title), "-aside")  # it holds again after esc
        self.table.set_columns(RANKED if self.matches else COLUMNS)
        self._wanted = -1
        place = self.latents.index(here) if keep and here in self.latents else 0
        self.table.empty = "No latent answers to this filter: esc clears it."
        self._head()
        self.table.show(len(self.latents), place)
        if not self.latents:
            self.view.show(None)

    def _found(self, text: str) -> list[int]:
        from engine.neurons.query import Query

        assert self.results is not None
        neurons, labels = self.results.neurons, self.results.labels
        query = Query.parse(text, typing=True)
        self._by_match = bool(query.text) and self.sort == "ms"
        return neurons.order("" if self._by_match else self.sort, query, labels.texts, self.descending, labels.marks)

    def _head(self) -> None:
        assert self.results is not None
        neurons, ms = self.results.neurons, self.results.neurons.summary["ms"]
        alive = neurons.summary["alive"]
        shown = f"{len(self.latents):,} of {neurons.w:,}" if len(self.latents) != neurons.w else f"{neurons.w:,}"
        order = "best match first" if self._by_match else f"by {self.sort} {'↓' if self.descending else '↑'}"
        listed = self.title_of_list or f"{shown} latents, {alive:,} alive · {order}"
        self._say(
            f"{self.results.sae} · {listed}\nMS mean {number(ms['sae']['mean'])} · matched raw "
            f"{number(ms['matched']['mean'])}, {percent(ms['matched']['share_beaten'])} of latents beat theirs · "
            f"all pairs {number(ms['baseline'])}"
        )

    def _say(self, words: str) -> None:
        """In the head of the list."""
        self.query_one("#head", Static).update(Text(literal(words)))

    def _cells(self, row: int) -> tuple[str, ...]:
        assert self.results is not None
        latent = self.latents[row]
        neurons, labels = self.results.neurons, self.results.labels
        mark = "★" if labels.marked(latent) else ""
        ms, matched = number(float(neurons.ms[latent])), number(float(neurons.matched[latent]))
        if self.matches:
            return str(latent), f"{self.matches[latent]:.3g}", ms, matched, mark, self.results.name(latent)
        return (
            str(latent),
            ms,
            number(float(neurons.high[latent] - neurons.low[latent]) / 2),
            matched,
            f"{int(neurons.support[latent]):,}",
            percent(float(neurons.image_frequency[latent]), 1),
            mark,
            self.results.name(latent),
        )

    def on_table_moved(self, event: Table.Moved) -> None:
        self._stride, self._place = self.table.cursor - self._place or 1, self.table.cursor
        self._show_latent()
        if self.latents:
            self.remember(latent=self.latent)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self.add_class("-open")
        self.remember(open=True)
        self.call_after_refresh(self._show_latent)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._show_latent)

    def _show_latent(self) -> None:
        if self.results is None or not self.latents or not self.view.display:
            return
        self.view.show(self.results, self.latent, self._ahead(), self.pictures)

    def _ahead(self) -> list[int]:
        """The latents that the last key leads to when it is pressed again, and those next to this one."""
        steps = [self._stride, -self._stride, *(n * self._stride for n in range(2, AHEAD + 1)), 1, -1]
        places = dict.fromkeys(self.table.cursor + step for step in steps)
        return [self.latents[place] for place in places if 0 <= place < len(self.latents)]

    def receive(self, message: ForMode) -> None:
        if isinstance(message, ShowLatents):
            self.show_latents(list(message.latents), message.title)

    def show_latents(self, latents: list[int], title: str) -> None:
        """List just these, for other modes: the latents of a node of a tree, say. esc lists all again."""
        self._asked = (list(latents), title)
        self._list_asked()

    def _list_asked(self) -> None:
        """List what another mode asked for, as soon as the scores are open."""
        if self.results is not None and self._asked is not None:
            latents, title = self._asked
            self._asked = None
            self._list(latents, title)
            self.table.focus()

    # Filter

    def action_filter(self) -> None:
        self.remove_class("-open")
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self.relist()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.remember(filter=event.value)
        self.table.focus()

    def action_back(self) -> None:
        """esc: out of the latent, then out of a listed result, then out of the filter."""
        box = self.query_one("#filter", Input)
        if self.has_class("-open"):
            self.remove_class("-open")
            self.remember(open=False)
        elif self.title_of_list:
            self.relist(keep=True)
        elif box.value:
            with self.prevent(Input.Changed):
                box.value = ""
            self.remember(filter="")
            self.relist(keep=True)
        self.table.focus()

    def action_step(self, by: int) -> None:
        if self.latents:
            self.table.cursor = (self.table.cursor + by) % len(self.latents)

    def action_sort(self) -> None:
        def chosen(sort: str | None) -> None:
            if sort:
                self.sort, self.descending = sort, True
                self.remember(sort=sort, descending=True)
                self.relist(keep=False)

        self.app.push_screen(
            Pick("Sort by", {name: f"{name:<10} {words}" for name, words in SORTS.items()}, self.sort), chosen
        )

    def action_reverse(self) -> None:
        self.descending = not self.descending
        self.remember(descending=self.descending)
        self.relist()

    def action_related(self) -> None:
        if self.results is None or self.latent < 0:
            return
        near = self.results.neurons.neighbours(self.latent)
        found = dict(near["cofiring"]) | dict(near["near"])
        if not found:
            self.services.say("These scores know no neighbours: score again with this version of saetui.")
            return
        self._list_ranked({self.latent: 1.0} | found, f"related to {self.latent}")

    # Labels

    def action_label(self) -> None:
        if self.results is None or self.latent < 0:
            return
        latent, labels = self.latent, self.results.labels

        def written(text: str | None) -> None:
            if text is not None:
                self._edit(lambda: labels.set(latent, text=text))

        self.app.push_screen(Ask(f"Label of latent {latent} (empty: none):", labels.text(latent)), written)

    def action_mark(self) -> None:
        if self.results is not None and self.latent >= 0:
            latent, labels = self.latent, self.results.labels
            self._edit(lambda: labels.set(latent, marked=not labels.marked(latent)))

    def action_undo(self, back: bool) -> None:
        if self.results is None:
            return
        labels, touched = self.results.labels, []
        self._edit(lambda: touched.append(labels.undo() if back else labels.redo()))
        latent = touched[0] if touched else None
        if latent is None:
            self.services.say(f"There is nothing to {'undo' if back else 'redo'}.", "information")
        elif latent in self.latents:
            self.table.cursor = self.latents.index(latent)

    def _edit(self, act: Any) -> None:
        """Labels are saved at once; what could not be saved stays here and is tried again with the next edit."""
        self.services.guard(act)
        self.table.refresh()
        self._show_latent()

    # Pictures

    def action_heat(self) -> None:
        self.view.gallery.show_heat = not self.view.gallery.show_heat
        self.remember(heat=self.view.gallery.show_heat)
        self._show_latent()

    def action_picture(self, by: int) -> None:
        self.view.gallery.chosen += by

    def action_pictures(self, by: int) -> None:
        place = PICTURES.index(self.pictures) + by
        if 0 <= place < len(PICTURES):
            self.pictures = PICTURES[place]
            self.remember(pictures=self.pictures)
            self._show_latent()

    def _chosen_image(self) -> dict[str, Any] | None:
        if self.results is None or self.latent < 0:
            return None
        top = self.results.neurons.top(self.latent)
        return top[min(self.view.gallery.chosen, len(top) - 1)] if top else None

    def action_full(self) -> None:
        image = self._chosen_image()
        if image is None or self.results is None:
            return
        results = self.results
        caption = f"latent {self.latent} {results.name(self.latent)}   {image['activation']:.2f}   {image['path']}"
        self.services.show_full(lambda: results.thumbnails.image(image["path"]), caption)

    # Other ways to latents

    def action_text(self) -> None:
        self.app.push_screen(Ask("Rank latents by a text, such as: a dog on grass"), self._rank_by_text)

    def _rank_by_text(self, text: str | None) -> None:
        if not text or self.results is None:
            return
        results = self.results
        self._say(f"ranking by {text!r}: loading the text tower …")

        def heard(event: ServerEvent) -> None:
            match event:
                case Done(RankedLatents(latents)) if self.results is results:
                    self._list_ranked(dict(latents), f"nearest to {text!r}")
                case Loading():
                    self._say(f"ranking by {text!r}: loading {event.what} …")
                case Failed():
                    self.services.say(event.error)
                    self.relist(keep=True)

        self.services.ask_model(RankByText(str(results.path), text), heard)

    def action_image(self) -> None:
        def given(path: str | None) -> None:
            if path:
                self.look_at(path, Path(path).name)

        self.app.push_screen(Ask("Image file (or drop one here), blank, or blank:COLOUR"), given)

    def action_look(self) -> None:
        image = self._chosen_image()
        if image is not None and self.results is not None:
            source = self.results.thumbnails.source
            self.look_at(f"{source}::{image['path']}", image["path"])

    def on_paste(self, event: events.Paste) -> None:
        """A file dropped on the terminal arrives as its path."""
        from saetui.terminal.dropped_files import dropped_path

        if (path := dropped_path(event.text)) is not None:
            event.stop()
            self.look_at(str(path), path.name)

    def look_at(self, image: str, title: str) -> None:
        """Which latents does ``image`` fire, and which each of its patches?"""
        from saetui.modes.neurons.image_search import LookScreen

        if self.results is None:
            return

        def chosen(found: list[tuple[int, float]] | None) -> None:
            if found:
                self._list_ranked(dict(found), f"fired by {title}")

        self.app.push_screen(LookScreen(self.results, image, title), chosen)

    def action_steer(self) -> None:
        if self.results is None or self.latent < 0:
            return
        latent, scores = self.latent, self.results
        maximum = float(scores.neurons.maximum[latent])
        self.post_message(SteerLatent(latent, scores.sae, scores.path, scores.name(latent, 2), maximum))

    def action_compare(self) -> None:
        from saetui.modes.neurons.compare import CompareScreen
        from saetui.scores import scored

        if self.results is None:
            return
        others = {str(p): p.stem for p in scored(self.services.workspace) if p != self.results.path}
        if not others:
            self.services.say("There are no other scores to compare with: score another SAE first (2, then s).")
            return
        here = self.results

        def chosen(path: str | None) -> None:
            if path:
                self.app.push_screen(CompareScreen(here, Path(path), self.latents, self.table.cursor, self.pictures))

        self.app.push_screen(Pick("Compare with", others), chosen)

    def action_scores(self) -> None:
        from saetui.scores import scored

        found = {str(path): path.stem for path in scored(self.services.workspace)}

        def chosen(path: str | None) -> None:
            if path:
                self.services.scores_path = Path(path)
                self._check_files()

        if found:
            self.app.push_screen(Pick("Open scores", found, str(self.services.scores_path)), chosen)
        else:
            self._teach()

    def action_copy(self) -> None:
        if self.results is None or self.latent < 0:
            return
        row = self.results.neurons.row(self.latent, self.results.labels.texts)
        top = ", ".join(image["path"] for image in self.results.neurons.top(self.latent))
        self.services.copy(
            f"{self.results.sae} latent {self.latent}: {self.results.name(self.latent)}; MS {number(row['ms'])}, "
            f"matched raw {number(row['matched'])}, {row['support']} images; top images {top}"
        )

    # The command line

    def words(self) -> dict[str, str]:
        return {
            "goto": "goto NUMBER: the latent of that number",
            "sort": f"sort NAME: {', '.join(SORTS)}",
            "filter": "filter TEXT: as / does",
            "look": "look FILE: the latents that an image fires",
            "text": "text WORDS: latents nearest to a text",
        }

    def obey(self, word: str, rest: str) -> bool:
        if word.isdigit() or (word == "goto" and rest.isdigit()):
            self._goto(int(rest or word))
        elif word == "sort" and rest in SORTS:
            self.sort = rest
            self.remember(sort=rest)
            self.relist()
        elif word == "filter":
            self.query_one("#filter", Input).value = rest
            self.table.focus()
        elif word == "look" and rest:
            self.look_at(rest, Path(rest).name)
        elif word == "text" and rest:
            self._rank_by_text(rest)
        else:
            return False
        return True

    def _goto(self, latent: int) -> None:
        if self.results is None:
            return
        if latent >= self.results.neurons.w:
            self.services.say(f"There is no latent {latent}: this SAE has latents 0 to {self.results.neurons.w - 1}.")
            return
        if latent not in self.latents:
            self.action_back()
        if latent in self.latents:
            self.table.cursor = self.latents.index(latent)
