"""Mode 4: turn latents up and down inside a vision-language model, and read what it says then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from rich.text import Text
from textual import events
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from engine import artefacts
from engine.config import InterventionMode, from_mapping
from engine.errors import UserError, sentence_of
from engine.images import opening
from engine.images.opening import IN, is_plain
from engine.neurons import latents
from engine.server.protocol import Answer, Sweep
from engine.steer.interventions import parse_tokens
from engine.workspace import neurons_of, recipes, saes, slug
from saetui.bindings import key
from saetui.formatting import literal
from saetui.messages import ForMode, SteerLatent
from saetui.modes.mode import Mode
from saetui.modes.steer.answers import AnswersView
from saetui.modes.steer.dose_response import Dose
from saetui.modes.steer.rack import Rack
from saetui.modes.steer.setup import ANSWERS, Setup, Slot, Undo, keep_recipe, open_recipe, parse_doses
from saetui.modes.steer.versions import Version, Versions
from saetui.modes.steer.versions_screen import VersionsScreen
from saetui.terminal.dropped_files import dropped_path
from saetui.widgets.dialogs import Ask, Pick, actions
from saetui.widgets.picture import Picture
from saetui.widgets.sharp_picture import SharpPicture
from saetui.widgets.table import Table

T = TypeVar("T")
COLOURS = ("blank", "blank:black", "blank:grey", "blank:red", "blank:green", "blank:blue", "blank:yellow")
PAUSE = 0.15  # seconds without a change after which the model is asked
LONGER = 8  # tokens by which an answer becomes longer or shorter
LONGEST = 512
PROMPTS = 20  # remembered
DOSES = "-1..4 by 0.5"
MODES: tuple[InterventionMode, ...] = get_args(InterventionMode)
_RATE = 0.25  # seconds between two looks at the speed


class Ready(Message):
    """What a thread has found is to be taken in."""

    def __init__(self, take: Callable[[], None]):
        super().__init__()
        self.take = take


@dataclass
class Asked:
    """A request to the model server that has not ended yet."""

    number: int
    setup: Setup
    answer: str = ""
    pieces: int = 0
    since: float = 0.0
    shown: float = 0.0

    def rate(self) -> float | None:
        """Pieces of text a second in the present answer, now and then."""
        now = time.monotonic()
        if self.pieces < 2 or now - self.shown < _RATE:
            return None
        self.shown = now
        return (self.pieces - 1) / (now - self.since)


class SteerMode(Mode):
    """Image, rack and question above; the three answers and the dose sweep below."""

    MODE = "steer"
    BINDINGS = [
        key("steer.run", "r", "run", "Run", show=True),
        key("steer.add", "a", "add", "Add a latent", show=True),
        key("steer.dose", "d", "dose", "Dose sweep", show=True),
        key("steer.doses", "D", "doses", "Strengths of the sweep"),
        key("steer.prompt", "p", "prompt", "Prompt", show=True),
        key("steer.file", "o", "file", "Image file", show=True),
        key("steer.next", "n", "step(1)", "Next image", show=True),
        key("steer.previous", "N", "step(-1)", "Previous image"),
        key("steer.source", "i", "source", "Image source"),
        key("steer.blank", "b", "blank", "Blank", show=True),
        key("steer.top", "t", "top", "Top image", show=True),
        key("steer.mode", "m", "mode", "Clamp, add, scale, ablate"),
        key("steer.tokens", "T", "tokens", "Tokens that are steered"),
        key("steer.longer", "greater_than_sign", f"longer({LONGER})", "Longer answers"),
        key("steer.shorter", "less_than_sign", f"longer({-LONGER})", "Shorter answers"),
        key("steer.error", "E", "error", "Keep or drop the SAE's error"),
        key("steer.sae", "s", "sae", "SAE"),
        key("steer.vlm", "M", "vlm", "Vision-language model"),
        key("steer.versions", "v", "versions", "Versions", show=True),
        key("steer.save", "w", "save", "Save recipe", show=True),
        key("steer.open", "e", "open", "Open recipe", show=True),
        key("steer.copy", "y", "copy", "Copy", show=True),
        key("steer.undo", "u", "undo", "Undo", show=True),
        key("steer.redo", "ctrl+r", "redo", "Redo"),
        key("steer.stop", "escape", "stop", "Stop, or close the sweep"),
    ]
    DEFAULT_CSS = """
    SteerMode #top { height: 1fr; }
    SteerMode #image { width: 40%; max-width: 62; }
    SteerMode #picture { width: 1fr; height: 1fr; }
    SteerMode #caption { height: 1; padding: 0 1; color: $secondary; text-wrap: nowrap; text-overflow: ellipsis; }
    SteerMode #question { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    SteerMode #state { height: auto; min-height: 1; max-height: 3; padding: 0 1; color: $secondary; }
    SteerMode #state.-wrong { color: $error; }
    SteerMode AnswersView { height: 30%; }
    SteerMode Dose { display: none; height: 36%; }
    SteerMode.-dose AnswersView { height: 6; }
    SteerMode.-dose Dose { display: block; }
    SteerMode.-narrow #top { height: 9; }
    SteerMode.-narrow #image { width: 20; }
    SteerMode.-narrow AnswersView { layout: vertical; height: 1fr; }
    SteerMode.-narrow.-dose AnswersView { display: none; }
    SteerMode.-narrow Dose { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.setup = Setup()
        self.device: dict[str, Any] = {}  # fields of a question that workspace.toml may set
        self._undo = Undo()
        self._asked: Asked | None = None
        self._swept: Asked | None = None
        self._loading = False  # the model server is, for whichever request: those after it wait
        self._soon: Timer | None = None
        self._listed: dict[str, list[str]] = {}
        self._picture: Picture | SharpPicture
        self._warned: set[str] = set()  # each warning of the server is said once

    def parts(self) -> Iterable[Widget]:
        drawn_by = self.services.graphics
        self._picture = SharpPicture(drawn_by, id="picture") if drawn_by else Picture(id="picture")
        with Horizontal(id="top"):
            with Vertical(id="image"):
                yield self._picture
                yield Static(id="caption", markup=False)
            with Vertical(id="controls"):
                yield Static(id="question", markup=False)
                yield Rack(id="rack")
        yield AnswersView(id="answers")
        yield Dose(id="dose")
        yield Static(id="state", markup=False)

    @property
    def rack(self) -> Rack:
        return self.query_one(Rack)

    @property
    def answers(self) -> AnswersView:
        return self.query_one(AnswersView)

    @property
    def dose(self) -> Dose:
        return self.query_one(Dose)

    # What other panes use

    def add_latent(
        self, latent: int, sae: str, neurons_path: str | Path, name: str = "", maximum: float | None = None
    ) -> None:
        """Put ``latent`` of ``sae`` into the rack, switched on at its own maximum, and ask.

        ``name`` and ``maximum`` are looked up in the neurons file unless they are given; then it is there a moment
        later. Latents of another SAE leave the rack.
        """

        def add(name: str, maximum: float) -> None:
            slot = Slot(latent, maximum=max(maximum, 0.0), name=name)
            self.change(self.setup.of_sae(sae, str(neurons_path)).with_latent(slot.at(1.0)))
            self.rack.select(latent)
            self.rack.focus()

        def take(known: dict[int, tuple[str, float]]) -> None:
            add(*known.get(latent, ("", 0.0)))

        if maximum is None:
            self._look_up("add", partial(latents.describe, str(neurons_path), [latent]), take)
        else:
            add(name, maximum)

    # Life

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._show_all())
        self.versions = Versions(self.services.session.path.with_suffix(".versions.jsonl"))
        self.setup = self._first_setup()
        self._show_setup()
        self._load_picture()
        self._restore()
        self.rack.focus()

    def receive(self, message: ForMode) -> None:
        if isinstance(message, SteerLatent):
            self.add_latent(message.latent, message.sae, message.neurons, message.name, message.maximum)

    def arrive(self) -> None:
        if not self.setup.sae:
            self._become(self._first_setup())
        setup = self.setup
        if setup.neurons and setup.rack:
            found = partial(latents.describe, setup.neurons, [slot.latent for slot in setup.rack])
            self._look_up("names", found, self._rename, lambda _: None)  # what was remembered of them will do

    def _first_setup(self) -> Setup:
        """What was remembered, else what the workspace has: its SAE with scores, its model."""
        kept = self.remembered.get("setup")
        defaults: dict[str, Any] = {}
        self.services.guard(lambda: defaults.update(self.services.workspace.defaults()))
        self.device = {name: defaults[name] for name in ("device", "dtype") if name in defaults}
        try:
            if isinstance(kept, dict) and (setup := Setup.from_mapping(kept)).sae:
                return setup
            given: dict[str, Any] = {
                name: defaults[name] for name in ("vlm", "prompt", "max_new_tokens") if name in defaults
            }
            setup = from_mapping(Setup, given, "workspace.toml")
        except UserError as error:
            self.services.say(str(error))
            setup = Setup()
        names = saes(self.services.workspace)
        return setup.of_sae(names[0], neurons_of(self.services.workspace, names[0])) if names else setup

    def _restore(self) -> None:
        """The last answers and sweep, as they were; the model is not asked."""
        try:
            version = Version.from_mapping(self.remembered["version"])
        except (UserError, KeyError, TypeError, ValueError):
            self._tell(self.setup.lacks)
            return
        self.answers.put(version.answers)
        if version.setup != self.setup:
            self.answers.expect()
            self._tell("These answers are of an earlier setup: r asks again.")
        if isinstance(sweep := self.remembered.get("sweep"), dict):
            self.dose.restore(sweep)
            self.dose.compare(self.setup.without(self.dose.latent))

    def _rename(self, known: dict[int, tuple[str, float]]) -> None:
        """Names may have changed, scores may have come. Neither is a change of the setup's own."""
        rack = tuple(
            replace(slot, name=known[slot.latent][0], maximum=slot.maximum or max(known[slot.latent][1], 0.0))
            if slot.latent in known
            else slot
            for slot in self.setup.rack
        )
        self._become(replace(self.setup, rack=rack))

    # The setup

    def change(self, setup: Setup, kind: str = "") -> None:
        """The person wants ``setup`` now: remember it, show it, and ask when it has been quiet for a moment.

        Changes of the same ``kind`` in a row are undone together.
        """
        if setup == self.setup:
            return
        self._undo.changed(self.setup, kind)
        self._become(setup)
        self._ask_soon()

    def _become(self, setup: Setup) -> None:
        before, self.setup = self.setup, setup
        if setup == before:
            return
        self.remember(setup=setup.to_mapping())
        self._show_setup()
        if setup.image != before.image:
            self._load_picture()

    def on_rack_edited(self, event: Rack.Edited) -> None:
        self.change(replace(self.setup, rack=event.slots), event.kind)

    def _show_setup(self) -> None:
        setup = self.setup
        keys = {action.id: action.keys[0] for action in actions(cast(Screen[object], self))}
        teach = f"{keys.get('steer.add', 'a')} adds a latent; s in Neurons (3) sends one"
        self.rack.take(setup.rack, setup.mode, setup.lacks or teach)
        self.dose.compare(setup.without(self.dose.latent))
        accent, quiet = f"bold {self.app.current_theme.accent or ''}", self.app.current_theme.secondary or ""
        text = Text()

        def part(what: str, label: str, value: str, end: str = "   ") -> None:
            text.append(keys.get(f"steer.{what}", ""), style=accent)
            text.append(f" {label} ", style=quiet)
            text.append(literal(value) + end)

        part("prompt", "prompt", setup.prompt.replace("\n", " "), "\n")
        part("mode", "mode", setup.mode)
        part("tokens", "tokens", setup.tokens)
        text.append(keys.get("steer.shorter", "<"), style=accent)
        part("longer", "new", str(setup.max_new_tokens))
        part("error", "error", "kept" if setup.keep_error else "dropped", "\n")
        part("sae", "SAE", setup.sae or "none")
        part("vlm", "model", setup.vlm or "none", "")
        question = self.query_one("#question", Static)
        if question.content != text:
            question.update(text)

    def _show_all(self) -> None:
        """Anew, in other colours."""
        self._show_setup()
        self.answers.show_all()
        self.dose.show_all()

    def action_undo(self) -> None:
        self._step_back(self._undo.undo(self.setup), "undo")

    def action_redo(self) -> None:
        self._step_back(self._undo.redo(self.setup), "redo")

    def _step_back(self, setup: Setup | None, what: str) -> None:
        if setup is None:
            self.services.say(f"There is nothing to {what}.", "information")
            return
        self._become(setup)
        self._ask_soon()

    # Threads

    def _look_up(
        self,
        group: str,
        find: Callable[[], T],
        take: Callable[[T], None],
        fail: Callable[[str], None] | None = None,
        forget: bool = True,
    ) -> None:
        """``find`` in a thread, then ``take`` what it found here. ``forget``: earlier look-ups of the ``group``.

        What a person can mend goes to ``fail``, by default the corner of the screen.
        """
        fail = fail or self.services.say

        def run() -> None:
            worker = get_current_worker()
            try:
                then = partial(take, find())
            except (UserError, OSError) as error:
                then = partial(fail, sentence_of(error))
            if not worker.is_cancelled:
                self.post_message(Ready(then))

        self.run_worker(run, thread=True, exclusive=forget, group=group)

    def on_ready(self, message: Ready) -> None:
        message.take()

    # The image

    def _load_picture(self) -> None:
        image = self.setup.image

        def take(found: tuple[Any, str]) -> None:
            pixels, caption = found
            self._picture.show(pixels, key=image)
            self.query_one("#caption", Static).update(Text(literal(caption)))

        def fail(sentence: str) -> None:
            self._picture.failed(sentence)
            self.query_one("#caption", Static).update("")

        self._look_up("picture", partial(opening.picture, image), take, fail)

    def _choose_image(self, image: str) -> None:
        """Take ``image`` if it can be read."""
        self._look_up("choose", partial(opening.picture, image), lambda _: self._take_image(image))

    def _take_image(self, image: str) -> None:
        self.change(replace(self.setup, image=image))

    def action_file(self) -> None:
        def given(text: str | None) -> None:
            if text:
                self._open_image(text)

        known = {colour: "a plain colour" for colour in COLOURS}
        self.app.push_screen(Ask("Image file (or drop one here), blank, or blank:COLOUR", known=known), given)

    def _open_image(self, text: str) -> None:
        path = dropped_path(text)
        self._choose_image(str(path.absolute()) if path else text)

    def on_paste(self, event: events.Paste) -> None:
        """A file dropped on the terminal arrives as its path."""
        if path := dropped_path(event.text):
            event.stop()
            self._choose_image(str(path.absolute()))

    def action_blank(self) -> None:
        here = COLOURS.index(self.setup.image) if self.setup.image in COLOURS else -1
        self._take_image(COLOURS[(here + 1) % len(COLOURS)])

    def action_step(self, by: int) -> None:
        image = self.setup.image
        source = "" if is_plain(image) or IN not in image else image.rpartition(IN)[0]

        def take(images: list[str]) -> None:
            place = images.index(image) + by if image in images else 0 if by > 0 else -1
            self._listed[source] = images
            self._take_image(images[place % len(images)])

        if source in self._listed:
            take(self._listed[source])
            return
        neurons, workspace = self.setup.neurons, self.services.workspace
        self._look_up("listing", lambda: opening.listing(source or artefacts.first_source(workspace, neurons)), take)

    def action_source(self) -> None:
        def chosen(source: str | None) -> None:
            if source:
                self._look_up("listing", partial(opening.listing, source), lambda images: self._take_image(images[0]))

        def take(sources: list[str]) -> None:
            options = {source: source for source in sources}
            if options:
                self.app.push_screen(Pick("Images of", options, self.setup.image.rpartition(IN)[0]), chosen)
            else:
                self.services.say("This workspace has no images of its own: o opens a file, :source takes a folder.")

        self._look_up("sources", partial(artefacts.sources, self.services.workspace, self.setup.neurons), take)

    def action_top(self) -> None:
        slot, neurons = self.rack.slot, self.setup.neurons
        if slot is None or not neurons:
            self.services.say("Top images are those of a latent in the rack that has scores: a adds a latent.")
            return

        def take(images: list[str]) -> None:
            if not images:
                self.services.say(f"Latent {slot.latent} fired on no image.")
                return
            place = images.index(self.setup.image) + 1 if self.setup.image in images else 0
            self._take_image(images[place % len(images)])

        self._look_up("top", partial(latents.top_images, neurons, slot.latent), take)

    # The question

    def action_prompt(self) -> None:
        prompts = [p for p in self.remembered.get("prompts", []) if isinstance(p, str)]

        def given(prompt: str | None) -> None:
            if prompt:
                self.remember(prompts=[prompt, *(p for p in prompts if p != prompt)][:PROMPTS])
                self.change(replace(self.setup, prompt=prompt))

        self.app.push_screen(Ask("What to ask", self.setup.prompt, dict.fromkeys(prompts, "asked before")), given)

    def action_mode(self) -> None:
        self.change(replace(self.setup, mode=MODES[(MODES.index(self.setup.mode) + 1) % len(MODES)]), "mode")

    def action_tokens(self) -> None:
        def given(text: str | None) -> None:
            if text and self.services.guard(lambda: parse_tokens(text)):
                self.change(replace(self.setup, tokens=text))

        question = "Visual tokens to steer: all, or indices like 0,3,5-9"
        self.app.push_screen(Ask(question, self.setup.tokens, {"all": question}), given)

    def action_longer(self, by: int) -> None:
        length = self.setup.max_new_tokens + by
        self.change(replace(self.setup, max_new_tokens=max(min(length, LONGEST), LONGER)), "length")

    def action_error(self) -> None:
        self.change(replace(self.setup, keep_error=not self.setup.keep_error), "error")

    def action_sae(self) -> None:
        workspace = self.services.workspace

        def chosen(sae: str | None) -> None:
            if sae:
                self.change(self.setup.of_sae(sae, neurons_of(workspace, sae)))

        names = saes(workspace)
        if names:
            self.app.push_screen(Pick("Steer with the SAE", {name: name for name in names}, self.setup.sae), chosen)
        else:
            self.services.say(Setup().lacks)

    def action_vlm(self) -> None:
        def given(vlm: str | None) -> None:
            if vlm:
                self.change(replace(self.setup, vlm=vlm))

        known = {"demo": "the small LLaVA that comes with saetui", "hf:": "hf:ORG/NAME of a LLaVA-class model"}
        self.app.push_screen(Ask("Model: hf:ORG/NAME, a local directory, or demo", self.setup.vlm, known), given)

    # The rack

    def action_add(self) -> None:
        if not self.setup.sae:
            self.services.say(self.setup.lacks)
            return

        def given(text: str | None) -> None:
            if text:
                self._search(text)

        self.app.push_screen(Ask("Latent: its number, or a name to search for"), given)

    def _search(self, text: str) -> None:
        setup = self.setup
        if not setup.neurons:
            if text.isdecimal():
                self.add_latent(int(text), setup.sae, "", maximum=0.0)
            else:
                self.services.say(
                    f"{setup.sae} has no scores, so its latents have no names: give a number, or score it."
                )
            return

        def take(found: list[latents.KnownLatent]) -> None:
            known = {str(one.latent): one for one in found}

            def chosen(latent: str | None) -> None:
                if latent:
                    one = known[latent]
                    self.add_latent(one.latent, setup.sae, setup.neurons, one.name, one.maximum)

            if len(found) == 1:
                chosen(str(found[0].latent))
            elif found:
                options = {n: f"{n:>6}  {one.name}" for n, one in known.items()}
                self.app.push_screen(Pick(f"Latents that {text} finds, the best first", options), chosen)
            else:
                self.services.say(f"No latent is called {text}: / in Neurons (3) searches while you type.")

        self._look_up("search", partial(latents.search, setup.neurons, text), take)

    def on_table_chosen(self, event: Table.Chosen) -> None:
        if event.table is self.rack:
            self._type_strength()
        elif event.table is self.dose.table:
            self._take_dose(self.dose.points[event.row]["value"])

    def _type_strength(self) -> None:
        slot = self.rack.slot
        assert slot is not None

        def given(text: str | None) -> None:
            if text:
                self._set_strength(slot, text)

        self.app.push_screen(Ask("Strength: 30 in raw units, or 2x its maximum", f"{slot.value:g}"), given)

    def _set_strength(self, slot: Slot, text: str) -> None:
        try:
            number = float(text.strip().removesuffix("x"))
        except ValueError:
            number = float("nan")
        if not abs(number) < 1e9:
            self.services.say(f"{text!r} is no strength: write 30, or 2x for twice the maximum.")
            return
        slot = slot.at(number) if text.strip().endswith("x") else replace(slot, value=number)
        self.change(self.setup.with_latent(replace(slot, on=True)))

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
        """Ask for the three answers now. What is going on gives way."""
        self._wait_no_longer()
        if self.setup.lacks:
            self._tell(self.setup.lacks)
            return
        if self._swept:
            self.services.cancel_model(self._swept.number)
        request = Answer(**self.setup.question, **self.device)

        def ask() -> None:
            self._asked = Asked(self.services.ask_model(request, self._heard), self.setup)

        if self.services.guard(ask):
            self.answers.expect()
            self._tell("asking …")

    def _heard(self, event: dict[str, Any]) -> None:
        """An event of the model server about answers."""
        asked, kind = self._asked, event["kind"]
        if asked is None or not self._is_about(asked, event):
            return
        if kind == "stage" and event["name"] in ANSWERS:
            asked.answer, asked.pieces, asked.since = event["name"], 0, time.monotonic()
            self.answers.begin(asked.answer)
            self._tell(f"generating {asked.answer} · esc stops")
        elif kind == "token":
            self.answers.hear(event["answer"], event["text"])
            asked.since = asked.since if asked.pieces else time.monotonic()
            asked.pieces += not event.get("cached")
            if rate := asked.rate():
                self._tell(f"generating {asked.answer} · {rate:.0f} tok/s · esc stops")
        elif kind == "done":
            self._asked = None
            self._answered(Version(asked.setup, event["result"], time.time()))
        elif kind in ("cancelled", "failed"):
            self._asked = None
            self.answers.begin("")

    def _answered(self, version: Version) -> None:
        self.answers.put(version.answers)
        self._tell("")
        self.remember(version=version.to_mapping())
        self._look_up("versions", partial(self.versions.add, version), lambda _: None, forget=False)

    def _is_about(self, asked: Asked, event: dict[str, Any]) -> bool:
        """Whether ``event`` is about ``asked``, not about a request before it; say what all requests have in common."""
        kind = event["kind"]
        self._loading = kind == "progress" and "stage" in event
        if self._loading:
            size = f" · {event['bytes'] / 1e9:.1f} GB" if event.get("bytes", 0) > 1e8 else ""
            self._tell(f"{event['stage']} · {event['seconds']:.0f} s{size} · esc cancels")
        if event["id"] != asked.number:
            return False
        if kind == "warning" and event["message"] not in self._warned:
            self._warned.add(event["message"])
            self.services.say(event["message"])
        elif kind == "cancelled":
            self._tell("Stopped: r asks again.")
        elif kind == "failed":
            self._tell(event["error"] if event.get("mistake") else f"{event['error']} (r asks again)", wrong=True)
        return True

    def action_stop(self) -> None:
        """Stop what is going on, at once; if nothing is, close the sweep."""
        self._wait_no_longer()
        going_on = [asked for asked in (self._asked, self._swept) if asked]
        if going_on and self._loading:
            self.services.restart_model()  # what is being loaded can be stopped in no other way
        elif going_on:
            for asked in going_on:
                self.services.cancel_model(asked.number)
        elif self.has_class("-dose"):
            self.remove_class("-dose")
            self.rack.focus()

    def _tell(self, sentence: str, wrong: bool = False) -> None:
        state = self.query_one("#state", Static)
        state.set_class(wrong, "-wrong")
        shown = Text(literal(sentence))
        if state.content != shown:
            state.update(shown)

    # Dose sweep

    @property
    def doses(self) -> str:
        return str(self.remembered.get("doses", DOSES))

    def action_doses(self) -> None:
        def given(text: str | None) -> None:
            if text and self.services.guard(lambda: parse_doses(text)):
                self.remember(doses=text)
                self.action_dose()

        question = "Strengths in multiples of the maximum: -1..4 by 0.5, or a list like 0 1 2"
        self.app.push_screen(Ask(question, self.doses), given)

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
        values = tuple(slot.at(times).sent(setup.mode) for times in parse_doses(self.doses))
        question = setup.question | self.device
        request = Sweep(**question, over=slot.latent, values=values, neurons=setup.neurons)

        def ask() -> None:
            self._swept = Asked(self.services.ask_model(request, self._heard_dose), setup)

        if self.services.guard(ask):
            self.add_class("-dose")
            self.dose.begin(
                f"dose of {slot.latent} {literal(slot.name)}",
                slot.unit,
                setup.mode,
                slot.latent,
                setup.without(slot.latent),
            )
            self.dose.table.focus()

    def _heard_dose(self, event: dict[str, Any]) -> None:
        swept, kind = self._swept, event["kind"]
        if swept is None or not self._is_about(swept, event):
            return
        if kind == "point":
            self.dose.hear(event)
            self._tell(f"sweeping · {len(self.dose.points)} answers · esc stops")
        elif kind == "done":
            self._swept = None
            self._tell("enter on a strength takes it over, esc closes the sweep")
            self.remember(sweep=self.dose.kept())
        elif kind in ("cancelled", "failed"):
            self._swept = None

    def _take_dose(self, value: float | None) -> None:
        slot = next((slot for slot in self.setup.rack if slot.latent == self.dose.latent), None)
        if slot is None or value is None:
            return
        raw = value * slot.unit if self.dose.mode == "scale" else value
        self.change(self.setup.with_latent(replace(slot, value=raw, on=True)))

    # What is kept

    def action_versions(self) -> None:
        def chosen(version: Version | None) -> None:
            if version is None:
                return
            self._undo.changed(self.setup)
            self._become(version.setup)
            self.answers.put(version.answers)
            self.remember(version=version.to_mapping())

        def take(found: list[Version]) -> None:
            if found:
                self.app.push_screen(VersionsScreen(found), chosen)
            else:
                self.services.say("Nothing has been asked in this workspace yet: r asks.", "information")

        self._look_up("history", self.versions.read, take)

    def action_save(self) -> None:
        setup = self.setup
        if not setup.sae:
            self.services.say(setup.lacks)
            return
        first = next((slot for slot in setup.rack if slot.on), None)

        def given(name: str | None) -> None:
            if name:
                keep = partial(keep_recipe, self.services.workspace, setup, name)
                self._look_up("recipe", keep, lambda path: self.services.say(f"Saved as {path}.", "information"))

        suggested = slug(f"{first.name.split(' · ')[0]}-{first.times:.1f}x") if first else ""
        self.app.push_screen(Ask("Save as the recipe", suggested), given)

    def action_open(self) -> None:
        names = recipes(self.services.workspace)

        def take(found: tuple[Setup, str]) -> None:
            setup, warning = found
            if warning:
                self.services.say(warning)
            self.change(setup)

        def chosen(name: str | None) -> None:
            if name:
                self._look_up("recipe", partial(open_recipe, self.services.workspace, name), take)

        if names:
            self.app.push_screen(Pick("Open the recipe", {name: name for name in names}), chosen)
        else:
            self.services.say("There is no recipe yet: w saves one.")

    def action_copy(self) -> None:
        self.services.copy(Version(self.setup, self.answers.texts).text())

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
            self._open_image(rest)
        elif word == "source":
            path = dropped_path(rest)
            source = str(path.absolute()) if path else rest
            self._look_up("listing", partial(opening.listing, source), lambda images: self._take_image(images[0]))
        elif word == "prompt":
            self.change(replace(self.setup, prompt=rest))
        elif word == "latent":
            self._search(rest)
        elif self.rack.slot:
            self._set_strength(self.rack.slot, rest)
        return True
