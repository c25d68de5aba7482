"""How close extraction comes to the bare forward pass."""

import time
from typing import Any

import torch

from engine.activations.extract import TORCH, extract
from engine.config import ExtractSettings
from engine.images import BrokenImage, open_images
from engine.models import HookPoint, load_encoder
from engine.models.device import pick_device
from engine.reporter import Reporter
from engine.workspace import Workspace


class _Clock(Reporter):
    """When the images begin to flow."""

    began = 0.0

    def event(self, kind: str, **fields: Any) -> None:
        if fields.get("name") == "extracting":
            self.began = time.perf_counter()


def extraction_rate(settings: ExtractSettings, workspace: Workspace) -> dict[str, float]:
    """Images a second of ``extract``, of the same forward passes on batches in memory (``forward``), and their ratio.

    ``settings.name`` must not exist yet; set ``limit`` to what fits in memory. Loading the model counts for neither.
    """
    images = open_images(settings.images, settings.limit)
    encoder = load_encoder(settings.model, pick_device(settings.device), TORCH[settings.precision])
    hooks = [HookPoint.parse(at) for at in settings.at]
    pictures = []
    for index in range(len(images)):
        try:
            pictures.append(images.load(index))
        except BrokenImage:
            continue
    size = settings.batch_size
    batches = [encoder.preprocess(pictures[i : i + size]) for i in range(0, len(pictures), size)]
    encoder.activations(batches[0], hooks)  # warm up
    start = time.perf_counter()
    for batch in batches:
        encoder.activations(batch, hooks)
    if encoder.device.type == "cuda":
        torch.cuda.synchronize()
    forward = len(pictures) / (time.perf_counter() - start)
    clock = _Clock()
    extract(settings, workspace, clock)
    extracted = len(images) / (time.perf_counter() - clock.began)
    return {"extract": extracted, "forward": forward, "ratio": extracted / forward}
