import json

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from engine.demo import world
from engine.demo.build import __main__ as build
from engine.demo.build import card
from engine.demo.build.training import conversation
from engine.errors import UserError
from engine.models.shipped import MODELS


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("assets")
    assert build.main(["--smoke", "--out", str(out)]) == 0
    return out


def test_smoke_writes_complete_checkpoints(built):
    picture = world.draw(world.scene(0, 0))
    clip = AutoModel.from_pretrained(built / "clip", dtype=torch.float32)
    inputs = AutoProcessor.from_pretrained(built / "clip")(text=["a fish"], images=[picture], return_tensors="pt")
    assert clip(**inputs).logits_per_image.shape == (1, 1)
    encoder = AutoModel.from_pretrained(built / "encoder", dtype=torch.float32)
    seen = AutoImageProcessor.from_pretrained(built / "encoder")([picture], return_tensors="pt")
    assert encoder(**seen).pooler_output.shape == (1, 192)
    llava = AutoModelForImageTextToText.from_pretrained(built / "llava", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(built / "llava")
    text = processor.apply_chat_template(conversation("Describe this image."), add_generation_prompt=True)
    inputs = processor(text=[text], images=[picture], return_tensors="pt")
    assert llava.generate(**inputs, max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]


def test_weights_are_stored_in_half_precision_and_say_so(built):
    for name in MODELS:
        assert json.loads((built / name / "config.json").read_text())["dtype"] == "float16"
    assert next(AutoModel.from_pretrained(built / "clip").parameters()).dtype == torch.float16


def test_nothing_half_written_stays(built):
    assert sorted(path.name for path in built.iterdir()) == sorted([*MODELS, "README.md", "scores.json"])


def test_card_and_scores_name_every_model(built):
    results = json.loads((built / "scores.json").read_text())
    assert set(results) == set(MODELS)
    assert (built / "README.md").read_text() == card.card(built, results)


def test_one_model_can_be_built_alone(built):
    before = {name: (built / name / "model.safetensors").read_bytes() for name in MODELS}
    build.main(["--smoke", "--out", str(built), "--only", "encoder", "--share", "2"])
    after = {name: (built / name / "model.safetensors").read_bytes() for name in MODELS}
    assert before["clip"] == after["clip"] and before["llava"] == after["llava"]
    assert set(json.loads((built / "scores.json").read_text())) == set(MODELS)


def test_the_same_seed_builds_the_same_encoder(built, tmp_path):
    build.main(["--smoke", "--out", str(tmp_path), "--only", "encoder"])
    assert (tmp_path / "encoder/model.safetensors").read_bytes() == (built / "encoder/model.safetensors").read_bytes()


def test_llava_needs_a_clip(tmp_path):
    with pytest.raises(UserError, match="no clip"):
        build.build(tmp_path, ["llava"], build.Recipe().scaled(0.001), 4, lambda _: None)
    with pytest.raises(SystemExit) as stopped:
        build.main(["--smoke", "--out", str(tmp_path), "--only", "llava"])
    assert stopped.value.code == 2
