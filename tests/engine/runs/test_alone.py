"""Two runs of the same work: the second is refused at once, and told which one is at work."""

import functools

import numpy as np
import pytest
from typer.testing import CliRunner

from engine import files
from engine.errors import UserError
from engine.files import write_json
from engine.records import to_json
from engine.runs.attached import Attached
from engine.runs.events import State, Status
from engine.runs.run import Run, runs
from engine.sae import train
from engine.settings import to_mapping
from engine.workspace import Workspace
from saetui.cli.app import app
from tests.support.stores import write_store
from tests.support.trainings import chosen, perform

PLAN = """
[[train]]
activations = "a"
name = "s"
"""
ASKED = to_mapping(chosen())


@pytest.fixture
def place(workspace: Workspace) -> Workspace:
    write_store(workspace.activations("a"), np.random.default_rng(0).normal(size=(64, 8)))
    (workspace.root / "plan.toml").write_text(PLAN)
    return workspace


def told(run: Run, state: State) -> None:
    write_json(run.path / "status.json", to_json(Status(state=state, started=1.0)))


@pytest.mark.parametrize("given", ["plan.toml", "./plan.toml", "{root}/plan.toml", "../{name}/plan.toml"])
@pytest.mark.parametrize("detach", [True, False])
def test_the_second_of_the_same_plan_is_refused_and_leaves_nothing(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, given: str, detach: bool
) -> None:
    monkeypatch.chdir(place.root)
    first = Run.create(place, "run", {"plan": str(place.root / "plan.toml"), "input": ()}, [])
    held = first.hold()
    told(first, "running")
    text = given.format(root=place.root, name=place.root.name)
    refused = CliRunner().invoke(app, ["run", text, *["--detach"] * detach])
    assert isinstance(refused.exception, UserError)
    assert str(refused.exception).startswith(
        f"Run {first.id} is at work on the same: follow it with saetui jobs follow"
    )
    assert runs(place) == [first]
    held.close()
    assert Run.create(place, "run", {"plan": text, "input": ()}, []), "it is not at work any more"


def test_other_settings_are_other_work_and_another_device_is_not(workspace: Workspace) -> None:
    first = Run.create(workspace, "train", ASKED, [])
    held = first.hold()
    Run.create(workspace, "train", ASKED | {"seed": 1}, [])
    with pytest.raises(UserError, match=f"Run {first.id} is at work"):
        Run.create(workspace, "train", ASKED | {"device": "cuda"}, [])
    held.close()


def test_of_two_that_begin_at_once_the_first_goes_on(workspace: Workspace) -> None:
    first, second = (Run.create(workspace, "train", ASKED, []) for _ in range(2))
    held = [first.hold(), second.hold()]
    first.check_alone()
    with pytest.raises(UserError, match=f"Run {first.id} is at work"):
        second.check_alone()
    told(second, "running")  # it began before the first one, as one that is resumed, looked
    with pytest.raises(UserError, match=f"Run {second.id} is at work"):
        first.check_alone()
    for one in held:
        one.close()
    first.check_alone()


def test_workers_look_whether_they_are_alone(place: Workspace) -> None:
    first, detached, attached = (Run.create(place, "train", ASKED, []) for _ in range(3))
    held = first.hold()
    told(first, "paused")
    detached.detach()
    with pytest.raises(UserError, match=f"^Run {first.id} is at work on the same"):
        Attached(place, "train", ASKED, attached).result()
    list(detached.follow())
    assert detached.status.state == "failed"
    assert str(detached.status.error).startswith(f"Run {first.id} is at work on the same")
    held.close()


@pytest.mark.parametrize("others", [0, 1, 2])
def test_who_waits_for_an_artefact_is_told_which_run_writes_it(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr(train, "lock", functools.partial(files.lock, patience=0.0))
    asked: list[tuple[str, dict[str, object]]] = [("run", {"plan": "x"}), ("run", {"plan": "y"})]
    running = [Run.create(place, *one, []) for one in asked[:others]]
    held = [run.hold() for run in running]
    mine = Run.create(place, "train", ASKED, [])
    with files.lock(place.sae("s")):
        assert perform(mine) == 2
        says = {
            0: "another process: wait for it, or stop it (saetui jobs).",
            1: f"run {running[0].id}: wait for it (saetui jobs follow {running[0].id}), or stop" if running else "",
            2: f"another process, one of the runs {', '.join(run.id for run in running)}: wait",
        }
        assert says[others] in str(mine.status.error)
        named = Run.create(place, "train", ASKED | {"seed": 1}, [])
        held.append(named.hold())
        mine = Run.create(place, "train", ASKED, [])
        assert perform(mine) == 2 and f"by run {named.id}: " in str(mine.status.error), "it was asked for that name"
    for one in held:
        one.close()
