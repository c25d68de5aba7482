"""What all modes share: the two bars, focus by tab, zoom, side bars, and remembering where one was."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from engine.neurons.latents import outdated
from engine.runs.watch import RunSnapshot
from saetui.background import cancel_look_ups, look_up
from saetui.bindings import key
from saetui.messages import ForMode
from saetui.services import Served
from saetui.widgets.bars import KeyBar, TopBar, summary

NARROW = 110  # columns below which a mode shows one part at a time

V = TypeVar("V")


class Mode(Served, Screen[None]):
    """One mode. Subclasses give ``parts`` and what ``remember``s; ``arrive`` is called each time it is shown."""

    MODE: ClassVar[str] = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (NARROW, "-wide")]
    BINDINGS = [
        key("pane.next", "tab", "app.focus_next", "Next part"),
        key("pane.previous", "shift+tab", "app.focus_previous", "Previous part"),
        key("pane.zoom", "z", "zoom", "Zoom the part in focus"),
        key("pane.left", "left_square_bracket", "side('left')", "Left side bar"),
        key("pane.right", "right_square_bracket", "side('right')", "Right side bar"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._outdated: dict[str, str] = {}  # what was said last of scores of other weights, by their path

    def compose(self) -> ComposeResult:
        yield TopBar()
        yield from self.parts()
        yield KeyBar()

    def parts(self) -> Iterable[Widget]:
        """The widgets between the two bars; a side bar has the class ``left`` or ``right``."""
        return ()

    def arrive(self) -> None:
        """The mode is shown: look again at what may have changed meanwhile."""

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        """The runs were looked at again (twice a second)."""

    def receive(self, message: ForMode) -> None:
        """Another mode asks for something of this one, which is shown now."""

    def words(self) -> dict[str, str]:
        """What the command line knows in this mode beside its keys: word -> explanation."""
        return {}

    def obey(self, word: str, rest: str) -> bool:
        """Do what was typed on the command line; whether it meant anything here."""
        return False

    def remember(self, **values: Any) -> None:
        self.services.remember(self.MODE, **values)

    @property
    def remembered(self) -> dict[str, Any]:
        return self.services.session.get(self.MODE)

    def recall(self, name: str, default: V) -> V:
        """What is remembered under ``name``; ``default`` for nothing, and for a value of another type."""
        return self.services.session.recall(self.MODE, name, default)

    def on_screen_resume(self) -> None:
        bar = self.query_one(TopBar)
        bar.mode, bar.place, bar.terminal = self.MODE, self.services.workspace.root.name, self.services.terminal_line
        bar.run = summary(self.services.runs)
        self.arrive()

    def check_scores(self, path: str | Path) -> None:
        """Say once when the scores in ``path`` are of other weights than their SAE has now."""

        def take(sentence: str) -> None:
            if sentence and sentence != self._outdated.get(str(path)):
                self.services.say(sentence)
            self._outdated[str(path)] = sentence

        # Whoever opens the file says more.
        look_up(self, "outdated", partial(outdated, path), take, lambda _: None, unasked=True)

    def stop_waiting(self) -> bool:
        """esc: cancel what this mode waits for, at once; whether there was anything. What comes late is dropped."""
        return cancel_look_ups(self)

    def action_part(self, part: str, verb: str, *given: Any) -> None:
        """Let a part of this mode do what a key is for."""
        getattr(getattr(self, part), verb)(*given)

    def action_zoom(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.focused)

    def action_side(self, side: str) -> None:
        for bar in self.query(f".{side}"):
            bar.display = not bar.display
