import shutil

import pytest

from engine.neurons.file import Neurons
from tests.support.neurons_screen import W
from tests.support.synthetic import write_synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("made") / "study", w=W, images=120)


@pytest.fixture
def place(made, tmp_path):
    """A workspace of this test's own; the pictures are shared."""
    folder = tmp_path / "study"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("images"))
    (folder / "images").symlink_to(made / "images")
    return folder


@pytest.fixture(scope="module")
def truth(made):
    with Neurons.open(made / "neurons" / "synthetic--drawn.h5") as neurons:
        yield neurons
