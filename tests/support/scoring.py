"""What scores are tested on: kinds of pictures, an SAE of random weights, settings, and a listener."""

from pathlib import Path

import torch
import transformers

from engine.config import ScoreSettings
from engine.reporter import Reporter, event_to_json
from engine.sae.config import SAEConfig
from engine.sae.model import SAE

KINDS = {"animal/cat": (200, 60, 30), "animal/dog": (40, 90, 200), "thing/car": (60, 200, 60), "thing/hat": (9, 9, 9)}
WORDS = ["cat", "dog", "car", "hat", "red", "blue"]
W, HOOK, PER_KIND = 48, "layer:1", 11
N = PER_KIND * len(KINDS)


class Listener(Reporter):
    def __init__(self):
        self.events = []

    def event(self, event):
        fields = event_to_json(event)
        self.events.append((fields.pop("kind"), fields))

    def warnings(self):
        return [fields["message"] for kind, fields in self.events if kind == "warning"]


def processor(name):
    options = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return getattr(transformers, name)(**options)


def random_sae(model, folder, hook=HOOK, d=32, tokens="all", threshold=1.5):
    torch.manual_seed(0)
    sae = SAE(
        SAEConfig(arch="matryoshka-batchtopk", d=d, w=W, k=4, groups=(12, W), model=model, hook=hook, tokens=tokens)
    )
    sae.W_enc.normal_()
    sae.b_enc.normal_(std=0.3)
    sae.W_enc[:, 5] = 0
    sae.b_enc[5] = -1  # a dead latent
    sae.W_dec.normal_()
    sae.W_dec[5] = 0
    sae.threshold.fill_(threshold)
    sae.save(folder)
    return sae


def ask(place: Path, **more) -> ScoreSettings:
    given = {
        "sae": "S",
        "images": str(place / "images"),
        "embed_with": str(place / "dino"),
        "vocabulary": str(place / "words.txt"),
        "batch_size": 7,
        "workers": 2,
        "device": "cpu",
        **more,
    }
    return ScoreSettings(**given)
