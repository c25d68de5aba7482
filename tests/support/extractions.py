"""A small model, a folder of pictures with a broken file, and extraction settings that make several shards."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.config import ExtractSettings
from engine.errors import Stopped
from engine.reporter import Event, Reporter, StageBegan, Warned, kind_of
from tests.support.checkpoints import build, save


def write_pictures(root: Path, count: int, broken: tuple[int, ...] = (5,), sizes: bool = True) -> Path:
    """``count`` pictures in two classes, of several sizes; the files at ``broken`` are not images."""
    random = np.random.default_rng(0)
    for i in range(count):
        path = root / ("ape", "bee")[i % 2] / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (40 + (i % 3 if sizes else 0), 44, 3)
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, shape, np.uint8)).save(buffer, "PNG")
        path.write_bytes(b"broken" if i in broken else buffer.getvalue())
    return root


def saved_model(folder: Path, family: str = "clip") -> Path:
    return folder if (folder / "config.json").exists() else save(build(family), folder)


def ask(model: Path, images: Path, **more: Any) -> ExtractSettings:
    """Settings for 4 images per batch, 17 rows per image and 2 batches per shard."""
    values = {"name": "A", "at": ("layer:1",), "batch_size": 4, "shard_rows": 150, "device": "cpu"}
    return ExtractSettings(model=str(model), images=str(images), **{**values, **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Recorder(Reporter):
    """Records events and progress; asks to stop after ``stop_after`` checks."""

    def __init__(self, stop_after: int = 10**9):
        self.events: list[tuple[str, str]] = []
        self.steps: list[tuple[int, int, dict[str, Any]]] = []
        self.left = stop_after

    def event(self, event: Event) -> None:
        match event:
            case StageBegan(words) | Warned(words):
                self.events.append((kind_of(event), words))

    def progress(self, done: int, total: int, unit: str, **metrics: Any) -> None:
        assert unit == "images"
        self.steps.append((done, total, metrics))

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stopped
