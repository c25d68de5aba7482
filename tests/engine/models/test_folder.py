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
from tests.support.tiny_llava import save_llava


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


def test_a_tokenizer_that_its_library_does_not_expect_is_a_sentence(tmp_path: Path) -> None:
    """Rust's tokenizers panic there, which in Python is no Exception."""
    folder = save(build("clip"), tmp_path / "m", words=("ape", "bee"))
    path = folder / "tokenizer.json"
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<none>", "type_id": 0}}]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {
        "post_processor": template | {"pair": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}}
    }))  # fmt: skip
    with pytest.raises(UserError, match="cannot be loaded, as its files are not those of a model"):
        load_encoder(str(folder)).embed_text(["ape"])


def claim(folder: Path, file: str, *names: str, value: object) -> None:
    path = folder / file
    said = within = json.loads(path.read_text())
    for name in names[:-1]:
        within = within[name]
    within[names[-1]] = value
    path.write_text(json.dumps(said))


SMALLER = r"model.safetensors is smaller than the model that its config.json describes, with "


@pytest.mark.parametrize(
    ("tower", "name", "value", "with_what"),
    [
        ("vision_config", "hidden_size", 50_000, "50,000 x 50,000 numbers in the weight of its Linear"),
        ("vision_config", "num_hidden_layers", 2_000, "far more layers"),
        ("vision_config", "image_size", 1 << 20, "[0-9,]+ x 32 numbers in the weight of its Embedding"),
        ("vision_config", "num_channels", 10**9, "32 x 1,000,000,000 x 8 x 8 numbers in the weight of its Conv2d"),
        ("text_config", "vocab_size", 1 << 20, "1,048,576 x "),
        ("text_config", "num_hidden_layers", 2_000, "far more layers"),
    ],
)
@pytest.mark.parametrize("kind", ["clip", "llava", "llava without its processor"])
def test_a_model_that_is_larger_than_its_weights_is_refused_before_it_is_made(
    kind: str, tower: str, name: str, value: int, with_what: str, tmp_path: Path
) -> None:
    folder = save(build("clip"), tmp_path / "m") if kind == "clip" else save_llava(tmp_path / "m")
    if kind.endswith("processor"):
        if tower == "text_config":
            pytest.skip("its language model is not made")
        (folder / "processor_config.json").unlink()
    claim(folder, "config.json", tower, name, value=value)
    for load in (load_encoder, load_vlm) if kind == "llava" else (load_encoder,):
        with pytest.raises(UserError, match=SMALLER + with_what):
            load(str(folder))


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = save(build("clip"), tmp_path / "m")
    claim(folder, "config.json", "vision_config", "patch_size", value=4)
    with pytest.raises(UserError, match=r"patch_embedding.weight of 32 x 3 x 8 x 8, for which .* 32 x 3 x 4 x 4"):
        load_encoder(str(folder))


@pytest.mark.parametrize("value", [{"shortest_edge": 30_000}, {"height": 20_000, "width": 20_000}])
def test_images_larger_than_any_model_sees_are_refused(value: object, tmp_path: Path) -> None:
    clip, llava = save(build("clip"), tmp_path / "clip"), save_llava(tmp_path / "llava")
    claim(clip, "preprocessor_config.json", "size", value=value)
    claim(llava, "processor_config.json", "image_processor", "size", value=value)
    for load, folder in ((load_encoder, clip), (load_encoder, llava), (load_vlm, llava)):
        with pytest.raises(UserError, match=r"The image processor of .* asks for \w+ = [0-9,]+, which no model has"):
            load(str(folder))


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [("config.json", "num_labels", 10**8), ("processor_config.json", "num_additional_image_tokens", 10**8)],
)
def test_counts_that_no_model_has_are_refused(file: str, name: str, value: int, tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "m")
    claim(folder, file, name, value=value)
    for load in (load_encoder, load_vlm):
        with pytest.raises(UserError, match=rf"{file} asks for {name} = 100,000,000, which no model has"):
            load(str(folder))
