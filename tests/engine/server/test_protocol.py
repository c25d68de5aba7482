"""What goes over the wire comes back as what it was."""

import json

import pytest

from engine.config import SteerSettings
from engine.errors import UserError
from engine.neurons.results import ImageLatents
from engine.reporter import Intervened, Progress, StageBegan, Token, Warned
from engine.runs.memory import GpuMemory, Memory
from engine.server.protocol import (
    Answer,
    Cancel,
    Cancelled,
    Done,
    Failed,
    FindImageLatents,
    LoadedModel,
    Loading,
    PointFound,
    RankByText,
    RankedLatents,
    ServerStatus,
    Sweep,
    Swept,
    TellStatus,
    read_event,
    read_request,
    write_event,
    write_request,
)
from engine.server.reporting import RequestReporter
from engine.steer.results import Fired, Steered, SweepPoint

QUESTION = SteerSettings(sae="s", vlm="demo", prompt='"\n魚', latent=("5=30", "7=2x"), keep_error=True)
POINT = SweepPoint("steered", 1.0, "a fish", 0.5, None)


@pytest.mark.parametrize(
    "request_",
    [
        Answer(QUESTION),
        Sweep(QUESTION, 5, (0.0, 2.5), "s--val"),
        RankByText("s--val", "a red fish"),
        FindImageLatents("blank", sae="s"),
        TellStatus(),
        Cancel(),
    ],
)
def test_requests_travel(request_):
    line = write_request(7, request_)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert read_request(line) == (7, request_)


@pytest.mark.parametrize(
    "event",
    [
        Loading("the model demo", 1.5, 10**10),
        StageBegan("load"),
        Warned("Take care."),
        Intervened(((5, 30.0),), "add", False, (0, 3)),
        Fired((1, 2), ((5, (0.0, 8.5)),)),
        Token("steered", "a ", cached=True),
        PointFound(POINT),
        Done(Steered("a", "b", "c")),
        Done(Swept((POINT,))),
        Done(RankedLatents(((5, 0.5),))),
        Done(ImageLatents((1, 2), ((5, 8.0),), (((5, 8.0),), ()))),
        Done(ImageLatents(None, (), ())),
        Done(ServerStatus((LoadedModel("sae", "s", "cpu"),), 3, Memory(9, GpuMemory("H", 1, 2)))),
        Cancelled(),
        Failed("It is full.", mistake=True),
    ],
)
def test_events_travel(event):
    assert read_event(write_event(7, event)) == (7, event)


def test_the_wire_is_what_its_docstring_says():
    assert json.loads(write_request(None, Cancel())) == {"id": None, "kind": "cancel"}
    token = {"id": 7, "kind": "token", "answer": "steered", "text": "a"}
    assert json.loads(write_event(7, Token("steered", "a"))) == token


@pytest.mark.parametrize("fields", [{"kind": "dance"}, {}, {"kind": "rank_by_text", "text": 3, "neurons": "x"}])
def test_a_damaged_request_keeps_its_number(fields):
    number, error = read_request(json.dumps({"id": 8, **fields}).encode())
    assert number == 8 and isinstance(error, UserError) and "The request is damaged" in str(error)


def test_what_long_work_reports_is_told_and_its_progress_is_not():
    told = []
    reporter = RequestReporter(told.append, check=lambda: None)
    for event in (StageBegan("load"), Progress(1, 2, "images"), Token("steered", "a")):
        reporter.event(event)
    assert told == [StageBegan("load"), Token("steered", "a")]
