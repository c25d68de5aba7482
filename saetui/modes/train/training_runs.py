"""What is asked of the runs that train: what a form begins with, and to start, pause, stop, resume and score."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.activations.results import READS
from engine.config import ScoreSettings, TrainSettings
from engine.errors import UserError
from engine.runs.events import Control
from engine.runs.run import Run
from engine.settings import to_mapping
from engine.workspace import MARKER, free_name, neurons_files, short_slug
from saetui.services import Services

if TYPE_CHECKING:
    from engine.runs.trainings import Training


LIKE = (
    *("images", "embed_with", "vocabulary", "name", "pooling", "crops", "crop_side"),
    *("min_support", "top", "limit", "seed"),
)
"""Settings of scores that others to be compared with them need, too."""
OFFERED = 20  # scores of which the settings are offered


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
        known = {one.name for one in fields(TrainSettings)}
        values = {"activations": stores[0]} | self.services.workspace.defaults_of(TrainSettings)
        values |= {name: value for name, value in last.items() if name in known}
        if values["activations"] not in stores:
            values["activations"] = stores[0]
        stem = f"{short_slug(str(values['activations']))}-sae"
        return values | {"name": free_name(stem, {*listed, *self.artefacts("saes")})}

    def like(self, row: Training) -> dict[str, Any] | None:
        """What the form of the same training under another name begins with."""
        from engine.runs.trainings import clone

        values: dict[str, Any] = {}
        done = self.services.guard(lambda: values.update(to_mapping(clone(row, self.services.workspace))))
        return values if done else None

    def importing(self, row: Training | None) -> dict[str, Any]:
        """What the form of an import begins with; ``row``: one that is like it."""
        if row is None:
            return {}
        if row.asked is not None:
            return to_mapping(row.asked)
        assert row.config is not None
        source = next((one.path for one in row.config.provenance.made_from), "")
        answers = {name: getattr(row.config, name) for name in READS}
        return answers | {"source": source, "format": row.config.origin.format if row.config.origin else ""}

    def plans(self) -> list[str]:
        """Those that are brought, and the files of the workspace."""
        from engine.runs.plan import shipped

        files = {path.name for path in self.services.workspace.root.glob("*.toml")} - {MARKER}
        return [*shipped(), *sorted(files)]

    def check_plan(self, given: str) -> None:
        """UserError where there is no such plan, neither in the workspace nor among those that are brought."""
        from engine.runs.plan import check_there, plan_path

        here = self.services.workspace.root / given
        check_there(plan_path(str(here) if here.is_file() else given))

    def run_plan(self, settings: Mapping[str, Any]) -> list[str]:
        """Start a plan; the names of the SAEs that it trains."""
        from engine.runs.plan import plan_path, read_plan

        trained: list[str] = []

        def read() -> None:
            stages = read_plan(plan_path(settings["plan"]), self.services.workspace, settings["input"])
            trained.extend(stage.name for stage in stages if stage.task == "train")

        if self.services.guard(read) and self.services.start("run", dict(settings)):
            return trained
        return []

    def control(self, row: Training, what: Control) -> bool:
        """``stop``, ``pause``, or the empty string to go on."""
        if not row.live or row.run is None:
            self.services.say(f"{row.name} is not being trained: it is {row.state}.")
            return False
        run = Run(self.services.workspace.runs / row.run)
        return self.services.guard(lambda: run.control(what))

    def pause(self, row: Training) -> None:
        """At its next step; one that is paused goes on."""
        if self._pauses(row):
            self.services.say(f"{row.name} pauses at its next step: r takes that back.", "information")
        else:
            self.control(row, "" if row.state == "paused" else "pause")

    def _pauses(self, row: Training) -> bool:
        """Whether it is asked to pause, and does not yet."""
        if row.run is None or row.state not in ("running", "starting"):
            return False
        try:
            return Run(self.services.workspace.runs / row.run).asked == "pause"
        except (UserError, OSError):  # who then writes to it is told
            return False

    def resume(self, row: Training) -> None:
        if row.config is not None:
            self.services.say(f"{row.name} was not trained here: it cannot be trained further, n trains one anew.")
        elif row.state in ("done", "running", "starting") and not self._pauses(row):
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
        known = ({"images": images} if images else {}) | self.services.workspace.defaults_of(ScoreSettings)
        like = self._scored_like()
        if isinstance(judges := known.get("embed_with"), list) and len(judges) > 1:
            like = {name: value for name, value in like.items() if name not in ("embed_with", "name")}  # of one judge
        return known | like | {"sae": row.name}

    def _scored_like(self) -> dict[str, Any]:
        """Images, words and judge of the newest scores, and how those were made: others can be compared with them."""
        for settings in self._scored():
            kept = to_mapping(settings)
            return {name: kept[name] for name in LIKE}
        return {}

    def _scored(self) -> Iterator[ScoreSettings]:
        """The settings of the scores of the workspace, the newest first."""
        from engine.neurons.file import Neurons

        for path in neurons_files(self.services.workspace):
            with contextlib.suppress(UserError, OSError), Neurons.open(path) as neurons:
                yield neurons.summary.settings

    def known_in_scores(self) -> dict[str, list[str]]:
        """What the form of scores offers for its fields: what earlier ones had."""
        found = list(islice(self._scored(), OFFERED))
        return {
            name: list(dict.fromkeys(filter(None, (getattr(one, name) for one in found))))
            for name in ("images", "embed_with", "vocabulary")
        }
