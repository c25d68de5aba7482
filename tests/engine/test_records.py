"""Records as JSON and back: what is written is what is read, and nothing that is wrong is repaired by guessing."""

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.records import DEEPEST, beside, from_json, parse_json, seldom, to_json, union
from engine.reporter import (
    KINDS,
    AnswerName,
    Done,
    Event,
    Failed,
    Intervened,
    Measured,
    Progress,
    StageBegan,
    StoppedEarly,
    Token,
    Warned,
    event_from_json,
    event_to_json,
)
from engine.runs.events import Status
from engine.runs.memory import GpuMemory, Memory
from engine.runs.run import Command
from engine.runs.tasks import TASKS

TEXT = st.text(max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
FIGURES = st.dictionaries(st.sampled_from(("loss", "fve", "waiting")), st.none() | NUMBERS | st.integers(0, 9))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | NUMBERS | TEXT,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT, part, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class Point:
    x: float
    y: float | None = None


@dataclass(frozen=True)
class Shape:
    name: str
    sides: int
    closed: bool
    corners: tuple[Point, ...]
    box: tuple[int, int]
    home: Path
    by_name: Mapping[str, Point]
    parent: "Shape | None" = None
    angle: Literal["right", "acute"] = "right"


@dataclass(frozen=True)
class Circle:
    radius: float


@dataclass(frozen=True)
class Square:
    side: float


Outline = Circle | Square
union({"round": Circle, "straight": Square}, Outline)


@dataclass(frozen=True)
class Sparse:
    name: str
    note: str | None = seldom()
    loud: bool = seldom(False)
    measured: Mapping[str, float | None] = beside()


POINTS = st.builds(Point, NUMBERS, st.none() | NUMBERS)
SHAPES = st.deferred(
    lambda: st.builds(
        Shape,
        TEXT,
        st.integers(),
        st.booleans(),
        st.lists(POINTS, max_size=3).map(tuple),
        st.tuples(st.integers(), st.integers()),
        st.sampled_from((Path("a"), Path("/b/c.d"))),
        st.dictionaries(TEXT, POINTS, max_size=2),
        st.none() | SHAPES,
    )
)
EVENTS = st.one_of(
    st.builds(StageBegan, TEXT),
    st.builds(Progress, st.integers(0), st.integers(0), TEXT, FIGURES),
    st.builds(Measured, st.integers(0), FIGURES),
    st.builds(Warned, TEXT),
    st.builds(Token, st.sampled_from(get_args(AnswerName)), TEXT, st.booleans()),
    st.builds(
        Intervened,
        st.lists(st.tuples(st.integers(0), NUMBERS), max_size=3).map(tuple),
        TEXT,
        st.booleans(),
        st.none() | st.lists(st.integers(0), max_size=3).map(tuple),
    ),
    st.builds(Done, JSON),
    st.builds(StoppedEarly, TEXT),
    st.builds(Failed, TEXT, st.booleans(), st.booleans()),
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(SHAPES)
def test_a_record_survives_json(shape: Shape) -> None:
    assert from_json(Shape, through_json(to_json(shape)), "it") == shape


@given(st.builds(Circle, NUMBERS) | st.builds(Square, NUMBERS))
def test_a_union_is_told_apart_by_its_kind(outline: Outline) -> None:
    written = through_json(to_json(outline, Outline))
    assert written["kind"] == ("round" if isinstance(outline, Circle) else "straight")
    assert from_json(Outline, written, "it") == outline


def test_a_kind_that_is_not_known_is_damage() -> None:
    for value in ({"kind": "oval", "radius": 1.0}, {"radius": 1.0}):
        with pytest.raises(UserError, match=r'The outline is damaged \(no known kind of record \("[a-z]+"\)\)'):
            from_json(Outline, value, "The outline")


@given(st.builds(Sparse, TEXT, st.none() | TEXT, st.booleans(), FIGURES))
def test_seldom_and_beside_lie_otherwise(sparse: Sparse) -> None:
    written = through_json(to_json(sparse))
    assert from_json(Sparse, written, "it") == sparse
    expected = {"name", *sparse.measured}
    expected |= {name for name, there in (("note", sparse.note is not None), ("loud", sparse.loud)) if there}
    assert set(written) == expected


def test_beside_takes_numbers_and_passes_over_the_rest() -> None:
    found = from_json(Sparse, {"name": "a", "loss": 1, "phase": "two", "flag": True, "more": {}}, "it")
    assert found == Sparse("a", measured={"loss": 1})


WHOLE = to_json(Shape("a", 3, True, (Point(1.0),), (1, 2), Path("p"), {"q": Point(2.0)}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"sides": "3"}, 'sides: "3" is not a whole number'),
        ({"sides": True}, "sides: true is not a whole number"),
        ({"sides": 3.0}, "sides: 3.0 is not a whole number"),
        ({"closed": 1}, "closed: 1 is not true or false"),
        ({"name": None}, "name: null is not text"),
        ({"sides": "y" * 99}, f'sides: "{"y" * 36}... is not a whole number'),
        ({"corners": [{"x": "1"}]}, 'corners[0].x: "1" is not a number'),
        ({"corners": [{"x": True}]}, "corners[0].x: true is not a number"),
        ({"corners": [{}]}, "corners[0].x: missing"),
        ({"corners": 5}, "corners: of another form"),
        ({"box": [1]}, "box: of another form"),
        ({"by_name": {"q": {"x": None}}}, "by_name['q'].x: null is not a number"),
        ({"parent": {"name": "b"}}, "parent.sides: missing; parent.closed: missing; parent.corners: missing"),
        ({"angle": "odd"}, "angle: none of right, acute"),
    ],
)
def test_what_is_wrong_is_refused_and_its_place_is_named(damage: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as refusal:
        from_json(Shape, WHOLE | damage, "shape.json")
    assert str(refusal.value) == f"shape.json is damaged ({reason}): make it again."


@given(JSON)
def test_no_value_is_more_than_a_mistake(value: Any) -> None:
    for kind in (Shape, Sparse, Outline, Status, Command):
        try:
            from_json(kind, value, "it")
        except UserError as error:
            assert str(error).startswith("it is damaged")


@given(SHAPES, st.dictionaries(st.text("xyz", min_size=5), JSON, max_size=3))
def test_what_a_newer_writer_adds_is_passed_over(shape: Shape, more: dict[str, Any]) -> None:
    assert from_json(Shape, through_json(to_json(shape)) | more, "it") == shape


def test_a_whole_number_is_a_number() -> None:
    found = from_json(Point, {"x": 1}, "it")
    assert found == Point(1.0) and type(found.x) is float


@given(EVENTS)
def test_an_event_survives_json(event: Event) -> None:
    written = through_json(event_to_json(event))
    assert KINDS[written["kind"]] is type(event)
    assert event_from_json(written) == event
    assert event_from_json(written | {"seq": 3, "time": 1.5}) == event


@pytest.mark.parametrize("value", [None, 3, [], {}, {"kind": 3}, {"kind": "dance"}, {"kind": "stage"}])
def test_what_is_no_event_is_none(value: Any) -> None:
    assert event_from_json(value) is None


def test_a_state_leaves_out_what_is_not_known() -> None:
    status = Status(state="running", progress=Progress(1, 2, "steps", {"loss": None}), memory=Memory(5))
    written = to_json(status)
    assert written == {
        "state": "running",
        "progress": {"done": 1, "total": 2, "unit": "steps", "loss": None},
        "memory": {"rss": 5},
    }
    assert from_json(Status, written, "it") == status
    card = Memory(5, GpuMemory("a card", 1, 2))
    assert from_json(Memory, to_json(card), "it") == card


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_where_it_is_said_to_be(name: str) -> None:
    task = TASKS[name]
    assert callable(task.load()) and is_dataclass(task.settings)
    if task.result:
        module, record = task.result.split(":")
        found = getattr(importlib.import_module(module), record)
        assert all(is_dataclass(one) and fields(one) for one in get_args(found) or (found,))


def test_results_cost_no_torch() -> None:
    modules = sorted({task.result.split(":")[0] for task in TASKS.values() if task.result})
    script = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("wrap", ("[%s]", '{"a": %s}'))
def test_json_that_could_not_be_written_again_is_not_read(wrap: str) -> None:
    def nested(depth: int) -> str:
        return functools.reduce(lambda inner, _: wrap % inner, range(depth), "1")

    assert to_json(parse_json(nested(DEEPEST)))
    for depth in (DEEPEST + 1, 300, 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(nested(depth))
