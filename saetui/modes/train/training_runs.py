"""What is asked of the runs that train: what a form begins with, and to start, pause, stop, resume and score."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import ScoreSettings, TrainSettings, to_mapping
from engine.runs.events import Control
from engine.runs.run import Run
from engine.workspace import slug
from saetui.services import Services

if TYPE_CHECKING:
    from engine.runs.trainings import Training


class TrainingRuns:
    """Each method does what is asked, or says in a sentence why it cannot."""

    def __init__(self, services: Services):
        self.services = services

    def artefacts(self, kind: str) -> list[str]:
        """The artefacts of a kind, the largest first: what one trains on is larger than what one tests on."""

        def size(path: Path) -> int:
            return sum(file.stat().st_size for file in path.glob("*.h5"))

        try:
            folder = self.services.workspace.root / kind
            found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
            return [path.name for path in sorted(found, key=size, reverse=True)]
        except OSError:
            return []

    def new(self, last: dict[str, Any], listed: Iterable[str]) -> dict[str, Any] | None:
        """What the form of a new training begins with. ``last``: the settings of the last one; ``listed``: names that
        are taken, as those in ``saes/`` are."""
        stores = self.artefacts("activations")
        if not stores:
            self.services.say("There are no activations to train on: 1 and then e extracts some.")
            return None
        values = {"activations": stores[0]} | self._defaults(TrainSettings) | _known(TrainSettings, last)
        if values["activations"] not in stores:
            values["activations"] = stores[0]
        return values | {"name": free_name(slug(str(values["activations"])), {*listed, *self.artefacts("saes")})}

    def like(self, row: Training) -> dict[str, Any] | None:
        """What the form of the same training under another name begins with."""
        from engine.runs.trainings import clone

        values: dict[str, Any] = {}
        done = self.services.guard(lambda: values.update(to_mapping(clone(row, self.services.workspace))))
        return values if done else None

    def run_plan(self, given: str) -> list[str]:
        """Start the plan in the file ``given``; the names of the SAEs that it trains."""
        from engine.runs.plan import read_plan

        path = Path(given).expanduser().resolve()
        trained: list[str] = []

        def read() -> None:
            trained.extend(stage.name for stage in read_plan(path, self.services.workspace) if stage.task == "train")

        if self.services.guard(read) and self.services.start("run", {"plan": str(path)}):
            return trained
        return []

    def control(self, row: Training, what: Control) -> bool:
        """``stop``, ``pause``, or the empty string to go on."""
        if not row.live or row.run is None:
            self.services.say(f"{row.name} is not being trained: it is {row.state}.")
            return False
        run = Run(self.services.workspace.runs / row.run)
        return self.services.guard(lambda: run.control(what))

    def resume(self, row: Training) -> None:
        if row.state in ("done", "running", "starting"):
            self.services.say(f"{row.name} is {row.state}: there is nothing to resume.")
        elif row.run is not None:
            run = Run(self.services.workspace.runs / row.run)
            self.services.guard(run.resume)
        elif row.settings is None or not row.settings.activations:
            self.services.say(
                f"What {row.name} was trained on is not known: saetui train STORE --name {row.name} goes on."
            )
        else:  # its run is gone; the same settings go on from the checkpoint
            self.services.start("train", to_mapping(row.settings))

    def scoring(self, row: Training, images: str) -> dict[str, Any] | None:
        """What the form of its scores begins with; ``images``: a source to score on, where one is known."""
        if row.state != "done":
            self.services.say(f"{row.name} is {row.state}: it can be scored when its training is done.")
            return None
        return ({"images": images} if images else {}) | self._defaults(ScoreSettings) | {"sae": row.name}

    def _defaults(self, kind: type) -> dict[str, Any]:
        return _known(kind, self.services.workspace.defaults())


def free_name(stem: str, taken: set[str]) -> str:
    """The first of stem-sae, stem-sae-2, ... that is not taken."""
    names = [f"{stem}-sae", *(f"{stem}-sae-{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that are settings of ``kind``."""
    fields = {one.name for one in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in fields}
