"""Two SAEs side by side: what they reached, and the latents of one that show the same images as one of the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from engine.errors import counted
from saetui.background import look_up
from saetui.bindings import key
from saetui.formatting import literal, number, percent
from saetui.modes.neurons.copied import in_one_line
from saetui.modes.neurons.latent_view import LatentView
from saetui.services import Served
from saetui.widgets.bars import KeyBar
from saetui.widgets.table import Exported, Table
from saetui.widgets.words import Words

if TYPE_CHECKING:
    from saetui.scores import Scores


class Side(Vertical):
    """One of the SAEs: what it reached, where its latent stands, the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.summary, self.said, self.view = Words(classes="summary"), Words(classes="said"), LatentView()

    def compose(self) -> ComposeResult:
        yield from (self.summary, self.said, self.view)


class CompareScreen(Served, Screen[None]):
    """Left: the list that was open. Right: the counterparts in the other SAE, by the Jaccard index of top images."""

    BINDINGS = [
        key("compare.down", "j,down", "move(1)", "Next latent", show=True),
        key("compare.up", "k,up", "move(-1)", "Previous latent"),
        key("compare.right", "l,right", "other(1)", "Next counterpart", show=True),
        key("compare.left", "h,left", "other(-1)", "Previous counterpart"),
        key("compare.heat", "m", "heat", "Heat map", show=True),
        key("compare.copy", "y", "copy", "Copy", show=True),
        key("compare.export", "ctrl+e", "export", "Export as CSV or JSON", show=True),
        key("compare.close", "escape,q", "dismiss", "Close", show=True),
    ]
    DEFAULT_CSS = """
    CompareScreen { background: $background; }
    CompareScreen Vertical { width: 1fr; }
    CompareScreen .summary { height: 3; background: $panel; padding: 0 1; }
    CompareScreen .said { height: 1; padding: 0 1; color: $secondary; }
    """

    def __init__(self, ours: Scores, other: Path, latents: list[int], place: int, pictures: int):
        super().__init__()
        self.left, self.right = Side(), Side()
        self.ours, self.other_path, self.latents, self.place = ours, other, latents, place
        self.pictures = pictures
        self.other: Scores | None = None
        self.found: list[tuple[int, float]] = []
        self.rank = 0

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield from (self.left, self.right)
        yield KeyBar()

    def on_mount(self) -> None:
        self.left.summary.say(summary(self.ours))
        self.right.summary.say(f"opening {self.other_path.name} …")
        self._match(self.latents[self.place] if self.latents else -1)

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._show)

    def _match(self, latent: int) -> None:
        ours, other, path, workspace = self.ours.neurons, self.other, self.other_path, self.services.workspace

        def find() -> tuple[Scores, list[tuple[int, float]]]:
            from saetui.scores import Scores

            theirs = other or Scores.open(path, workspace)
            return theirs, ours.match(theirs.neurons, latent) if latent >= 0 else []

        look_up(self, "match", find, self._matched, self.right.summary.say)

    def _matched(self, found: tuple[Scores, list[tuple[int, float]]]) -> None:
        self.other, self.found = found
        self.rank = 0
        self.right.summary.say(summary(self.other))
        self._show()

    def _show(self) -> None:
        if not self.latents:
            return
        self.left.said.say(f"latent {self.place + 1:,} of {len(self.latents):,} listed")
        latent, *ahead = self.latents[self.place : self.place + 3]
        self.left.view.show(self.ours, latent, ahead, self.pictures)
        if self.other is None:
            return
        if not self.found:
            self.right.said.say("no latent there has any of these top images")
            self.right.view.show(None)
            return
        (latent, jaccard), *more = self.found[self.rank : self.rank + 2]
        common = f"{number(jaccard)} of the top images in common (Jaccard)"
        self.right.said.say(f"counterpart {self.rank + 1} of {len(self.found)}: {common}")
        self.right.view.show(self.other, latent, [other for other, _ in more], self.pictures)

    def action_move(self, by: int) -> None:
        if self.latents:
            self.place = min(max(self.place + by, 0), len(self.latents) - 1)
            self.found = []
            self._show()
            self._match(self.latents[self.place])

    def action_other(self, by: int) -> None:
        if self.found:
            self.rank = min(max(self.rank + by, 0), len(self.found) - 1)
            self._show()

    def action_copy(self) -> None:
        """Our latent, and below it the counterpart that is shown."""
        if not self.latents:
            return
        latent = self.latents[self.place]
        lines, what = [in_one_line(self.ours, latent)], f"latent {latent}"
        if self.other is not None and self.found:
            theirs, jaccard = self.found[self.rank]
            lines.append(f"{in_one_line(self.other, theirs)}; {number(jaccard)} of the top images in common (Jaccard)")
            what += f" and its counterpart {theirs}"
        self.services.copy("\n".join(lines), what)

    @property
    def exported(self) -> Exported:
        """Our latents as they are listed, each with its first counterpart; nothing until the other SAE is open."""
        from engine.neurons.comparison import counterparts

        other = self.other
        if other is None:
            return Exported("comparison", 0, list)
        ours, labels = (self.ours.neurons, other.neurons), (self.ours.labels.texts, other.labels.texts)
        return Exported(
            f"{self.ours.sae}-{other.sae}", len(self.latents), partial(counterparts, *ours, self.latents, *labels)
        )

    def action_export(self) -> None:
        self.post_message(Table.ExportAsked(self.exported))

    def action_heat(self) -> None:
        for side in (self.left, self.right):
            side.view.gallery.show_heat = not side.view.gallery.show_heat


def summary(scores: Scores) -> Text:
    """What an SAE reached, with the controls, in three lines."""
    found = scores.neurons.summary
    ms, hierarchy = found.ms, found.hierarchy
    lines = [
        f"{scores.sae}  {counted(scores.neurons.w, 'latent')}, {found.alive:,} alive, "
        f"{counted(scores.groups, 'group')}, L0 {number(found.frequency.l0, 1)}",
        f"MS mean {number(ms.sae.mean)}  matched raw {number(ms.matched.mean)} "
        f"({percent(ms.matched.share_beaten)} beat theirs)  best {number(ms.sae.best)}",
        f"{counted(found.images, 'image')} of {found.settings.images}",
    ]
    if hierarchy:
        depth = "  ".join(number(group.depth) for group in hierarchy.groups)
        lines[2] = f"depth by group {depth} (random {number(hierarchy.expected)})  " + lines[2]
    return Text(literal("\n".join(lines)), no_wrap=True, overflow="ellipsis")
