import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.files import write_text
from engine.sae.preview import FormingLatent, Preview, TopImage, write_preview
from engine.settings import to_mapping
from engine.workspace import MARKER, Workspace
from tests.support.stores import write_store
from tests.support.trainings import activations, begin, chosen, perform


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training with a preview of real pictures, and one that was stopped on its way."""
    root = tmp_path_factory.mktemp("made") / "study"
    place = Workspace(root)
    write_store(place.activations("a"), activations()[0], tokens=4)
    assert perform(begin(place, **to_mapping(chosen(name="whole")))) == 0
    perform(begin(place, **to_mapping(chosen(name="half"))), stop_after=15)
    (place.sae("half") / "preview.json").unlink()
    pictures = root / "pictures"
    pictures.mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32), (60 * i, 200, 30)).save(pictures / f"{i}.png")
    images = tuple(TopImage(f"{i}.png", 9.0 - i, np.full((2, 2), 9.0 - i, np.float32)) for i in range(4))
    latents = tuple(FormingLatent(100 + i, 0.1, images) for i in range(8))
    write_preview(place.sae("whole"), Preview(30, "a", str(pictures), (2, 2), latents))
    write_text(root / MARKER, 'embed_with = "demo:encoder"\nsteps = 200000\nbatch_size = 64\nk = 3\nexpansion = 2\n')
    return root


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(made, tmp_path / "study")))
