"""Every key: it has an id, does what it says, is explained in help, takes no key from another, and can be pressed."""

import asyncio
import contextlib
import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.actions import parse
from textual.binding import Binding
from textual.dom import DOMNode
from textual.pilot import Pilot
from textual.widgets import Input

import saetui
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.modes.mode import Mode
from saetui.modes.steer.token_painter import TokenPainter
from saetui.preferences import Preferences
from saetui.widgets.dialogs import Help
from saetui.widgets.table import Table
from tests.support.pilots import until
from tests.support.study import Answered, remember_answers, write_study

MODES = ("data", "train", "neurons", "steer", "hierarchy")
UNSURE = {"ctrl+enter", "ctrl+m", "ctrl+i"}  # terminals send enter and tab for these, or nothing

# A widget may take a key that its screen, or the app, has for something else: only these, each for a reason.
SHADOWS = {
    ("compare.close", "app.quit"): "q leaves what was opened last",
    ("look.close", "app.quit"): "q leaves what was opened last",
    ("look.whole", "look.close"): "esc first leaves the patch for the whole image, and then the image",
    ("path.complete", "ask.complete"): "where a path is asked for, tab completes paths alone",
    ("path.complete", "form.forth"): "tab completes a path, and goes on where there is nothing to complete",
    ("table.choose", "look.list"): "enter on a latent puts it first; on the picture it lists all",
}


def declared() -> dict[type, list[Binding]]:
    """The bindings that each class of saetui has of its own."""
    found: dict[type, list[Binding]] = {}
    for module in pkgutil.walk_packages(saetui.__path__, "saetui."):
        if module.name.endswith("__main__"):
            continue
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and one.__module__.startswith("saetui.") and "BINDINGS" in vars(one):
                found[one] = [binding for binding in vars(one)["BINDINGS"] if isinstance(binding, Binding)]
                assert len(found[one]) == len(vars(one)["BINDINGS"]), f"{one.__name__}: bindings are made by key()"
    return found


DECLARED = declared()
EVERY = [(owner, binding) for owner, bindings in DECLARED.items() for binding in bindings]


def test_every_binding_has_an_id_of_its_own_and_says_what_it_does():
    owners = defaultdict(set)
    for owner, binding in EVERY:
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", binding.id or ""), (owner, binding)
        assert binding.description, binding.id
        owners[binding.id].add(owner)
    assert {id: classes for id, classes in owners.items() if len(classes) > 1} == {}
    assert len(EVERY) == len(owners), "an id is declared once"


@pytest.mark.parametrize(("owner", "binding"), EVERY, ids=[binding.id for _, binding in EVERY])
def test_every_action_exists_and_takes_what_it_is_given(owner, binding):
    where, name, given = parse(binding.action)
    target = {"": owner, "app": Workbench, "screen": Mode}[where]
    method = getattr(target, f"action_{name}", None)
    assert method is not None, binding.action
    inspect.signature(method).bind(None, *given)


def test_no_class_binds_a_key_twice():
    for owner, bindings in DECLARED.items():
        keys = [key for binding in bindings for key in binding.key.split(",")]
        assert len(keys) == len(set(keys)), owner


def test_a_key_that_a_person_binds_twice_is_said(tmp_path):
    async def scenario() -> None:
        (tmp_path / MARKER).write_text("")
        app = Workbench(Workspace(tmp_path), Preferences(keys={"neurons.steer": "o", "nonsense.id": "f5"}))
        async with app.run_test(notifications=True) as pilot:
            said = " ".join
            await until(pilot, lambda: "nonsense.id" in said(one.message for one in app._notifications))
            await until(
                pilot, lambda: "neurons.sort and neurons.steer" in said(one.message for one in app._notifications)
            )

    asyncio.run(scenario())


def test_nothing_is_only_on_a_key_that_terminals_cannot_send():
    for _, binding in EVERY:
        assert set(binding.key.split(",")) - UNSURE, binding.id


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("bindings")
    with contextlib.chdir(folder):
        yield write_study(folder)


@dataclass(frozen=True)
class Context:
    """Somewhere in the workbench: the keys that lead there from a mode, and what has the focus then."""

    mode: str
    keys: tuple[str, ...] = ()
    focus: str = ""
    size: tuple[int, int] = (160, 50)
    ready: Callable[[Any], Any] = lambda screen: True


def _table(screen: Any) -> bool:
    return bool(screen.query_one(Table).rows)


CONTEXTS = {
    "start": Context("start"),
    "sources": Context("data", focus="#sources"),
    "store": Context("data", focus="#stores"),
    "unfinished": Context("data", ("G",), "#stores"),
    "described": Context("data", focus="#right"),
    "adding": Context("data", ("a",)),
    "extracting": Context("data", ("e",)),
    "trainings": Context("train", ("G",), "#trainings", ready=_table),  # the last of them is done: r starts nothing
    "charts": Context("train", focus="Charts", ready=_table),
    "log": Context("train", ("e",), "#log", ready=_table),
    "training": Context("train", ("n",)),
    "choice": Context("train", ("n",), "Choice"),
    "importing": Context("train", ("i",)),
    "bringing": Context("data", ("i",)),
    "latents": Context("neurons", focus="#latents", ready=_table),
    "latent": Context("neurons", ("enter",), size=(80, 24)),
    "filter": Context("neurons", ("slash",)),
    "sorting": Context("neurons", ("o",)),
    "comparing": Context("neurons", ("c", "enter"), ready=lambda screen: screen.found),
    "looking": Context("neurons", ("I",), ready=lambda screen: screen.found),
    "patch": Context("neurons", ("I", "j"), ready=lambda screen: screen.found),
    "listed": Context("neurons", ("I",), "Table", ready=lambda screen: screen.found),
    "rack": Context("steer", focus="#rack"),
    "answer": Context("steer", focus="#steered"),
    "sweep": Context("steer", ("d",), "#points"),
    "versions": Context("steer", ("r", "v")),
    "prompt": Context("steer", ("p",)),
    "painting": Context("steer", ("T",), ready=lambda screen: isinstance(screen, TokenPainter)),
    "groups": Context("hierarchy", focus="#groups"),
    "taxa": Context("hierarchy", focus="#taxa"),
    "jobs": Context("neurons", ("J", "G")),
    "help": Context("neurons", ("question_mark",)),
    "command": Context("neurons", ("colon",)),
}


class Traced(Answered):
    """Notes which actions have run, and on what."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.ran: list[tuple[str, DOMNode | None]] = []

    async def run_action(self, action: Any, default_namespace: Any = None, namespaces: Any = None) -> bool:
        done = await super().run_action(action, default_namespace, namespaces)
        if done:
            self.ran.append((str(action), default_namespace))
        return done

    def start(self, task: str, settings: dict[str, Any]) -> None:
        """No worker: what it would do is tested where it does it."""


@contextlib.asynccontextmanager
async def arrived(place: Workspace, context: Context) -> AsyncIterator[Pilot[Any]]:
    remember_answers(place)
    somewhere = Workspace(Path("nowhere")) if context.mode == "start" else place
    app = Traced(somewhere, mode="" if context.mode == "start" else context.mode)
    async with app.run_test(size=context.size) as pilot:
        await quiet(pilot)
        for key in context.keys:
            await pilot.press(key)
            await quiet(pilot)
        if context.focus:
            app.screen.query(context.focus).first().focus()
        await until(pilot, lambda: context.ready(app.screen))
        await pilot.pause()
        yield pilot
    assert app.return_code in (None, 0)


async def quiet(pilot: Pilot[Any]) -> None:
    """Until no thread reads anything for the screen."""
    await pilot.pause()
    if pilot.app.is_running:
        await until(
            pilot,
            lambda: all(
                w.is_finished
                for w in pilot.app.workers
                if w.group not in ("runs", "trainings", "estimate", "recognise")
            ),
        )


async def back(pilot: Pilot[Any], mode: str, home: Any, focus: Any) -> None:
    """To where one was, if a mode is still there to go to; else an app is opened anew."""
    app = pilot.app
    if isinstance(home, Mode) and app.is_running and (app.screen is not home or app.focused is not focus):
        while len(app.screen_stack) > 1:
            app.pop_screen()
        await app.switch_mode(mode)
        home.set_focus(focus)
        await quiet(pilot)


def pressable(app: Any) -> dict[str, tuple[str, Binding]]:
    """By id, the first key of each action that is active and that a line of text does not take as a letter."""
    found: dict[str, tuple[str, Binding]] = {}
    for key, active in app.screen.active_bindings.items():
        taken = isinstance(app.focused, Input) and app.focused.check_consume_key(key, _character(key))
        if active.binding.id and not taken:
            found.setdefault(active.binding.id, (key, active.binding))
    return found


def _character(key: str) -> str | None:
    return key if len(key) == 1 else " " if key == "space" else None


def shadowed(screen: Any) -> set[tuple[str, str]]:
    """Pairs of ids: what a key does here, and what it would do if that were not in front of it."""
    owners: dict[str, list[str]] = defaultdict(list)
    for node, bindings in screen._modal_binding_chain:
        for key, binding in bindings:
            if binding.id and screen.app._check_action_state(binding.action, node) is not False:
                owners[key].append(binding.id)
    return {(ids[0], other) for ids in owners.values() for other in ids[1:] if other != ids[0]}


def test_every_binding_is_pressed_and_acts(place):
    Path("saetui-demo/neurons").mkdir(parents=True, exist_ok=True)  # the demo is there: d opens it
    pressed: set[tuple[str, str]] = set()  # mode and id: what several contexts of a mode share is pressed in one

    async def press_all(name: str, context: Context) -> None:
        waiting: list[str] | None = None
        while waiting is None or waiting:
            async with arrived(place, context) as pilot:
                app: Any = pilot.app
                if waiting is None:
                    waiting = [id for id in pressable(app) if (context.mode, id) not in pressed]
                assert shadowed(app.screen) <= set(SHADOWS), name
                home, focus = app.screen, app.focused
                while waiting and app.is_running and app.screen is home and app.focused is focus:
                    id = waiting.pop()
                    key, binding = pressable(app)[id]
                    app.ran.clear()
                    await pilot.press(key)
                    await quiet(pilot)
                    assert binding.action in [action for action, _ in app.ran], (name, id, key, app.ran)
                    pressed.add((context.mode, id))
                    await back(pilot, context.mode, home, focus)

    async def scenario() -> None:
        for name, context in CONTEXTS.items():
            await press_all(name, context)

    asyncio.run(scenario())
    missed = {binding.id for _, binding in EVERY} - {id for _, id in pressed}
    assert not missed


@pytest.mark.parametrize("mode", MODES)
def test_a_part_that_a_key_names_can_do_what_it_is_asked(place, mode):
    async def scenario() -> None:
        async with arrived(place, Context(mode)) as pilot:
            pane = pilot.app.screen
            for _, name, given in (parse(binding.action) for binding in DECLARED[type(pane)]):
                if name == "part":
                    inspect.signature(getattr(getattr(pane, given[0]), given[1])).bind(*given[2:])

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", MODES)
def test_help_explains_every_key_of_a_mode(place, mode):
    """Help leaves out what a key cannot do for the present selection: so it is asked in each context of the mode."""

    async def explained(context: Context) -> str:
        async with arrived(place, context) as pilot:
            await pilot.press("question_mark")
            assert isinstance(pilot.app.screen, Help)
            return str(pilot.app.screen.query_one("Static").content)

    async def scenario() -> None:
        contexts = [one for one in CONTEXTS.values() if one.mode == mode and one.focus.startswith("#")]
        words = "\n".join([await explained(context) for context in contexts])
        (pane,) = (owner for owner in DECLARED if issubclass(owner, Mode) and vars(owner).get("MODE") == mode)
        for binding in DECLARED[pane] + DECLARED[Mode] + DECLARED[Workbench]:
            assert binding.id in words and binding.description in words

    asyncio.run(scenario())
