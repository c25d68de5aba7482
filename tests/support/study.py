"""A workspace with something in every mode and relative paths, the same bytes on every machine."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.config import ScoreSettings, TrainSettings
from engine.demo.world import write_images
from engine.files import read_json, write_json, write_text
from engine.images import open_images
from engine.neurons.labels import Labels
from engine.neurons.results import ImageLatents
from engine.records import from_json, to_json
from engine.sae.preview import FormingLatent, Preview, TopImage, write_preview
from engine.sae.results import FinalMeasurement, MeasuredStep
from engine.sae.state import Finished, Split, identity, write_training
from engine.server.protocol import (
    Answer,
    Done,
    FindImageLatents,
    RankByText,
    RankedLatents,
    Request,
    Result,
    ServerEvent,
    Sweep,
    Swept,
)
from engine.settings import to_mapping
from engine.steer.recipes import keep_recipe
from engine.steer.results import Steered
from engine.workspace import MARKER, Workspace
from saetui.app import Workbench
from saetui.modes.steer.setup import Setup, Slot
from saetui.modes.steer.versions import Version
from saetui.session import Session
from tests.support.stores import write_store
from tests.support.synthetic import IMAGES, NAME, write_synthetic

W, SHOWN = 64, 48
WIDE, NARROW = "wide", "narrow"  # trainings: one done, one stopped
BEGAN = 1_735_725_600.0  # 1 January 2025, 10:00 UTC
PIECE = "[b]pencil[/b] \x1b[31m"  # words that would act if they were not shown literally
ANSWERS = Steered(
    untouched="a solid green fish on a black background",
    attached="a solid green fish on a black background",
    steered="a striped green pencil on a black background",
)
FOUND = ImageLatents(
    grid=(4, 4),
    image=((5, 8.5), (9, 4.25), (17, 0.5)),
    patches=tuple(((5, 8.5),) if n % 2 else ((9, 4.25), (17, 0.5)) for n in range(16)),
)
RESULTS: dict[type, Result] = {
    Answer: ANSWERS,
    Sweep: Swept(()),
    FindImageLatents: FOUND,
    RankByText: RankedLatents(((5, 0.5), (9, 0.25))),
}


class Answered(Workbench):
    """A workbench whose model always answers the same at once: real answers differ between machines."""

    def ask_model(self, request: Request, handler: Callable[[ServerEvent], None], supersede: bool = True) -> int:
        self.call_later(handler, Done(RESULTS[type(request)]))
        return 1


def write_study(parent: Path) -> Workspace:
    """Write ``parent``/study. The current directory must be ``parent``, so that all paths are relative."""
    place = Workspace(write_synthetic(Path("study"), w=W, images=SHOWN, top=8))
    source = f"images/{IMAGES}"
    write_text(place.root / MARKER, f'images = "{source}"\nvlm = "demo"\nembed_with = "demo:encoder"\n')
    _store(place, "drawn-patches", source, SHOWN)
    _store(place, "half", source, SHOWN // 4)
    write_images(place.root / "images" / "more", 12, seed=1)
    _trainings(place, str(place.root / source))
    shutil.copy(place.neurons(NAME, IMAGES), place.neurons("second", IMAGES))
    for age, sae in enumerate((NAME, "second")):  # the newest scores are opened
        os.utime(place.neurons(sae, IMAGES), (BEGAN - age, BEGAN - age))
    labels = Labels.open(place.labels(NAME))
    labels.set(5, text="any pencil", marked=True)
    labels.set(9, text=PIECE)
    return place


def _store(place: Workspace, name: str, source: str, images: int) -> None:
    """A store of the first ``images`` images of ``source``; incomplete if there are more."""
    rows = np.arange(images * 4 * 8, dtype=np.float32).reshape(-1, 8) / 64
    pictures = [entry.path for entry in open_images(place.root / source).entries[:images]]
    listed = {"spec": source, "images": SHOWN}
    store = write_store(place.activations(name), rows, tokens=4, paths=pictures, source=listed)
    manifest = read_json(store.path / "manifest.json")
    write_json(store.path / "manifest.json", manifest | {"complete": images == SHOWN})


def _trainings(place: Workspace, source: str) -> None:
    settings = TrainSettings(activations="drawn-patches", name=WIDE, expansion=8, k=8, steps=1000, batch_size=1024)
    _run(place, "20250101-100000-train", "train", to_mapping(settings), "done", 1000)
    _finish(place, settings)
    other = to_mapping(settings) | {"name": NARROW, "expansion": 4.0, "steps": 2000}
    _run(place, "20250101-110000-train", "train", other, "stopped", 700)
    score = to_mapping(ScoreSettings(sae=NARROW, images=source, embed_with="demo:encoder"))
    _run(place, "20250101-120000-score", "score", score, "failed", 0, error="narrow is not trained yet: resume it.")
    pictures = [entry.path for entry in open_images(source).entries]
    latents = tuple(
        FormingLatent(3 + n, 0.125, tuple(TopImage(pictures[n * 4 + i], 8.0 - i, _spot(i)) for i in range(3)))
        for n in range(6)
    )
    write_preview(place.sae(WIDE), Preview(1000, "drawn-patches", source, (4, 4), latents))


def _spot(place: int) -> np.ndarray:
    found = np.zeros((4, 4), np.float32)
    found[place, 1] = 8.0 - place
    return found


def _history(steps: int) -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "loss": round(0.2 + 100 / (step + 100), 4),
            "fve": round(0.9 - 60 / (step + 100), 4),
            "l0": 8.0 + step / 10_000,
            "dead": round(0.3 - step / 5_000, 4),
            "ms": round(0.1 + step / 10_000, 4),
            "ms_matched": 0.1,
        }
        for step in range(100, steps + 1, 100)
    ]


def _run(place: Workspace, id: str, task: str, settings: dict, state: str, steps: int, error: str = "") -> None:
    folder = place.runs / id
    write_json(
        folder / "command.json", {"version": 1, "task": task, "settings": settings, "workspace": ".", "cwd": "."}
    )
    measured = _history(steps)
    events: list[dict] = [{"kind": "stage", "name": "train"}] if measured else []
    for one in measured:
        progress = {"done": one["step"], "total": settings["steps"], "unit": "steps", "loss": one["loss"]}
        events.append({"kind": "progress", "waiting": 0.004} | progress)
        events.append({"kind": "metrics"} | one)
    lines = [json.dumps({"seq": n, "time": BEGAN + n} | event) for n, event in enumerate(events)]
    write_text(folder / "events.jsonl", "".join(line + "\n" for line in lines))
    write_text(folder / "log.txt", "loading the encoder\nall is well\n")
    progress = {"done": steps, "total": settings.get("steps", 0), "unit": "steps"}
    status = {"state": state, "started": BEGAN, "ended": BEGAN + 60, "stage": "training", "progress": progress}
    write_json(folder / "status.json", status | ({"error": error} if error else {}))


def _finish(place: Workspace, settings: TrainSettings) -> None:
    history = tuple(from_json(MeasuredStep, one, "A measurement") for one in _history(settings.steps))
    result = FinalMeasurement(
        name=settings.name,
        arch=settings.arch,
        d=16,
        w=128,
        steps=settings.steps,
        fve=history[-1].fve,
        l0=history[-1].l0,
        dead=history[-1].dead,
        ms=history[-1].ms,
        ms_matched=history[-1].ms_matched,
    )
    write_training(
        place.sae(settings.name),
        Finished(
            identity=identity(settings, "0" * 64),
            settings=settings,
            schedule={},
            rows=Split(900, 100),
            images=Split(9, 1),
            history=history,
            result=result,
        ),
    )


def remember_answers(place: Workspace) -> Setup:
    """Write a steering setup with answers and a sweep to the session, which Steer shows without asking a model."""
    neurons = str(place.neurons(NAME, IMAGES))
    rack = (Slot(5, 20.0, True, 10.0, "any pencil"), Slot(9, -4.0, False, 8.0, "pencil · crayon"))
    image = f"{place.root / 'images' / IMAGES}::{open_images(place.root / 'images' / IMAGES).entries[0].path}"
    setup = Setup(NAME, "demo", neurons, image, rack=rack)
    state = Session(place.root)
    state.set("steer", setup=to_json(setup), version=to_json(Version(setup, ANSWERS, BEGAN)))
    state.save()
    if not place.recipe("pencil-2x").exists():
        keep_recipe(place, setup.settings(save_recipe="pencil-2x"))
    return setup
