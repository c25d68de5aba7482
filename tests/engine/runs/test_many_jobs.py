"""Job after job: nothing is left of them but what they made."""

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engine.files import LOCK
from engine.locks import held
from engine.runs.attached import Attached
from engine.runs.run import ENDED, HELD, Run, runs
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.tmux import processes

ASKED = {
    "verify": {"store": "a"},
    "train": {"activations": "a", "name": "s", "expansion": 2.0, "k": 2, "steps": 10, "batch_size": 16},
}


def descriptors() -> Counter[str]:
    """The open files of this process, by what they are."""
    found: Counter[str] = Counter()
    for one in Path("/proc/self/fd").iterdir():
        try:
            found[os.readlink(one).split(":")[0]] += 1
        except OSError:  # of this listing itself
            continue
    return found


def children() -> list[str]:
    """The processes that this one has started and that are not reaped."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize("count", [4, pytest.param(500, marks=pytest.mark.slow)])
def test_short_jobs_in_a_row_leave_nothing_behind(count: int, workspace: Workspace) -> None:
    write_store(workspace.activations("a"), np.random.default_rng(0).normal(size=(64, 8)))
    open_before, children_before = descriptors(), children()
    for number in range(count):
        task = "verify" if (number + 1) % 20 else "train"
        run = Run.create(workspace, task, ASKED[task], [])
        if number % 2:
            Attached(workspace, task, ASKED[task], run).result()
        else:
            run.detach()
            deadline = time.monotonic() + 300
            while run.status.state not in ENDED and time.monotonic() < deadline:
                time.sleep(0.02)
        assert run.status.state == "done", run.printed()
    deadline = time.monotonic() + 10
    while (processes("engine.runs", workspace.root) or children() != children_before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes("engine.runs", workspace.root) == [] and children() == children_before
    assert descriptors() == open_before
    assert len(runs(workspace)) == count and not any(held(run.path / HELD) for run in runs(workspace))
    left = [path for path in workspace.root.rglob("*") if ".tmp" in path.name or path.name.endswith(".claim")]
    assert left == [] and not any(map(held, workspace.root.rglob(LOCK)))
