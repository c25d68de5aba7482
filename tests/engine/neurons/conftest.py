"""A workspace with images, models and an SAE, and its scores; modules that score something else have their own."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.neurons.file import Neurons
from engine.neurons.score import score
from engine.workspace import Workspace
from tests.support.checkpoints import build, discerning, save, tokenizer
from tests.support.scoring import KINDS, PER_KIND, WORDS, Listener, ask, processor, random_sae


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with images, a CLIP, a DINOv2 and an SAE for the CLIP."""
    root = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for kind, colour in KINDS.items():
        (root / "images" / kind).mkdir(parents=True)
        for i in range(PER_KIND):
            noise = rng.integers(-40, 40, (36, 36, 3))
            Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(
                root / "images" / kind / f"{i:02d}.png"
            )
    (root / "images/animal/dog/05b.png").write_bytes(b"no picture")
    save(build("clip"), root / "clip", processor("CLIPImageProcessor"))
    tokenizer(tuple(WORDS)).save_pretrained(root / "clip")
    save(discerning(build("dinov2")), root / "dino", processor("BitImageProcessor"))
    (root / "words.txt").write_text("\n".join(WORDS))
    with torch.no_grad():
        random_sae(str(root / "clip"), root / "work/saes/S")
    return root


@pytest.fixture(scope="module")
def scored(place):
    listener = Listener()
    result = score(ask(place), Workspace(place / "work"), listener)
    with Neurons.open(result.path) as neurons:
        yield result, neurons, listener
