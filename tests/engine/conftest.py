from pathlib import Path

import pytest

from engine.models.vlm import VLM, load_vlm
from engine.sae import SAE
from tests.support.tiny_llava import random_sae, save_llava


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory) -> Path:
    return save_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture(scope="session")
def vlm(llava_folder) -> VLM:
    return load_vlm(str(llava_folder), "cpu")


@pytest.fixture
def sae() -> SAE:
    return random_sae()
