"""Trainings of a second: activations to train on, settings, and runs that are done in this process."""

import numpy as np

from engine.config import TrainSettings
from engine.errors import Stopped
from engine.reporter import Reporter, event_to_json
from engine.runs.events import StreamReporter
from engine.runs.run import Run
from engine.runs.worker import work
from engine.settings import to_mapping
from engine.workspace import Workspace


def activations(images=300, tokens=4, d=16, features=24, active=3, seed=0, noise=0.02):
    """Sparse sums of known directions around a mean, and these directions."""
    random = np.random.default_rng(seed)
    directions = random.normal(size=(features, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rows = images * tokens
    codes = (random.random((rows, features)) < active / features) * random.uniform(0.6, 1.4, (rows, features))
    x = codes @ directions + noise * random.normal(size=(rows, d)) + 0.5 * random.normal(size=d)
    return (4 * x).astype(np.float32), directions


def chosen(**changes):
    usual = {
        "activations": "a", "name": "s", "expansion": 2.0, "k": 3, "steps": 30, "batch_size": 64, "lr": 3e-3,
        "eval_every": 10, "checkpoint_every": 7, "device": "cpu", "holdout": 0.1, "keep_state": False,
    }  # fmt: skip
    return TrainSettings(**usual | changes)


class Recorder(Reporter):
    def __init__(self, stop_at: int = 0):
        self.events: list[tuple[str, dict]] = []
        self.checks, self.stop_at = 0, stop_at

    def event(self, event):
        fields = event_to_json(event)
        self.events.append((fields.pop("kind"), fields))

    def check(self):
        self.checks += 1
        if self.checks == self.stop_at:
            raise Stopped

    def of(self, kind):
        return [fields for found, fields in self.events if found == kind]


def begin(workspace: Workspace, task: str = "train", **settings) -> Run:
    """A run that is created and not yet started."""
    run = Run.create(workspace, task, settings or to_mapping(chosen()), [])
    path = run.path.with_name(f"{len(list(workspace.runs.iterdir())):03d}")  # in the order of their beginning
    return Run(run.path.rename(path))


def perform(run: Run, stop_after: int = 0) -> int:
    """Do what a worker does for it, here; ``stop_after``: it is asked to stop at this check."""
    held = run.hold()
    reporter = StreamReporter(run.path)
    reporter.every = 0.0
    check, checks = reporter.check, 0

    def counting():
        nonlocal checks
        checks += 1
        reporter.stop_requested = checks == stop_after
        check()

    reporter.check = counting
    code = work(run.command, reporter)
    held.close()
    return code
