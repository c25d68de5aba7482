"""The workbench: five modes over one workspace, a jobs drawer, a command line. Starts work, never does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual import events
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.binding import Binding
from textual.filter import LineFilter
from textual.screen import Screen

from engine.files import write_text
from engine.runs.watch import RunSnapshot, RunWatch
from saetui.background import Wanted, look_up, look_up_each
from saetui.bindings import key, mistakes
from saetui.command_line import CommandLine
from saetui.exporting import ask_export
from saetui.formatting import literal
from saetui.messages import ForMode, ShowLatents, SteerLatent
from saetui.modes.data.screen import DataMode
from saetui.modes.hierarchy.screen import HierarchyMode
from saetui.modes.mode import Mode
from saetui.modes.neurons.screen import NeuronsMode
from saetui.modes.start import StartMode
from saetui.modes.steer.preload import Preload
from saetui.modes.steer.screen import SteerMode
from saetui.modes.train.screen import TrainMode
from saetui.preferences import config_path, state_folder
from saetui.services import Services
from saetui.terminal.ascii import Ascii
from saetui.terminal.canvas import Canvas, Changes
from saetui.terminal.colours import WithoutColour, Xterm
from saetui.terminal.key_queue import KeyQueue
from saetui.terminal.literal import Literal
from saetui.themes import THEMES, ThemeStylesheet
from saetui.widgets.bars import TITLES, TopBar
from saetui.widgets.dialogs import ActionsProvider, Help, actions
from saetui.widgets.runs_drawer import RunsDrawer
from saetui.widgets.table import Table

_LEAVE = 3.0  # seconds after a signal until the workbench ends, whatever it waits for
_LOOK = 0.5  # seconds between looks at the runs


@lru_cache
def _line_filters(colours: str, ascii: bool, ground: str) -> tuple[LineFilter, ...]:
    """The same objects for the same settings: a line keeps what a filter made of it, for that very filter."""
    filters: list[LineFilter] = [Literal()]
    if colours == "mono":
        filters.append(WithoutColour(ground))
    elif colours == "256":
        filters.append(Xterm())
    return (*filters, Ascii()) if ascii else tuple(filters)


class Workbench(Services):
    """``saetui``: everything that it shows is read from files, everything that it starts is a process."""

    TITLE = "saetui"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "start": StartMode,
        "data": DataMode,
        "train": TrainMode,
        "neurons": NeuronsMode,
        "steer": SteerMode,
        "hierarchy": HierarchyMode,
    }
    COMMANDS = {ActionsProvider}
    CSS = """
    Mode { background: $background; }
    /* What is dimmed, or was covered, is sent again: pictures stand on the right, and cost most. */
    ModalScreen, CommandPalette { background: $background 0%; align-horizontal: left; }
    CommandPalette > Vertical { width: 76; max-width: 100%; }
    Toast { max-width: 76; }
    """
    BINDINGS = [
        *(key(f"app.{mode}", str(n), f"mode('{mode}')", title) for n, (mode, title) in enumerate(TITLES.items(), 1)),
        key("app.jobs", "J", "jobs", "Jobs"),
        key("app.command", "colon", "command", "Command line"),
        key("app.palette", "ctrl+p", "command_palette", "Command palette"),
        key("app.help", "question_mark,f1", "help", "Help"),
        key("app.theme", "f9", "theme", "Dark or light"),
        key("app.suspend", "ctrl+z", "suspend_process", "Suspend"),
        key("app.quit", "q,ctrl+q", "quit", "Quit"),
    ]

    def __init__(self, *given: Any, **options: Any):
        """As :class:`Services`."""
        super().__init__(*given, **options)
        self.stylesheet = ThemeStylesheet(variables=self.get_css_variables())
        self._watch = RunWatch(self.workspace)
        self._canvas = Canvas(erases=self.terminal is not None and self.terminal.erases)
        self._typed_on: Screen[Any] | None = None
        self.preload = Preload(self)
        self._type_ahead = KeyQueue(self, super().on_event)
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = self.preferences.theme
        self.set_keymap(self.preferences.keys)

    # What is typed and painted

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Resize):
            self._canvas.forget()
        elif isinstance(event, events.Key):
            self._typed_on = self.screen
        # Headless, a pilot presses the keys, and waits for each of them itself.
        if isinstance(event, events.Key) and not event.is_forwarded and not self.is_headless:
            self.garbage.key_pressed()
            await self._type_ahead.take(event)
        else:
            await super().on_event(event)

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if isinstance(renderable, LayoutUpdate | ChopsUpdate) and self.graphics is None:  # cells only
            # A key that shows other pictures is to be quick; where it leads to another screen, much stays as it was.
            changed_screen = isinstance(renderable, LayoutUpdate) or screen is not self._typed_on
            closely = changed_screen or (self.terminal is not None and self.terminal.ssh)
            renderable = Changes(renderable, self._canvas, closely)
        super()._display(screen, renderable)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """None of Textual's: its NO_COLOR leaves greys, colours too, and we draw in none of the 16 that it maps."""
        return _line_filters(self.colours, self.ascii, self.current_theme.background or "#000000")

    def get_key_display(self, binding: Binding) -> str:
        shown = super().get_key_display(binding)
        return binding.key if self.ascii and not shown.isascii() else shown

    # Life

    def on_mount(self) -> None:
        self.garbage.start()
        self._leave_on_signals()
        self.app_resume_signal.subscribe(self, self._resumed)
        look_up_each(self, "runs", self._watch_runs, self._runs_seen, self.say, unasked=True)
        if keys := self.preferences.keys:
            look_up(self, "keys", partial(mistakes, keys), self._say_each, self.say)

    def _say_each(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self.say(f"{config_path()}: {sentence}")

    def _resumed(self, _: object) -> None:
        """After ctrl+z the screen is empty."""
        self._canvas.forget()
        self.refresh(layout=True)

    def _leave_on_signals(self) -> None:
        """Whoever ends the workbench from outside finds the terminal as it was."""
        loop = asyncio.get_running_loop()

        def leave(number: int, _: object) -> None:
            if not os.isatty(2):  # the terminal is gone
                self._vanish(number)
            last = threading.Timer(_LEAVE, self._vanish, (number,))
            last.daemon = True
            last.start()
            loop.call_soon_threadsafe(partial(self.exit, return_code=128 + number))

        # Not the loop's own handlers: it may wait for a terminal that takes no more.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if not self.is_headless and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, leave)

    def _vanish(self, number: int) -> None:
        """End at once: Textual waits for ever to write to a terminal that is gone."""
        with contextlib.suppress(OSError):
            self.session.save()
        os._exit(128 + number)

    def _watch_runs(self, wanted: Wanted) -> Iterable[list[RunSnapshot]]:
        pause = threading.Event()
        while wanted():
            with contextlib.suppress(OSError):  # the workspace may be removed under us
                yield self._watch.look()
            pause.wait(_LOOK)

    def _runs_seen(self, runs: list[RunSnapshot]) -> None:
        self.garbage.collect_if_idle()
        if not self.is_headless:  # a pilot asks for it
            self.preload.look()
        if runs is not self.runs:
            before = {run.id: run.state for run in self.runs}
            self.runs = runs
            for run in runs:
                if run.id in before and before[run.id] != run.state and not run.live:
                    self._ended(run)
        for screen in self.screen_stack:
            for bar in screen.query(TopBar):
                bar.run = self.run_summary()
            if isinstance(screen, Mode | RunsDrawer) and screen.is_mounted:
                screen.runs_changed(runs)

    async def on_show_latents(self, message: ShowLatents) -> None:
        await self._hand_over(message)

    async def on_steer_latent(self, message: SteerLatent) -> None:
        await self._hand_over(message)

    async def _hand_over(self, message: ForMode) -> None:
        await self.switch_mode(message.mode)
        if isinstance(self.screen, Mode):
            self.screen.receive(message)

    def on_table_export_asked(self, message: Table.ExportAsked) -> None:
        ask_export(message.exported, self)

    def on_table_copy_asked(self, message: Table.CopyAsked) -> None:
        self.copy(message.text, message.what)

    def on_unmount(self) -> None:
        self.session.save()
        self.put_away.end()
        self.models.close()

    def _fatal_error(self) -> None:
        """A bug in saetui ends the workbench with a sentence; Textual would print its traceback over the terminal."""
        path, error = state_folder() / "defect.txt", sys.exc_info()[1]
        with contextlib.suppress(OSError):
            write_text(path, literal("".join(traceback.format_exception(error))), durable=False, private=True)
        self._exit_renderables.append(
            Text(
                f"saetui: a bug in saetui ended the workbench ({literal(f'{type(error).__name__}: {error}')}); the "
                f"traceback is in {path}. Runs go on, and saetui opens where you were."
            )
        )
        self._close_messages_no_wait()

    def _ended(self, run: RunSnapshot) -> None:
        if run.state == "done":
            self.say(f"{run.label} is done.", "information")
        elif run.state in ("failed", "died"):
            self.say(run.error or f"{run.label} died: J shows its log, r resumes it.", "error")

    # Actions

    async def action_mode(self, mode: str) -> None:
        if isinstance(self.screen, Mode) and self.current_mode != "start":
            await self.switch_mode(mode)
            self.remember("app", mode=mode)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "mode" and self.current_mode == "start")

    def action_jobs(self) -> None:
        if not isinstance(self.screen, RunsDrawer):
            self.seen_failures()
            self._runs_seen(self.runs)
            self.push_screen(RunsDrawer(self.workspace, self.runs, self.put_away))

    def action_help(self) -> None:
        if not isinstance(self.screen, Help):
            self.push_screen(Help(actions(self.screen)))

    def action_theme(self) -> None:
        self.theme = "paper" if self.theme == "graphite" else "graphite"

    def action_command(self) -> None:
        line = CommandLine(self.screen, self)
        self.push_screen(line.ask(), line.obey)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[Any]:
        return ()
