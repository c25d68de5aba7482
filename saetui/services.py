"""What a mode may ask of the app that shows it. A mode knows no other mode, and nothing else of the app."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from textual.app import App, SuspendNotSupported
from textual.notifications import Notify
from textual.screen import Screen
from textual.widget import Widget

from engine.config import IMAGE_SOURCES
from engine.errors import UserError, sentence_of
from engine.files import path_of, write_text
from engine.images.decoding import BrokenImage
from engine.images.sources import is_there
from engine.runs.run import Run
from engine.runs.tasks import TASKS
from engine.runs.watch import RunSnapshot
from engine.settings import from_mapping
from engine.workspace import MARKER, Workspace, neurons_files, sae_of
from saetui.background import look_up
from saetui.formatting import literal
from saetui.gc_tuning import GcTuning
from saetui.model_requests import Handler, ModelRequests
from saetui.preferences import Preferences, state_folder
from saetui.session import Session, first_mode, is_workspace
from saetui.widgets.bars import summary
from saetui.widgets.put_away import PutAway

if TYPE_CHECKING:
    from engine.server.protocol import Request
    from saetui.terminal.probe import Terminal

T = TypeVar("T")
Severity = Literal["information", "warning", "error"]
_SAVE = 0.25  # seconds of quiet after which the state is written


@dataclass(frozen=True)
class Reopen:
    """The app ends and another begins on this workspace: nothing of the old one lives on."""

    workspace: Workspace
    mode: str


class Services(App[Reopen | None]):
    """One workspace, what runs on it, and the ways to speak to a person and to a model."""

    def __init__(
        self,
        workspace: Workspace,
        preferences: Preferences | None = None,
        terminal: Terminal | None = None,
        mode: str = "",
        graphics: type[Widget] | None = None,
    ):
        """``graphics``: a widget that draws pictures sharper than cells, where the terminal can."""
        self.workspace = workspace
        self.preferences = preferences or Preferences()
        self.session = Session(workspace.root)
        """What was kept of where one is."""
        remembered = self.session.recall("app", "mode", "")
        self.DEFAULT_MODE = mode or (first_mode(workspace, remembered) if is_workspace(workspace) else "start")  # type: ignore[misc]
        super().__init__()
        self.terminal, self.graphics = terminal, graphics
        self.colours = self._colours()
        self.picture_style = self._picture_style()
        self.cell_ratio = terminal.cell_ratio if terminal else 2.0
        self.ascii = self.preferences.ascii
        self.scores_path: Path | None = self._remembered_scores()
        """The neurons file that Neurons and Hierarchy show."""
        self.runs: list[RunSnapshot] = []
        """Every run of the workspace, the newest first; looked at twice a second."""
        self.put_away = PutAway(workspace)
        self.models = ModelRequests(self, workspace)
        self.garbage = GcTuning()
        self._saving = False

    @property
    def terminal_line(self) -> str:
        where = "ssh" if self.terminal and self.terminal.ssh else ""
        return " ".join(filter(None, (where, self.colours)))

    def run_summary(self) -> str:
        """What the top bar says of runs."""
        return summary(self.runs, self.session.recall("app", "seen", 0.0))

    def seen_failures(self) -> None:
        """A person looks at the runs: what has failed by now is said no more."""
        self.remember("app", seen=time.time())

    def say(self, sentence: str, severity: Severity = "warning") -> None:
        """One sentence at the corner, literally."""
        self.notify(literal(sentence), severity=severity, markup=False, timeout=8)

    def on_notify(self, event: Notify) -> None:
        """Before one more is shown: of those there are, the last stays. More would hide what they are about."""
        for old in [*self._notifications][:-1]:
            self._unnotify(old, refresh=False)

    def ask(self, dialog: Screen[T | None], then: Callable[[T], object]) -> None:
        """Show ``dialog`` and go on with its answer; with none, or an empty one, all stays as it is."""

        def said(answer: T | None) -> None:
            if answer:
                then(answer)

        self.push_screen(dialog, said)

    def image_source(self, given: str) -> str | None:
        """The image source that a person has named, by its full path; None where nothing is there, which is said."""
        try:
            return self.check_images(given)
        except UserError as error:
            self.say(str(error))
            return None

    @property
    def base(self) -> Path:
        """What relative paths are from: the workspace, or where one stands as long as there is none."""
        return self.workspace.root if is_workspace(self.workspace) else Path.cwd()

    def check_images(self, given: str) -> str:
        """The same; UserError where nothing is there."""
        spec = os.path.realpath(self.base / os.path.expanduser(given.replace("\0", "")))
        if not is_there(spec):
            raise UserError(f"There is nothing at {given}: give {IMAGE_SOURCES}.")
        return spec

    def check_image(self, given: str) -> str:
        """The image that a person has typed or dropped, as ``engine.images.opening`` takes it; UserError for none."""
        from engine.images.opening import check_there
        from saetui.terminal.dropped_files import dropped_path

        path = dropped_path(given, self.base)
        image = str(path.absolute()) if path else given
        check_there(image)
        return image

    def check_folder(self, given: str) -> Path:
        """The directory that a person has named. UserError where there is none."""
        path = self.base / path_of(given)
        if not path.is_dir():
            raise UserError(f"There is no directory {path}: give the workspace's own.")
        return path.resolve()

    def guard(self, act: Callable[[], Any]) -> bool:
        """Do ``act``; what a user can mend is said instead of raised. Whether it was done."""
        try:
            act()
        except (UserError, OSError) as error:
            self.say(sentence_of(error))
            return False
        return True

    def remember(self, where: str, /, **values: Any) -> None:
        """Keep where one is in the mode ``where``; written when it has been quiet for a moment."""
        if self.session.set(where, **values) and not self._saving:
            self._saving = True
            self.set_timer(_SAVE, self._save)

    def _save(self) -> None:
        self._saving = False
        self.session.save()

    def copy(self, text: str, what: str) -> None:
        """To the terminal's clipboard (OSC 52), and to a file for terminals that have none: as it is shown, as it may
        be pasted into a shell. ``what``: in a few words, for the person who cannot see it."""
        text = literal(text)
        self.copy_to_clipboard(text)
        path = state_folder() / "copied.txt"
        if self.guard(lambda: write_text(path, text, durable=False, private=True)):
            self.say(f"Copied {what}; if your terminal did not take it, it is in {path}.", "information")

    def show_full(self, load: Callable[[], Any], caption: str) -> None:
        """Leave the cells for a moment and draw one picture with whatever graphics the terminal has."""
        if self.terminal is None or not self.terminal.tty:
            self.say("A picture in full size needs a terminal.")
            return
        asked, terminal = self.screen, self.terminal

        def fail(sentence: str) -> None:
            self.say(f"The picture cannot be shown: {sentence}")

        def show(image: Any) -> None:
            from saetui.terminal.full import show_full

            if self.screen is not asked:  # who asked has gone elsewhere
                return
            try:
                with self.suspend():
                    show_full(image, terminal, caption, ascii=self.ascii)
            except (SuspendNotSupported, UserError, BrokenImage, OSError) as error:
                fail(str(error))

        look_up(asked, "full", load, show, fail)

    def start(self, task: str, settings: dict[str, Any]) -> Run | None:
        """Start a run that outlives the workbench, just as ``saetui TASK --detach`` does; None where that was refused,
        which was said."""
        started: list[Run] = []

        def begin() -> None:
            known = TASKS[task]
            known.refuse(from_mapping(known.settings, settings, task), self.workspace)
            run = Run.create(self.workspace, task, settings, [task])
            run.detach()
            started.append(run)

        return started[0] if self.guard(begin) else None

    def ask_model(self, request: Request, handler: Handler, supersede: bool = True) -> int:
        """Hand ``request`` to the model server; ``handler`` gets every event of it, in the app's own thread."""
        return self.models.ask(request, handler, supersede)

    def open_path(self, given: str) -> None:
        """Open the workspace in the directory ``given``, in place of this one."""
        self.guard(lambda: self.open_workspace(Workspace(self.check_folder(given)), ""))

    def open_workspace(self, place: Workspace, mode: str) -> None:
        if not is_workspace(place):
            marker = place.root / MARKER
            if not self.guard(lambda: write_text(marker, "# Defaults: model, embed_with, vlm, ...\n")):
                return
        self.exit(Reopen(place, mode))

    def _remembered_scores(self) -> Path | None:
        """The neurons file that was open last, if it is still there, else the first to open."""
        last = self.workspace.root / "neurons" / self.session.recall("neurons", "file", "")
        return last if last.is_file() else self.first_scores()

    def first_scores(self) -> Path | None:
        """The newest scores; those of controls, as random directions, only where there are no others."""
        from engine.sae.config import is_control

        files = neurons_files(self.workspace)
        others = (path for path in files if not is_control(self.workspace.sae(sae_of(path))))
        return next(others, next(iter(files), None))

    def _colours(self) -> str:
        if self.preferences.colours != "auto":
            return self.preferences.colours
        return self.terminal.colours if self.terminal else "mono" if self.no_color else "truecolor"

    def _picture_style(self) -> str:
        if self.preferences.ascii or self.colours in ("mono", "16"):
            return "glyph"
        return "half" if self.preferences.picture == "auto" else self.preferences.picture


class Served:
    """A screen or widget that such an app shows."""

    if TYPE_CHECKING:
        app: App[Any]

    @property
    def services(self) -> Services:
        return cast(Services, self.app)
