"""A workspace with small models that fit each other, and a model server whose events are recorded."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import transformers

from engine.files import file_sha256
from engine.server.client import ModelServer
from engine.server.protocol import END, Done, Failed, ServerEvent
from engine.workspace import Workspace
from tests.support import scores
from tests.support.checkpoints import build, save, tokenizer
from tests.support.tiny_llava import WORDS, picture, random_sae, save_llava

PATIENCE = 60  # seconds, on a busy machine


class Served:
    """A model server and all its events."""

    def __init__(self, workspace: Workspace):
        self.events: list[tuple[int, ServerEvent]] = []
        self.on_event = lambda event: None
        self._changed = threading.Condition()
        self.server = ModelServer(workspace, workspace.root / "server.log", self._keep)

    def _keep(self, number, event):
        self.on_event(event)
        with self._changed:
            self.events.append((number, event))
            self._changed.notify_all()

    def until(self, found):
        """Wait until ``found()`` is true; returns its value."""
        with self._changed:
            assert self._changed.wait_for(found, PATIENCE), self.events[-5:]
            return found()

    def of(self, number, *kinds):
        return [event for of, event in list(self.events) if of == number and isinstance(event, kinds)]

    def end(self, number):
        self.until(lambda: self.of(number, *END))
        (end,) = self.of(number, *END)
        return end

    def result(self, request, **options):
        end = self.end(self.server.ask(request, **options))
        assert isinstance(end, Done), end
        return end.result

    def refusal(self, request):
        end = self.end(self.server.ask(request))
        assert isinstance(end, Failed) and end.mistake, end
        return end.error


def make_workspace(root: Path) -> Workspace:
    """``llava`` (and ``endless``, which never stops by itself), ``clip``, SAEs of its hook points, ``s--val.h5``."""
    workspace = Workspace(root / "work")
    save_llava(root / "llava")
    endless = save_llava(root / "endless")
    settings = json.loads((endless / "generation_config.json").read_text())
    (endless / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": None}))
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    save(build("clip"), root / "clip", processor)
    tokenizer(tuple(WORDS.split())).save_pretrained(root / "clip")
    saes = {"s": ("layer:2", "patches"), "cls": ("layer:1", "cls"), "mean": ("layer:1", "mean"), "pooled": ("last", "")}
    for seed, (name, (hook, tokens)) in enumerate(saes.items()):
        sae = random_sae(hook=hook, d=16 if hook == "last" else 32, seed=seed)
        sae.config = replace(sae.config, model=str(root / "clip"), tokens=tokens)
        sae.save(workspace.sae(name))
    (root / "images").mkdir()
    for seed in range(3):
        picture(seed).save(root / "images" / f"{seed}.png")
    write_scores(workspace, "s", root / "clip")
    return workspace


def write_scores(workspace: Workspace, name: str, model: Path, file: str = "val", **changes) -> Path:
    """A neurons file of the SAE ``name`` with random maxima and directions; latent 3 has neither."""
    rng = np.random.default_rng(0)
    w = 64
    maximum = rng.uniform(0.5, 9, w).astype(np.float32)
    maximum[3] = 0
    sha256 = file_sha256(workspace.sae(name) / "sae.safetensors")
    said = replace(scores.SUMMARY, **{"sae": name, "model": str(model)} | changes)
    path = scores.write_scores(workspace.neurons(name, file), w, said, scores.made_from(name, sha256), maximum=maximum)
    directions = rng.normal(size=(w, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[3] = 0
    with scores.changing(path) as opened:
        for key, values in (("latents/directions", directions), ("words/mean", rng.normal(size=16) * 0.1)):
            if key in opened:
                del opened[key]
            opened[key] = values.astype(np.float16 if "latents" in key else np.float32)
    return path
