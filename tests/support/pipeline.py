"""Extraction, training and scoring, small; as a program, killed at random moments and begun again.

Arguments: model, images, folder, kills, each, seed. A new workspace gets ``each`` attempts that are killed by SIGKILL
at a random moment and one that is not, which must end with the bytes of an undisturbed one; until there were ``kills``.
It imports once and forks. Prints in how many workspaces.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from engine.activations.extract import extract
from engine.config import ScoreSettings, TrainSettings
from engine.models import load_encoder
from engine.neurons.score import score
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support.extractions import ask, contents

TRAINING = TrainSettings(
    activations="A",
    name="s",
    expansion=2.0,
    k=3,
    steps=15,
    batch_size=64,
    eval_every=10,
    checkpoint_every=7,
    device="cpu",
)


def pipeline(model: Path, images: Path, workspace: Workspace) -> None:
    """From images to a neurons file; what is there already is taken over."""
    extract(ask(model, images), workspace)
    train(TRAINING, workspace)
    asked = ScoreSettings(sae="s", images=str(images), embed_with=str(model), batch_size=8, device="cpu")
    score(asked, workspace)


def _attempt(model: Path, images: Path, workspace: Workspace, seconds: float | None) -> bool:
    """In a child; whether it was killed, ``seconds`` after it began."""
    child = os.fork()
    if child == 0:
        pipeline(model, images, workspace)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    assert killed or status == 0, f"an attempt failed with {status}"
    return killed


def _timed(model: Path, images: Path, workspace: Workspace) -> float:
    """Seconds that an attempt takes which is not killed."""
    began = time.monotonic()
    _attempt(model, images, workspace, None)
    return time.monotonic() - began


def main() -> None:
    torch.set_num_threads(1)  # without threads in the parent, forking is safe
    os.fsync = lambda _: None  # a kill takes nothing from the system, and waiting for the disk is slow
    model, images, folder = map(Path, sys.argv[1:4])
    load_encoder(str(model)).preprocess([Image.new("RGB", (40, 40))])  # imports for all children
    chance, once = random.Random(int(sys.argv[6])), Workspace(folder / "once")
    whole = _timed(model, images, once)
    number = kills = 0
    while kills < int(sys.argv[4]):
        number += 1
        workspace = Workspace(folder / str(number))
        killed = [_attempt(model, images, workspace, chance.random() * whole) for _ in range(int(sys.argv[5]))]
        kills += sum(killed)
        if not all(killed):  # the machine has become faster: what comes after the end is no kill
            whole = _timed(model, images, Workspace(folder / f"timed-{number}"))
        _attempt(model, images, workspace, None)
        found, wanted = contents(workspace.root), contents(once.root)
        differing = [name for name in {*found, *wanted} if found.get(name) != wanted.get(name)]
        assert not differing, f"end {number}: {differing}"
    print(number)


if __name__ == "__main__":
    main()
