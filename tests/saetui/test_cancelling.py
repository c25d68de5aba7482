"""esc cancels whatever takes long, at once, and what comes late is dropped: with a server and files that are slow."""

import asyncio
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual.app import App

from engine.config import SteerSettings
from engine.runs import attached
from engine.runs.watch import RunSnapshot
from engine.server import client
from engine.server.protocol import Answer, Cancelled, LoadAhead, Loading, TellStatus, Token
from engine.workspace import MARKER, Workspace
from saetui import background, model_requests
from saetui.app import Workbench
from saetui.background import CANCELLED, cancel_look_ups, look_up
from saetui.model_requests import ModelRequests
from saetui.modes.forms import ImportForm
from saetui.modes.steer import preload
from saetui.preferences import Preferences
from tests.support.pilots import screen_text, until
from tests.support.synthetic import write_synthetic

SERVER = """
import json, sys, time
loads, obeys = sys.argv[1] == "loads", sys.argv[2] == "obeys"
def say(number, **event):
    print(json.dumps({"id": number, **event}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["kind"] == "cancel":
        if obeys:
            say(asked["id"], kind="cancelled")
    elif loads:
        say(asked["id"], kind="loading", what="the model", seconds=3.0, bytes=0)
    else:
        say(asked["id"], kind="token", answer="untouched", text="early", cached=False)
"""


def serve(monkeypatch, *how):
    """Requests are answered by a server that only ``loads`` or only ``talks``, and ``obeys`` or does ``not``."""
    monkeypatch.setattr(client, "python_module", lambda *given: [sys.executable, "-c", SERVER, *how])


def hosted(test, tmp_path):
    async def run():
        app = App()
        async with app.run_test() as pilot:
            requests = ModelRequests(app, Workspace(tmp_path))
            try:
                await test(requests, pilot)
            finally:
                requests.close()

    asyncio.run(run())


def test_a_load_is_ended_at_once_with_the_server(monkeypatch, tmp_path):
    serve(monkeypatch, "loads", "not")

    async def test(requests, pilot):
        heard = []
        number = requests.ask(TellStatus(), heard.append)
        await until(pilot, lambda: heard)
        pid = requests.server.pid
        requests.cancel(number)
        assert heard == [Loading("the model", 3.0, 0), Cancelled()] and requests.server.pid is None
        requests.cancel(number)
        number = requests.ask(TellStatus(), heard.append)
        await until(pilot, lambda: len(heard) == 3)
        assert requests.server.pid != pid and heard[2] == Loading("the model", 3.0, 0)

    hosted(test, tmp_path)


def test_what_begins_to_load_after_it_was_cancelled_is_ended_too(monkeypatch, tmp_path):
    serve(monkeypatch, "loads", "not")

    async def test(requests, pilot):
        heard = []
        requests.cancel(requests.ask(TellStatus(), heard.append))
        assert heard == [Cancelled()], "before the server had said anything"
        await until(pilot, lambda: requests.server.pid is None)
        assert heard == [Cancelled()]

    hosted(test, tmp_path)


def test_who_still_waits_keeps_the_load_and_hears_of_it(monkeypatch, tmp_path):
    serve(monkeypatch, "loads", "not")

    async def test(requests, pilot):
        one, other = [], []
        first = requests.ask(TellStatus(), one.append)
        requests.ask(Answer(SteerSettings(sae="s")), other.append)
        await until(pilot, lambda: len(one) > 1)
        assert set(one) == set(other) == {Loading("the model", 3.0, 0)}, "those behind it wait for it too"
        requests.cancel(first)
        assert one[-1] == Cancelled() and requests.server.pid is not None

    hosted(test, tmp_path)


def test_a_server_that_does_not_stop_is_ended(monkeypatch, tmp_path):
    serve(monkeypatch, "talks", "not")
    monkeypatch.setattr(model_requests, "OBEYS", 0.2)

    async def test(requests, pilot):
        heard = []
        number = requests.ask(TellStatus(), heard.append)
        await until(pilot, lambda: heard)
        pid = requests.server.pid
        requests.cancel(number)
        assert heard[-1] == Cancelled() and requests.server.pid == pid, "it may stop by itself, and keep its models"
        await until(pilot, lambda: requests.server.pid is None)
        number = requests.ask(TellStatus(), heard.append)
        await until(pilot, lambda: len(heard) == 3)
        requests.cancel(number)
        time.sleep(0.3)
        again = []
        requests.ask(TellStatus(), again.append)
        await until(pilot, lambda: again == [Token("untouched", "early")])

    hosted(test, tmp_path)


def test_a_server_that_stops_keeps_its_models(monkeypatch, tmp_path):
    serve(monkeypatch, "talks", "obeys")
    monkeypatch.setattr(model_requests, "OBEYS", 0.2)

    async def test(requests, pilot):
        heard = []
        number = requests.ask(TellStatus(), heard.append)
        await until(pilot, lambda: heard)
        pid = requests.server.pid
        requests.cancel(number)
        await pilot.pause(0.5)
        assert requests.server.pid == pid and heard == [Token("untouched", "early"), Cancelled()]

    hosted(test, tmp_path)


# Look-ups


def test_a_look_up_that_is_noticed_is_cancelled_and_comes_to_nothing(monkeypatch):
    async def run():
        app, said, go = App(), [], threading.Event()
        async with app.run_test() as pilot:
            worker = look_up(app.screen, "slow", go.wait, lambda found: said.append(found), said.append)
            unasked = look_up(app.screen, "own", go.wait, lambda found: None, said.append, unasked=True)
            assert not cancel_look_ups(app.screen), "nobody has noticed it yet: esc does what it does else"
            monkeypatch.setattr(background, "NOTICED", 0.0)
            await pilot.pause(0.05)
            assert cancel_look_ups(app.screen) and said == [CANCELLED] and worker.is_cancelled
            assert not cancel_look_ups(app.screen) and not unasked.is_cancelled
            go.set()
            await pilot.pause(0.2)
            assert said == [CANCELLED]

    asyncio.run(run())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = write_synthetic(tmp_path_factory.mktemp("made") / "study", w=64, images=24)
    (place / MARKER).write_text('vlm = "demo"\n')
    return place


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    monkeypatch.setattr(background, "NOTICED", 0.05)
    return Workspace(Path(shutil.copytree(made, tmp_path / "study")))


@pytest.fixture
def slow(monkeypatch):
    """Makes a function wait until the event is set."""
    go = threading.Event()

    def make(owner, name):
        right = getattr(owner, name)

        def late(*given, **options):
            go.wait(20)
            return right(*given, **options)

        monkeypatch.setattr(owner, name, late)
        return go

    yield make
    go.set()


def pressed(study, mode, test, **options):
    async def run():
        app = Workbench(study, mode=mode, **options)
        async with app.run_test(size=(120, 34), notifications=True) as pilot:
            await pilot.pause()
            await test(app, pilot)

    asyncio.run(run())


def told(app):
    return [toast.message for toast in app._notifications]


def test_scores_that_open_slowly(study, slow):
    from saetui.scores import Scores

    go = slow(Scores, "open")

    async def test(app, pilot):
        await until(pilot, lambda: "opening synthetic" in screen_text(pilot))
        await pilot.pause(0.1)
        await pilot.press("escape")
        assert CANCELLED in screen_text(pilot) and CANCELLED in told(app)
        go.set()
        await pilot.pause(0.3)
        assert app.screen.scores is None, "what came late is dropped"
        await pilot.press("1", "3")
        await until(pilot, lambda: app.screen.scores is not None)

    pressed(study, "neurons", test)


def test_trees_that_are_read_slowly(study, slow):
    from saetui.modes.hierarchy import trees

    go = slow(trees, "read")

    async def test(app, pilot):
        await until(pilot, lambda: "reading synthetic" in screen_text(pilot))
        await pilot.pause(0.1)
        await pilot.press("escape")
        assert CANCELLED in screen_text(pilot)
        go.set()
        await pilot.pause(0.3)
        assert app.screen.trees is None
        await pilot.press("1", "5")
        await until(pilot, lambda: app.screen.trees is not None)

    pressed(study, "hierarchy", test)


def test_an_image_that_is_read_slowly(study, slow):
    from engine.images import opening

    image = str(next((study.root / "images").rglob("*.png")))

    async def test(app, pilot):
        await pilot.pause(0.2)
        before = app.screen.setup.image
        go = slow(opening, "picture")
        app.screen.image.open(image)
        await pilot.pause(0.1)
        await pilot.press("escape")
        assert CANCELLED in told(app)
        go.set()
        await pilot.pause(0.3)
        assert app.screen.setup.image == before

    pressed(study, "steer", test)


def test_a_source_that_is_listed_slowly(study, slow):
    from saetui.modes.data import descriptions

    go = slow(descriptions, "open_images")

    async def test(app, pilot):
        await until(pilot, lambda: app.screen.selected is not None)
        await pilot.pause(0.2)
        await pilot.press("escape")
        assert CANCELLED in screen_text(pilot)
        go.set()
        await pilot.pause(0.3)
        assert CANCELLED in screen_text(pilot)

    pressed(study, "data", test)


def test_a_text_search_and_an_image_search(study, monkeypatch):
    serve(monkeypatch, "loads", "not")

    async def test(app, pilot):
        await until(pilot, lambda: app.screen.scores)
        latents = app.screen.latents
        await pilot.press("t", *"a dog".replace(" ", "_"), "enter")
        await until(pilot, lambda: "loading the model · 0:03 · esc cancels" in screen_text(pilot))
        await pilot.press("escape")
        assert app.screen.latents == latents and "loading" not in screen_text(pilot)
        assert app.models.server.pid is None
        await pilot.press("I")
        await until(pilot, lambda: "loading the model · 0:03 · esc cancels" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.MODE == "neurons" and app.models.server.pid is None)

    pressed(study, "neurons", test)


def test_a_picture_in_full_size_that_is_read_slowly(study, slow, monkeypatch):
    from engine.images.thumbnails import Thumbnails
    from saetui.terminal import full

    shown = []
    monkeypatch.setattr(full, "show_full", lambda *given, **how: shown.append(given))

    async def test(app, pilot):
        await until(pilot, lambda: app.screen.scores)
        app.terminal = SimpleNamespace(tty=True, ssh=False)
        go = slow(Thumbnails, "image")
        await pilot.press("v")
        await pilot.pause(0.1)
        await pilot.press("escape")
        assert f"The picture cannot be shown: {CANCELLED}" in told(app)
        go.set()
        await pilot.pause(0.3)
        assert not shown

    pressed(study, "neurons", test)


def test_a_form_that_asks_a_slow_worker(study, monkeypatch):
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(attached, "python_module", lambda *given: sleeping)

    async def test(app, pilot):
        form = ImportForm(study, "an SAE", {}, ("source", "name"), {}, ())
        app.push_screen(form)
        await pilot.pause()
        form.estimate({"source": str(study.root)})
        worker = form._asked
        await until(pilot, lambda: worker._process)
        await pilot.press("escape")
        await until(pilot, lambda: worker._process.poll() is not None, 2.0)
        assert app.screen.MODE == "train"

    pressed(study, "train", test)


# Loading ahead


def test_the_model_is_loaded_when_nothing_goes_on_and_esc_ends_that(study, monkeypatch):
    serve(monkeypatch, "loads", "not")
    asked = []
    right = ModelRequests.ask
    monkeypatch.setattr(
        ModelRequests, "ask", lambda self, *given, **how: asked.append(given[0]) or right(self, *given, **how)
    )

    async def test(app, pilot):
        app.preload.look()
        assert not asked, "a key may follow"
        monkeypatch.setattr(preload, "QUIET", 0.0)
        app.runs = [RunSnapshot("r", "train", "x", "running")]
        app.preload.look()
        assert not asked, "a run needs the machine"
        app.runs = []
        app.preload.look()
        await until(pilot, lambda: "loading the model · 0:03 · esc cancels" in screen_text(pilot))
        (request,) = asked
        assert isinstance(request, LoadAhead) and (request.question.sae, request.question.vlm) == ("synthetic", "demo")
        await pilot.press("escape")
        assert app.models.server.pid is None
        await until(pilot, lambda: "loading" not in screen_text(pilot))
        app.preload.look()
        await pilot.pause(0.2)
        assert len(asked) == 1, "once"

    pressed(study, "steer", test)


@pytest.mark.parametrize("options", [{}, {"preferences": Preferences(preload=False)}])
def test_nothing_is_loaded_into_the_last_memory_nor_against_the_setting(study, monkeypatch, options):
    monkeypatch.setattr(preload, "QUIET", 0.0)
    monkeypatch.setattr(preload, "free_memory", lambda: 900_000_000)

    async def test(app, pilot):
        app.preload.look()
        await pilot.pause(0.6)
        assert app.models.server is None
        said = "900 MB of memory are free: the first question loads the model." in screen_text(pilot)
        assert said != bool(options)

    pressed(study, "steer", test, **options)
