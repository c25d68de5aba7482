"""Directories of models that are damaged, or say what no model would."""

import json
import os
from pathlib import Path

import pytest
import torch

from engine.errors import UserError
from engine.models import load_encoder
from engine.models.vlm import load_vlm
from tests.support.checkpoints import build, save


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": Harmful()}, folder / "pytorch_model.bin")


def elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "secret.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def config(**changes):
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def text(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


DAMAGE = {
    "pickled weights": pickled,
    "weights elsewhere": elsewhere,
    "no patches": config(patch_size=0),
    "width in words": config(hidden_size="wide"),
    "no width": config(hidden_size=None),
    "endless layers": config(num_hidden_layers=10**8),
    "a wide projection": config(projection_dim=10**8),
    "a kind that is no text": config(model_type=["clip"]),
    "classes that are no text": config(architectures=5),
    "a list": text("config.json", "[]"),
    "nested": text("config.json", "[" * 100_000),
    "a list of the processor": text("preprocessor_config.json", "[]"),
    "nested in the processor": text("preprocessor_config.json", "[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_directory_is_a_sentence(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    save(build("clip-projected"), folder)
    load_encoder(str(folder))
    damage(folder)
    for load in (load_encoder, load_vlm):
        with pytest.raises(UserError) as refused:
            load(str(folder))
        assert "weights_only" not in str(refused.value), "no advice to run it"
    assert not (tmp_path / "ran").exists()
