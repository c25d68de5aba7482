"""A program that extracts and is killed, again and again, until an attempt finishes. It imports once and forks.

Arguments: model, images, workspace, "replace" or "moment". ``replace`` kills right before or after a file is renamed;
``moment`` kills at a random moment after each new shard.
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
from engine.models import load_encoder
from engine.workspace import Workspace
from tests.support.extractions import ask


def attempt(settings, workspace, die_at: float) -> None:
    """Runs in the child; dies before (.0) or after (.5) renaming file number ``int(die_at)``."""
    renamed, real = 0, os.replace

    def replace(a, b):
        nonlocal renamed
        renamed += 1
        if renamed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(a, b)
        if renamed + 0.5 == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
    extract(settings, workspace)


def main() -> None:
    torch.set_num_threads(1)  # without threads in the parent, forking is safe
    model, images, root, how = sys.argv[1:]
    encoder = load_encoder(model)  # imports for all children
    encoder.preprocess([Image.new("RGB", (40, 40))])
    settings, workspace = ask(Path(model), Path(images), at=("layer:1", "last")), Workspace(Path(root))
    chance = random.Random(0)
    for number in range(100):
        shards = len(list(workspace.root.rglob("shard-*.h5")))
        child = os.fork()
        if child == 0:
            attempt(settings, workspace, 1 + chance.randrange(6) / 2 if how == "replace" else -1)
            os._exit(0)
        if how == "moment":
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                if len(list(workspace.root.rglob("shard-*.h5"))) > shards:
                    time.sleep(chance.random() * 0.02)
                    os.kill(child, signal.SIGKILL)
                    break
                time.sleep(0.001)
        try:
            _, status = os.waitpid(child, 0)
        except ChildProcessError:  # the loop above has reaped it
            status = 0
        if status == 0:
            print(number)
            return
        assert os.WIFSIGNALED(status), "the attempt failed instead of being killed"


main()
