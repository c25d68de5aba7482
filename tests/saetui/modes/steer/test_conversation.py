"""The conversation with the model server, without a server and without a screen."""

import subprocess
import sys

import pytest

from engine.server.protocol import (
    Answer,
    Cancelled,
    Done,
    Failed,
    Loading,
    PointFound,
    StageBegan,
    Sweep,
    Swept,
    Token,
    Warned,
)
from engine.steer.results import Steered, SweepPoint
from saetui.modes.steer.conversation import Conversation
from saetui.modes.steer.setup import Setup, Slot

SLOT = Slot(7, 5.0, True, 5.0, "cat")
SETUP = Setup("s", "demo", rack=(SLOT,))
SAID = Steered("a", "b", "c")


class Scene:
    """Server, listener and clock of one conversation; what it did with them."""

    def __init__(self):
        self.asked, self.cancelled = [], []
        self.state, self.warnings, self.versions, self.sweeps = "", [], [], 0
        self.shown, self.points, self.now = [], [], 0.0
        self.models = self
        answers, points = type("Answers", (), {}), type("Points", (), {})
        answers.expect = lambda: self.shown.append("expect")
        answers.begin = lambda name: self.shown.append(name)
        answers.hear = lambda name, piece: self.shown.append((name, piece))
        points.hear = lambda point: self.points.append(point) or len(self.points)
        self.conversation = Conversation(self, self, answers, points, clock=lambda: self.now)

    def ask_model(self, request, handler, supersede=True):
        self.asked.append((request, handler))
        return len(self.asked)

    def cancel(self, number):
        self.cancelled.append(number)
        self.asked_when_cancelled = len(self.asked)
        self.asked[number - 1][1](Cancelled())  # at once, as ModelRequests does

    def tell(self, sentence, wrong=False):
        self.state, self.wrong = sentence, wrong

    def say(self, sentence):
        self.warnings.append(sentence)

    def take_answers(self, version):
        self.versions.append(version)

    def take_sweep(self):
        self.sweeps += 1

    def take_fired(self, fired):
        self.fired = fired

    def hear(self, *events, of=-1):
        for event in events:
            self.asked[of][1](event)


@pytest.fixture
def scene():
    return Scene()


def test_answers_come_piece_by_piece(scene):
    scene.conversation.device = "cpu"
    scene.conversation.ask(SETUP)
    assert scene.asked[0][0] == Answer(SETUP.settings(device="cpu"))
    scene.hear(Loading("the model demo", 2.0, 3 * 10**9))
    assert scene.state == "loading the model demo · 0:02 · 3 GB · esc cancels"
    scene.hear(Warned("Take care."), Warned("Take care."), StageBegan("load"), StageBegan("untouched"))
    assert scene.state == "generating untouched · esc stops" and scene.warnings == ["Take care."]
    for _ in range(3):
        scene.hear(Token("untouched", "a"))
        scene.now += 0.5
    assert scene.state == "generating untouched · 2 tok/s · esc stops"
    assert scene.shown == ["expect", "untouched", *[("untouched", "a")] * 3]
    scene.hear(Done(SAID))
    (version,) = scene.versions
    assert (version.setup, version.answers, scene.state) == (SETUP, SAID, "")
    assert scene.conversation.answering is None


def test_a_later_question_takes_the_place_of_an_earlier(scene):
    scene.conversation.ask(SETUP)
    scene.conversation.ask(Setup("s", "demo", prompt="Why?"))
    scene.hear(Token("untouched", "old"), Cancelled(), of=0)
    assert scene.shown == ["expect", "expect"] and scene.state == "asking …"
    scene.hear(Loading("the model demo", 0.0, 0), of=0)
    assert scene.state == "asking …", "who asked in vain has nothing to say"
    scene.hear(Loading("the model demo", 0.0, 0))
    assert "loading the model demo" in scene.state
    scene.hear(Done(SAID))
    assert scene.versions[0].setup.prompt == "Why?"


def test_a_sweep_and_a_question_that_ends_it(scene):
    scene.conversation.sweep(SETUP, SLOT, (0.0, 2.0))
    assert scene.asked[0][0] == Sweep(SETUP.settings(), 7, (0.0, 10.0))
    scene.hear(PointFound(SweepPoint("untouched", None, "a", 0.0)))
    assert scene.state == "sweeping · 1 answer · esc stops"
    scene.conversation.ask(SETUP)
    assert scene.cancelled == [1] and scene.state == "asking …"
    assert scene.asked_when_cancelled == 2, "what is loaded for the sweep is loaded for the question"
    assert scene.conversation.sweeping is None and scene.conversation.answering is not None
    scene.conversation.sweep(SETUP, SLOT, (1.0,))
    scene.hear(Done(Swept(())))
    assert scene.sweeps == 1 and "enter on a strength" in scene.state


def test_stopping(scene):
    assert not scene.conversation.stop()
    scene.conversation.ask(SETUP)
    scene.conversation.sweep(SETUP, SLOT, (1.0,))
    assert scene.conversation.stop() and scene.cancelled == [1, 2]
    assert scene.state == "Stopped: r asks again." and not scene.wrong and scene.shown[-1] is None
    shown = list(scene.shown)
    scene.hear(Token("untouched", "late"), Done(SAID), of=0)
    assert scene.shown == shown and not scene.versions and not scene.conversation.stop()


def test_failures_are_told_with_the_way_out(scene):
    for mistake, state in ((True, "It is full."), (False, "It is full. (r asks again)")):
        scene.conversation.ask(SETUP)
        scene.hear(Failed("It is full.", mistake))
        assert (scene.state, scene.wrong) == (state, True)
        assert scene.conversation.answering is None


def test_it_needs_no_screen():
    script = "import sys, saetui.modes.steer.conversation; print('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
