"""The shipped checkpoints, loaded as any user would, on scenes that no training drew."""

import json
import os
import re

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPModel,
    Dinov2Model,
    LlavaForConditionalGeneration,
)

from engine.demo import world
from engine.demo.build import card, scores
from engine.demo.talk import REQUESTS
from engine.errors import UserError
from engine.models import shipped
from engine.models.shipped import MODELS, assets

SCENES = 160


@pytest.fixture(scope="module")
def claimed():
    return json.loads((assets() / "scores.json").read_text())


@pytest.fixture(scope="module")
def llava():
    folder = assets() / "llava"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(folder)


def test_auto_classes_load_the_ordinary_classes(llava):
    assert isinstance(AutoModel.from_pretrained(assets() / "clip"), CLIPModel)
    assert isinstance(AutoModel.from_pretrained(assets() / "encoder"), Dinov2Model)
    assert isinstance(llava[0], LlavaForConditionalGeneration)


def test_together_they_are_small():
    size = sum(file.stat().st_size for file in assets().rglob("*") if file.is_file())
    assert size <= 25e6
    assert all(os.access(file, os.R_OK) for file in assets().rglob("*"))


def test_llava_sees_through_the_tower_of_the_clip(llava):
    clip = AutoModel.from_pretrained(assets() / "clip", dtype=torch.float32)
    own = llava[0].model.vision_tower.state_dict()
    for name, value in clip.vision_model.state_dict().items():
        assert torch.equal(own[name], value), name


def near(reached: dict, claim: dict) -> None:
    """No figure on a few scenes lies far below the card's: four standard errors of a share, and a floor of 4 %."""
    for (path, value), (_, promised) in zip(card.flat(reached), card.flat(claim), strict=True):
        if path != "retrieval_among":
            slack = max(0.04, 4 * (promised * (1 - promised) / SCENES) ** 0.5)
            assert value >= promised - slack, (path, value, promised)


def test_clip_reaches_its_card(claimed):
    near(scores.measure("clip", assets() / "clip", SCENES), claimed["clip"]["scores"])


def test_encoder_reaches_its_card(claimed):
    near(scores.measure("encoder", assets() / "encoder", SCENES), claimed["encoder"]["scores"])


def test_llava_reaches_its_card(claimed):
    near(scores.measure("llava", assets() / "llava", SCENES), claimed["llava"]["scores"])


def test_the_figures_are_worth_shipping(claimed):
    clip, told = claimed["clip"]["scores"], claimed["llava"]["scores"]
    seen = claimed["encoder"]["scores"]["probe_pooled"]
    assert clip["probe_mean_token"]["kind"] >= 0.95 and clip["probe_patch"]["kind"] >= 0.95
    assert min(told["requests_exact"].values()) >= 0.95 and told["two_objects"]["kinds_in_any_order"] >= 0.95
    assert seen["kind"] >= 0.95 and seen["colour"] >= 0.95 and seen["fill"] >= 0.9
    assert told["one_object"]["kinds"] >= 0.95 and told["blank_named_blank"] >= 0.95 and told["grammatical"] >= 0.98


def test_the_card_is_made_of_the_scores(claimed):
    page = (assets() / "README.md").read_text()
    assert page == card.card(assets(), claimed)
    for name in MODELS:
        for path, value in card.flat(claimed[name]["scores"]):
            assert re.search(rf"^\| {re.escape(path)} \| {value} \|$", page, re.M), path


def test_batches_of_mixed_questions_are_answered_as_alone(llava):
    """Left padding, chat template and image tokens work for lists of pictures, as pipelines use them."""
    model, processor = llava
    pictures = [world.draw(one) for one in world.scenes(6, 55)]
    asked = [REQUESTS[name] for name in ("describe", "short", "word")] * 2
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}],
            add_generation_prompt=True,
        )
        for prompt in (request.questions[0] for request in asked)
    ]

    def generate(texts: list[str], pictures: list) -> list[str]:
        inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=20)
        return processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    together = generate(texts, pictures)
    assert together == [generate([text], [picture])[0] for text, picture in zip(texts, pictures, strict=True)]
    assert all(request.read(answer) for request, answer in zip(asked, together, strict=True))


def test_half_precision_sees_the_same():
    folder = assets() / "clip"
    inputs = AutoImageProcessor.from_pretrained(folder)([world.draw(world.scene(2, 3))], return_tensors="pt")
    with torch.no_grad():
        whole = AutoModel.from_pretrained(folder, dtype=torch.float32).vision_model(**inputs).pooler_output
        half = AutoModel.from_pretrained(folder, dtype=torch.float16).vision_model(inputs["pixel_values"].half())
    assert torch.nn.functional.cosine_similarity(whole, half.pooler_output.float()).item() > 0.999


def test_missing_assets_are_a_user_error(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "engine" / "models" / "shipped.py"))
    with pytest.raises(UserError, match=r"python -m engine\.demo\.build"):
        assets()
