"""Mode Neurons: the latents of a scored SAE: sort, filter, look, label; the way into steering."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events

from engine.neurons.quantities import SORTS, TEXTS
from engine.neurons.query import LATENTS
from saetui.background import look_up
from saetui.bindings import key
from saetui.formatting import significant, whole
from saetui.messages import SteerLatent
from saetui.modes.neurons.copied import in_one_line, steering_command
from saetui.modes.neurons.latent_browser import TEACH, LatentBrowser
from saetui.modes.neurons.report import ReportWriter
from saetui.modes.neurons.text_search import TextSearch
from saetui.widgets.dialogs import Ask, Pick
from saetui.widgets.table import Table

if TYPE_CHECKING:
    from engine.neurons.results import TopImage

PICTURES = (4, 8, 16)
COFIRING, COSINE, FIRES = "cofire", "cosine", "fires"
"""What latents are ranked by: Jaccard index of the images that fire both, cosine of directions, activation."""


class NeuronsMode(LatentBrowser):
    """What the keys do with the selected latent, and the other ways to latents: by text, image, relation, SAE."""

    MODE = "neurons"
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
        key("neurons.copies", "A", "copies", "With those set aside, or without"),
        key("neurons.reverse", "O", "reverse", "Reverse the order"),
        key("neurons.copy", "y", "copy", "Copy", show=True),
        key("neurons.command", "Y", "copy_command", "Copy the command that steers it"),
        key("neurons.undo", "u", "undo(True)", "Undo a label"),
        key("neurons.redo", "ctrl+r", "undo(False)", "Redo"),
        key("neurons.next", "n", "step(1)", "Next match"),
        key("neurons.previous", "N", "step(-1)", "Previous match"),
        key("neurons.left", "h,left", "picture(-1)", "Picture to the left"),
        key("neurons.right", "l,right", "picture(1)", "Picture to the right"),
        key("neurons.more", "plus", "pictures(1)", "More pictures"),
        key("neurons.fewer", "minus", "pictures(-1)", "Fewer, larger pictures"),
        key("neurons.scores", "f", "scores", "Open other scores"),
        key("neurons.report", "R", "report", "Report for a colleague"),
        key("neurons.back", "escape", "back", "Back", show=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._report = ReportWriter(self)
        self._searching: TextSearch | None = None

    def action_step(self, by: int) -> None:
        if self.latents:
            self.table.cursor = (self.table.cursor + by) % len(self.latents)

    def action_sort(self) -> None:
        width = max(map(len, SORTS))
        names = {name: f"{name:<{width}}  {about}" for name, about in SORTS.items()}
        self.services.ask(Pick("Sort by", names, self.listed.sort), partial(self._sort, descending=True))

    def _sort(self, sort: str, descending: bool) -> None:
        self.listed.sort, self.listed.descending = sort, descending
        self.remember(sort=sort, descending=descending)
        self.relist()

    def on_table_headed(self, event: Table.Headed) -> None:
        """By the column that was clicked, and once more the other way round; texts from A to Z first."""
        sort, listed = LATENTS.named.get(event.field.lower(), ""), self.listed
        if sort in SORTS and not listed.matches:
            self._sort(sort, sort not in TEXTS if sort != listed.sort else not listed.descending)

    def _sort_by(self, name: str) -> None:
        """By what a person typed: a sort, or another name of it, as the heading of its column."""
        sort = LATENTS.named.get(name.lower(), name)
        if sort in SORTS:
            self._sort(sort, self.listed.descending)
        else:
            self.services.say(f"Latents cannot be sorted by {name!r}: choose one of {', '.join(SORTS)}.")

    def action_copies(self) -> None:
        """With latents whose top images are copies of one another, or without them."""
        self.listed.copies = not self.listed.copies
        self.remember(copies=self.listed.copies)
        self.relist(keep=True)

    def action_reverse(self) -> None:
        self._sort(self.listed.sort, not self.listed.descending)

    def action_related(self) -> None:
        if self.selected is None:
            return
        scores, latent = self.selected
        related = scores.neurons.neighbours(latent)
        if not (related.cofiring or related.near):
            self.services.say("These scores know no neighbours: score again with this version of saetui.")
            return
        itself = {latent: 1.0}
        found = {COFIRING: itself | dict(related.cofiring), COSINE: itself | dict(related.near)}
        self.list_ranked(found, f"related to {latent}")

    # Labels

    def action_label(self) -> None:
        if self.selected is None:
            return
        scores, latent = self.selected
        question = Ask(f"Label of latent {latent} (empty: none):", scores.labels.text(latent))

        def said(text: str | None) -> None:
            if text is not None:
                self._edit(partial(scores.labels.set, latent, text=text))

        self.app.push_screen(question, said)

    def action_mark(self) -> None:
        if self.selected is not None:
            scores, latent = self.selected
            self._edit(partial(scores.labels.set, latent, marked=not scores.labels.marked(latent)))

    def action_undo(self, back: bool) -> None:
        if self.scores is None:
            return
        labels, touched = self.scores.labels, []
        self._edit(lambda: touched.append(labels.undo() if back else labels.redo()))
        latent = touched[0] if touched else None
        if latent is None:
            self.services.say(f"There is nothing to {'undo' if back else 'redo'}.", "information")
        else:
            self.table.go_to(latent)

    def _edit(self, act: Callable[[], Any]) -> None:
        """Labels are saved at once; what could not be saved stays here and is tried again with the next edit."""
        self.services.guard(act)
        self.table.refresh()
        self.show_latent()

    # Pictures

    def action_heat(self) -> None:
        self.view.gallery.show_heat = not self.view.gallery.show_heat
        self.remember(heat=self.view.gallery.show_heat)
        self.show_latent()

    def action_picture(self, by: int) -> None:
        self.view.gallery.chosen += by

    def action_pictures(self, by: int) -> None:
        place = PICTURES.index(self.pictures) + by
        if 0 <= place < len(PICTURES):
            self.pictures = PICTURES[place]
            self.remember(pictures=self.pictures)
            self.show_latent()

    def _chosen_image(self) -> TopImage | None:
        if self.selected is None:
            return None
        scores, latent = self.selected
        top = scores.neurons.top(latent)
        return top[min(self.view.gallery.chosen, len(top) - 1)] if top else None

    def action_full(self) -> None:
        image = self._chosen_image()
        if image is not None and self.selected is not None:
            scores, latent = self.selected
            caption = f"latent {latent} {scores.name(latent)}   {significant(image.activation)}   {image.path}"
            self.services.show_full(partial(scores.thumbnails.image, image.path), caption)

    # Other ways to latents

    def action_text(self) -> None:
        self.services.ask(Ask("Rank latents by a text, such as: a dog on grass"), self._rank_by_text)

    def _rank_by_text(self, text: str) -> None:
        scores = self.scores
        if scores is None:
            self.services.say(TEACH)
            return

        def take(found: dict[int, float], title: str) -> None:
            self._searching = None
            if self.scores is scores:
                self.list_ranked({COSINE: found}, title)

        def fail(sentence: str) -> None:
            self._searching = None
            self.services.say(sentence)
            self.relist(keep=True)

        self._searching = TextSearch(scores, text, self.say, take, fail)
        self._searching.ask(self.services)

    def stop_waiting(self) -> bool:
        waited = super().stop_waiting()
        if self._searching is None:
            return waited
        self._searching.cancel(self.services)
        self._searching = None
        self.relist(keep=True)
        return True

    def action_image(self) -> None:
        question = "Image file (or drop one here), blank, or blank:COLOUR"
        self.services.ask(Ask(question, check=self.services.check_image), self._look_at_file)

    def action_look(self) -> None:
        image = self._chosen_image()
        if image is not None and self.scores is not None:
            self.look_at(f"{self.scores.thumbnails.source}::{image.path}", image.path)

    def on_paste(self, event: events.Paste) -> None:
        """A file dropped on the terminal arrives as its path."""
        from saetui.terminal.dropped_files import dropped_path

        if (path := dropped_path(event.text)) is not None:
            event.stop()
            self.look_at(str(path), path.name)

    def _look_at_file(self, given: str) -> None:
        """At the image that was typed, if it can be read."""
        from engine.images import opening

        def read() -> None:
            image = self.services.check_image(given)
            shown = partial(opening.picture, image, 1)
            look_up(self, "image", shown, lambda _: self.look_at(image, Path(image).name), self.services.say)

        self.services.guard(read)

    def look_at(self, image: str, title: str) -> None:
        """Which latents does ``image`` fire, and which each of its patches?"""
        from saetui.modes.neurons.image_search import LookScreen

        def chosen(found: list[tuple[int, float]]) -> None:
            self.list_ranked({FIRES: dict(found)}, f"fired by {title}")

        if self.scores is not None:
            self.services.ask(LookScreen(self.scores, image, title), chosen)
        else:
            self.services.say(TEACH)

    def action_steer(self) -> None:
        if self.selected is not None:
            scores, latent = self.selected
            maximum = float(scores.neurons.maximum[latent])
            self.post_message(SteerLatent(latent, scores.sae, scores.path, scores.name(latent, 2), maximum))

    def action_compare(self) -> None:
        from engine.workspace import neurons_files
        from saetui.modes.neurons.compare import CompareScreen

        here = self.scores
        if here is None:
            return
        others = {str(p): p.stem for p in neurons_files(self.services.workspace) if p != here.path}
        if not others:
            self.services.say("There are no other scores to compare with: score another SAE first (2, then s).")
            return

        def chosen(path: str) -> None:
            self.check_scores(path)
            self.app.push_screen(CompareScreen(here, Path(path), self.latents, self.table.cursor, self.pictures))

        self.services.ask(Pick("Compare with", others), chosen)

    def action_scores(self) -> None:
        from engine.workspace import neurons_files

        def chosen(path: str) -> None:
            self.services.scores_path = Path(path)
            self.check_files()

        found = {str(path): path.stem for path in neurons_files(self.services.workspace)}
        if found:
            self.services.ask(Pick("Open scores", found, str(self.services.scores_path)), chosen)
        else:
            self.teach()

    def action_report(self) -> None:
        self._report.ask()

    def action_back(self) -> None:
        if not self._report.stop():
            super().action_back()

    def action_copy(self) -> None:
        if self.selected is not None:
            self.services.copy(in_one_line(*self.selected), f"latent {self.latent} with its scores and top images")

    def action_copy_command(self) -> None:
        if self.selected is not None:
            scores, latent = self.selected
            command = steering_command(scores.sae, latent, self.services.workspace.root)
            self.services.copy(command, f"the command that steers latent {latent}")

    # The command line

    def words(self) -> dict[str, str]:
        return {
            "goto": "goto NUMBER: the latent of that number",
            "sort": f"sort NAME: {', '.join(SORTS)}",
            "filter": "filter TEXT: as / does",
            "look": "look FILE: the latents that an image fires",
            "text": "text WORDS: latents nearest to a text",
        }

    def arguments(self) -> dict[str, Iterable[str]]:
        return {"sort": SORTS}

    def obey(self, word: str, rest: str) -> bool:
        latent = whole(rest if word == "goto" else word if not rest else "")
        if latent is not None:
            self._goto(latent)
        elif word == "sort" and rest:
            self._sort_by(rest)
        elif word == "filter":
            self.filter.value = rest
            self.table.focus()
        elif word == "look" and rest:
            self._look_at_file(rest)
        elif word == "text" and rest:
            self._rank_by_text(rest)
        else:
            return False
        return True

    def _goto(self, latent: int) -> None:
        if self.scores is None:
            self.services.say(TEACH)
            return
        if latent >= self.scores.neurons.w:
            self.services.say(f"There is no latent {latent}: this SAE has latents 0 to {self.scores.neurons.w - 1}.")
            return
        if latent in self.listed.aside:
            self.action_copies()
        elif latent not in self.latents:
            self.action_back()
        self.table.go_to(latent)
