"""Mode 4: turn latents up and down inside a vision-language model, and read what it says then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from textual import events
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from engine.config import SteerSettings
from engine.errors import UserError
from engine.records import to_json
from engine.runs.watch import RunSnapshot
from engine.settings import from_mapping
from engine.steer.results import Fired
from saetui.bindings import key
from saetui.messages import ForMode, SteerLatent
from saetui.modes.mode import Mode
from saetui.modes.steer.answers import AnswersView
from saetui.modes.steer.conversation import Conversation
from saetui.modes.steer.dose_response import Dose, DoseSweep
from saetui.modes.steer.image_panel import ImagePanel
from saetui.modes.steer.kept import Kept
from saetui.modes.steer.question import LONGER, QuestionLines
from saetui.modes.steer.rack import Rack
from saetui.modes.steer.setup import Setup, SetupEditor, first_setup
from saetui.modes.steer.versions import Version
from saetui.terminal.dropped_files import dropped_path
from saetui.widgets.dialogs import actions
from saetui.widgets.words import Words

PAUSE = 0.15  # seconds without a change after which the model is asked


class SteerMode(Mode):
    """Image, rack and question above; the three answers and the dose sweep below."""

    MODE = "steer"
    BINDINGS = [
        key("steer.run", "r", "run", "Run", show=True),
        key("steer.add", "a", "part('rack', 'ask_latent')", "Add a latent", show=True),
        key("steer.dose", "d", "dose", "Dose sweep", show=True),
        key("steer.doses", "D", "doses", "Strengths of the sweep"),
        key("steer.prompt", "p", "part('question', 'ask_prompt')", "Prompt", show=True),
        key("steer.file", "o", "part('image', 'ask_file')", "Image file", show=True),
        key("steer.next", "n", "part('image', 'step', 1)", "Next image", show=True),
        key("steer.previous", "N", "part('image', 'step', -1)", "Previous image"),
        key("steer.source", "i", "part('image', 'pick_source')", "Image source"),
        key("steer.blank", "b", "part('image', 'next_colour')", "Blank", show=True),
        key("steer.top", "t", "top", "Top image", show=True),
        key("steer.fire", "f", "part('image', 'switch_fire')", "Where they fire", show=True),
        key("steer.mode", "m", "part('question', 'next_mode')", "Clamp, add, scale, ablate"),
        key("steer.tokens", "T", "tokens", "Paint the patches that are steered"),
        key("steer.longer", "greater_than_sign", f"part('question', 'lengthen', {LONGER})", "Longer answers"),
        key("steer.shorter", "less_than_sign", f"part('question', 'lengthen', {-LONGER})", "Shorter answers"),
        key("steer.error", "E", "part('question', 'switch_error')", "Keep or drop the SAE's error"),
        key("steer.sae", "s", "part('question', 'pick_sae')", "SAE"),
        key("steer.vlm", "M", "part('question', 'ask_model')", "Vision-language model"),
        key("steer.versions", "v", "part('kept', 'pick_version')", "Versions", show=True),
        key("steer.save", "w", "part('kept', 'ask_recipe_name')", "Save recipe", show=True),
        key("steer.open", "e", "part('kept', 'pick_recipe')", "Open recipe", show=True),
        key("steer.copy", "y", "copy", "Copy", show=True),
        key("steer.undo", "u", "undo(True)", "Undo", show=True),
        key("steer.redo", "ctrl+r", "undo(False)", "Redo"),
        key("steer.stop", "escape", "stop", "Stop, close the sweep", show=True),
    ]
    DEFAULT_CSS = """
    SteerMode #top { height: 15; max-height: 40%; }
    SteerMode #state { height: auto; min-height: 1; max-height: 3; padding: 0 1; color: $secondary; }
    SteerMode #state.-wrong { color: $error; }
    SteerMode AnswersView { height: 1fr; min-height: 6; }
    SteerMode Dose { display: none; height: 2fr; }
    SteerMode.-dose Dose { display: block; }
    SteerMode.-narrow #top { height: 9; }
    SteerMode.-narrow ImagePanel { width: 20; }
    SteerMode.-narrow AnswersView { layout: vertical; height: 1fr; }
    SteerMode.-narrow.-dose AnswersView { display: none; }
    SteerMode.-narrow Dose { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.editor = SetupEditor(self._show_change, self._ask_soon)
        self.image = ImagePanel(self.editor, id="image")
        self.question = QuestionLines(self.editor, id="question")
        self.rack = Rack(self.editor, id="rack")
        self.answers = AnswersView(id="answers")
        self.dose = Dose(self.editor, id="dose")
        self.state = Words(id="state")
        self._soon: Timer | None = None
        self._ahead, self._said, self._under = "", ("", False), ("", False)

    def parts(self) -> Iterable[Widget]:
        with Horizontal(id="top"):
            yield self.image
            with Vertical(id="controls"):
                yield self.question
                yield self.rack
        yield self.answers
        yield self.dose
        yield self.state

    @property
    def setup(self) -> Setup:
        return self.editor.setup

    # Life

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_all())
        self.conversation = Conversation(self.services, self, self.answers, self.dose)
        self.kept = Kept(self, self.editor, self.answers)
        self.editor.setup = self._first_setup()
        self._show_setup()
        self.image.load()
        self._restore()
        self.rack.focus()

    def receive(self, message: ForMode) -> None:
        if isinstance(message, SteerLatent):
            self.rack.add(message.latent, message.sae, str(message.neurons), (message.name, message.maximum))

    def arrive(self) -> None:
        if not self.setup.sae:
            self.editor.become(self._first_setup())
        self.rack.look_names_up()
        self._check_scores()

    def _check_scores(self) -> None:
        if self.setup.neurons:
            self.check_scores(self.setup.neurons)

    def _first_setup(self) -> Setup:
        """What was remembered, else what the workspace has: its SAE with scores, its model."""
        try:
            defaults = self.services.workspace.defaults_of(SteerSettings)
            settings = from_mapping(SteerSettings, defaults, "workspace.toml")
        except UserError as error:
            self.services.say(str(error))
            settings = SteerSettings()
        self.conversation.device, self.conversation.dtype = settings.device, settings.dtype
        kept = self.kept.last("setup", Setup)
        return kept if kept and kept.sae else first_setup(self.services.workspace, settings)

    def _restore(self) -> None:
        """The last answers and sweep, as they were; the model is not asked."""
        version = self.kept.last("version", Version)
        if version is None:
            self.tell(self.setup.lacks)
            return
        self.answers.put(version.answers)
        if version.setup != self.setup:
            self.answers.expect()
            self.tell("These answers are of an earlier setup: r asks again.")
        if sweep := self.kept.last("sweep", DoseSweep):
            self.dose.show_sweep(sweep)

    # The setup

    def _show_change(self, before: Setup, setup: Setup) -> None:
        self.remember(setup=to_json(setup))
        self._show_setup()
        self.image.lay()
        if setup.image != before.image:
            self.image.load()
        if setup.neurons != before.neurons:
            self._check_scores()

    def _show_setup(self) -> None:
        keys = {action.id: action.keys[0] for action in actions(cast(Screen[object], self))}
        teach = f"{keys.get('steer.add', 'a')} adds a latent; s in Neurons (3) sends one"
        self.rack.take(self.setup.rack, self.setup.mode, self.setup.lacks or teach)
        self.dose.compare()
        self.question.show(keys)

    def _show_all(self) -> None:
        """Anew, in other colours."""
        self._show_setup()
        self.answers.show_all()
        self.dose.show_all()

    def action_undo(self, back: bool) -> None:
        if not (self.editor.undo() if back else self.editor.redo()):
            self.services.say(f"There is nothing to {'undo' if back else 'redo'}.", "information")

    def action_top(self) -> None:
        self.image.next_top(self.rack.slot)

    def on_paste(self, event: events.Paste) -> None:
        """A file dropped on the terminal arrives as its path."""
        if dropped_path(event.text):
            event.stop()
            self.image.open(event.text)

    # Asking

    def _ask_soon(self) -> None:
        self._wait_no_longer()
        self._soon = self.set_timer(PAUSE, self.action_run)

    def _wait_no_longer(self) -> bool:
        """Forget that the model was to be asked in a moment; whether it was."""
        if self._soon is None:
            return False
        self._soon.stop()
        self._soon = None
        return True

    def action_run(self) -> None:
        """Ask for the three answers now."""
        self._wait_no_longer()
        if self.setup.lacks:
            self.tell(self.setup.lacks)
        else:
            self.conversation.ask(self.setup)

    @property
    def goes_back(self) -> bool:
        return self.has_class("-dose") or (self.is_mounted and self.conversation.is_busy)

    def action_tokens(self) -> None:
        self.image.paint_tokens(self.question.ask_tokens)

    def action_stop(self) -> None:
        """Stop what is going on, at once; if nothing is, close the sweep."""
        self._wait_no_longer()
        stopped = self.conversation.stop() or self.services.models.cancel_loading()
        if not (self.stop_waiting() or stopped) and self.has_class("-dose"):
            self.remove_class("-dose")
            self.tell("")
            self.rack.focus()

    def runs_changed(self, runs: list[RunSnapshot]) -> None:
        """What is loaded ahead is told where nothing else goes on, over what stood there."""
        ahead = self.services.models.ahead
        if ahead == self._ahead or self.conversation.answering or self.conversation.sweeping:
            return
        if self._said != (self._ahead, False) or not self._ahead:
            self._under = self._said
        self._ahead = ahead
        self.tell(*(self._under if not ahead else (ahead, False)))

    def tell(self, sentence: str, wrong: bool = False) -> None:
        self.refresh_bindings()
        self._said = sentence, wrong
        self.state.set_class(wrong, "-wrong")
        self.state.say(sentence)

    def take_answers(self, version: Version) -> None:
        self.answers.put(version.answers)
        self.kept.add(version)

    def take_fired(self, fired: Fired) -> None:
        self.image.take_fired(fired)

    def take_sweep(self) -> None:
        self.remember(sweep=to_json(self.dose.sweep))

    # Dose sweep

    def action_doses(self) -> None:
        self.dose.ask_strengths(self.action_dose)

    def action_dose(self) -> None:
        """Turn the selected latent up step by step, the rest of the rack as it is."""
        slot, setup = self.rack.slot, self.setup
        if setup.lacks or slot is None:
            self.services.say(setup.lacks or "A sweep turns up one latent of the rack: a adds one.")
            return
        if setup.mode == "ablate":
            self.services.say("Mode ablate always sets 0, there is nothing to sweep: m chooses another mode.")
            return
        if self._wait_no_longer():
            self.action_run()  # now, as later it would take the place of the sweep
        self.conversation.sweep(setup, slot, self.dose.strengths)
        self.add_class("-dose")
        self.dose.begin(slot)

    # What is kept

    def action_copy(self) -> None:
        """The sweep where one is in it, else the setup with its answers."""
        if self.dose.table.has_focus and self.dose.points:
            self.services.copy(self.dose.text(), self.dose.sweep.title)
            return
        self.services.copy(Version(self.setup, self.answers.shown).text(), "the setup with its three answers")

    # The command line

    def words(self) -> dict[str, str]:
        return {
            "image": "image FILE: what to ask about",
            "source": "source FOLDER: images to step through with n",
            "prompt": "prompt TEXT: what to ask",
            "latent": "latent NUMBER or NAME: into the rack",
            "strength": "strength 30 or 2x: of the selected latent",
        }

    def obey(self, word: str, rest: str) -> bool:
        if not rest or word not in self.words():
            return False
        if word == "image":
            self.image.open(rest)
        elif word == "source":
            self.image.open_source(rest)
        elif word == "prompt":
            self.question.edit(prompt=rest)
        elif word == "latent":
            self.rack.find(rest)
        elif self.rack.slot:
            self.rack.set_strength(self.rack.slot, rest)
        else:
            self.services.say("There is no latent in the rack to set: a adds one.")
        return True
