import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from engine.errors import UserError
from engine.models import HookPoint, load_encoder
from engine.models.vlm import _eyes, load_vlm, read_hook, wrap
from engine.steer.generate import answer, answers, next_token_kl
from engine.steer.interventions import Intervention, attached
from tests.support.tiny_llava import byte_tokenizer, picture, random_sae, save_llava, word_tokenizer
from tests.support.vlms import VISION, save_vlm, text_config


@pytest.mark.parametrize(
    ("family", "facts"),
    [
        ("LLaVA-NeXT", {"seen": 2, "n_prefix": 1, "alone": True}),
        ("PaliGemma", {"seen": 3, "n_prefix": 0, "alone": False}),
        ("Qwen2-VL", {"seen": 3, "n_prefix": 0, "alone": True}),
        ("Idefics3", {"seen": 3, "n_prefix": 0, "alone": True}),
        ("Pixtral", {"seen": 3, "n_prefix": 0, "alone": True}),
        ("BLIP-2", {"seen": 3, "n_prefix": 1, "alone": False}),
    ],
)
def test_other_families(tmp_path, family, facts):
    """Their vision blocks are found, answers change under the SAE, and batches with an intervention an image (of
    different sizes, so that some are cut into different numbers of tiles) say the same as single answers."""
    save_vlm(family, tmp_path)

    vlm = load_vlm(str(tmp_path), "cpu")
    assert {name: getattr(vlm, name) for name in facts} == facts
    assert (vlm.width, len(vlm.blocks)) == (32, 4)
    assert read_hook(str(tmp_path)) == HookPoint("layer", vlm.seen), "its config says so without its weights"
    sae, steered = random_sae(), Intervention(latents=((3, 100.0),))
    images = [picture(0), picture(1), picture(2).resize((90, 30))]
    single = [answer(vlm, images[0], "what", 8)]
    for image, one in ((images[1], Intervention()), (images[2], steered)):
        untouched = answer(vlm, image, "what", 8)
        with attached(vlm, sae, one):
            single.append(answer(vlm, image, "what", 8))
        assert single[-1] != untouched
    assert answers(vlm, images, "what", 8, sae=sae, interventions=[None, Intervention(), steered]) == single
    kept, clamped = next_token_kl(vlm, images[0], "what", sae, [Intervention(keep_error=True), steered]).tolist()
    assert kept == pytest.approx(0, abs=1e-9)
    assert clamped > 0.01


def test_the_hook_point_of_what_is_no_vlm_is_refused(tmp_path):
    CLIPVisionConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a clip_vision_model, whose vision tower is not known: name a hook point"):
        read_hook(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        read_hook(str(tmp_path))


def test_what_a_llava_says_about_itself(vlm):
    facts = (vlm.seen, vlm.n_prefix, vlm.width, vlm.n_patches, vlm.image_size, vlm.chat, vlm.notes)
    assert facts == (2, 1, 32, 16, (32, 32), True, [])
    assert vlm.blocks == list(vlm.model.model.vision_tower.encoder.layers)


def test_a_full_size_llava_is_understood():
    """LLaVA-1.5-7b: the residual stream after block 22 of 24, 576 patch tokens after CLS."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(LlavaConfig())
    processor = type(
        "Processor", (), {"chat_template": None, "tokenizer": word_tokenizer(), "image_token": "<image>"}
    )()
    vlm = wrap(model, processor, "llava")
    assert (len(vlm.blocks), vlm.seen, vlm.width, vlm.n_patches, vlm.n_prefix) == (24, 22, 1024, 576, 1)


def test_without_a_chat_template_the_form_of_llava_is_used_and_said(tmp_path, vlm):
    bare = load_vlm(str(save_llava(tmp_path / "llava", template=None)), "cpu")
    assert bare.question("what is it") == "USER: <image>\nwhat is it ASSISTANT:"
    assert "no chat template" in bare.notes[0]
    assert answer(bare, picture(), "what is it", 12) == answer(vlm, picture(), "what is it", 12)


def test_the_chat_template_is_the_processors_own(tmp_path):
    template = (
        "{% for c in messages[0]['content'] %}{{ c['text'] if c['type'] == 'text' else '<image>' }}{% endfor %} :"
    )
    vlm = load_vlm(str(save_llava(tmp_path / "llava", template=template)), "cpu")
    assert vlm.question("what is it") == "<image>what is it :"
    assert vlm.notes == []


def test_a_processor_without_a_patch_size_is_completed(tmp_path, vlm):
    folder = save_llava(tmp_path / "llava")
    config = json.loads((folder / "processor_config.json").read_text())
    for key in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"):
        del config[key]
    (folder / "processor_config.json").write_text(json.dumps(config))
    old = load_vlm(str(folder), "cpu")
    assert "no patch size" in old.notes[0]
    assert answer(old, picture(), "what is it", 12) == answer(vlm, picture(), "what is it", 12)


def test_a_processor_that_counts_wrong_is_explained(tmp_path):
    folder = save_llava(tmp_path / "llava")
    config = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({**config, "num_additional_image_tokens": 0}))
    with pytest.raises(UserError, match=r"another number of image tokens .* correct patch_size"):
        answer(load_vlm(str(folder), "cpu"), picture(), "what", 2)


def test_the_weights_are_those_on_disk_in_the_chosen_dtype(llava_folder):
    whole = load_vlm(str(llava_folder), "cpu").model
    half = load_vlm(str(llava_folder), "cpu", torch.bfloat16).model
    assert whole.dtype == torch.float32
    assert torch.equal(half.lm_head.weight, whole.lm_head.weight.bfloat16())
    assert not whole.training


@pytest.fixture
def damaged(llava_folder, tmp_path):
    """A copy of the model to break."""
    return shutil.copytree(llava_folder, tmp_path / "damaged")


def refused(spec) -> str:
    with pytest.raises(UserError) as error:
        load_vlm(str(spec), "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_such_directory(tmp_path):
    assert "There is no directory" in refused(tmp_path / "nowhere")
    assert "no config.json" in refused(tmp_path)


def test_an_unknown_model_of_the_hub_offline():
    message = refused("hf:nobody/no-such-llava")
    assert "hf:nobody/no-such-llava is not on this machine" in message


@pytest.mark.parametrize("missing", ["tokenizer.json", "processor_config.json"])
def test_a_missing_file_of_the_processor_is_named(damaged, missing):
    (damaged / missing).unlink()
    assert f"lacks {missing}" in refused(damaged)


def test_no_processor_at_all(damaged):
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        (damaged / name).unlink()
    message = refused(damaged)
    assert "processor_config.json" in message
    assert "tokenizer.json" in message


def test_no_weights_and_truncated_weights(damaged):
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "Cannot load" in refused(damaged)
    weights.unlink()
    assert "Cannot load" in refused(damaged)


def test_weights_that_lack_a_tensor(damaged):
    from safetensors.torch import load_file, save_file

    tensors = load_file(damaged / "model.safetensors")
    name = next(name for name in tensors if "multi_modal_projector" in name)
    del tensors[name]
    save_file(tensors, damaged / "model.safetensors", metadata={"format": "pt"})
    assert "lacks model.multi_modal_projector" in refused(damaged)


def test_pickled_weights_are_not_read(damaged):
    from safetensors.torch import load_file

    torch.save(load_file(damaged / "model.safetensors"), damaged / "pytorch_model.bin")
    (damaged / "model.safetensors").unlink()
    assert "safetensors" in refused(damaged)


def test_models_that_cannot_answer_about_images(tmp_path):
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path / "clip")
    assert "is a clip_vision_model, not a vision-language model" in refused(tmp_path / "clip")
    LlamaForCausalLM(LlamaConfig(**text_config(byte_tokenizer()))).save_pretrained(tmp_path / "llama")
    assert "is a llama, not a vision-language model" in refused(tmp_path / "llama")


def save_blip(folder):
    """A captioner, whose class of transformers shows its tower images only together with a text."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = word_tokenizer()
    made = BlipConfig(vision_config=VISION, text_config={**text, "vocab_size": len(tokenizer)}, projection_dim=32)
    BlipForConditionalGeneration(made).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)


def test_both_halves_refuse_what_shows_no_image_to_its_tower(tmp_path):
    save_blip(tmp_path)
    with pytest.raises(UserError, match=r"no way to show an image .* use a family that the README lists") as error:
        load_encoder(str(tmp_path))
    assert refused(tmp_path) == str(error.value)


@pytest.mark.parametrize("kind", ["idefics", "gemma4", "janus"])
def test_every_kind_is_taken_or_refused_in_a_sentence(kind):
    """Towers that are none of transformers' own, are not there, or are shown images by the model's body."""
    assert taken_or_refused(kind), "it can be made from its defaults, so that it was tried"


@pytest.mark.slow
def test_every_kind_that_transformers_has_is_taken_or_refused_in_a_sentence():
    kinds = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    assert sum(map(taken_or_refused, kinds)) > len(kinds) / 2


def taken_or_refused(kind) -> bool:
    """Whether ``wrap`` was asked at all: some kinds cannot be made without more settings than their defaults."""
    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(kind))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    processor = type("Processor", (), {"chat_template": None, "tokenizer": word_tokenizer(), "image_token": "<i>"})()
    try:
        vlm = wrap(model, processor, kind)
    except UserError as error:
        assert "\n" not in str(error) and str(error).endswith(".")
    else:
        assert callable(_eyes(vlm.model).get_image_features)
    return True


def test_a_tower_that_is_not_the_one_that_sees_is_refused(vlm):
    """As of T5Gemma 2, whose encoder is of text as well."""
    other = SimpleNamespace(base_model=None, get_encoder=lambda modality: vlm.model.model.vision_tower)
    other.get_image_features = lambda pixel_values: pixel_values
    with pytest.raises(UserError, match=r"does not show images to its CLIPVisionModel: .* a family that the README"):
        replace(vlm, model=other).look(vlm.visual([picture()]))
    other.get_image_features = lambda pixel_values, grid: pixel_values
    with pytest.raises(UserError, match=r"cannot be shown an image alone .*'grid'"):
        replace(vlm, model=other).look(vlm.visual([picture()]))


def test_a_model_without_vision_blocks():
    processor = type("Processor", (), {"image_processor": CLIPImageProcessor(), "tokenizer": word_tokenizer()})()
    with pytest.raises(UserError, match=r"Found no vision blocks in LlamaForCausalLM .* looked for"):
        wrap(LlamaForCausalLM(LlamaConfig(**text_config(word_tokenizer()))), processor)


ENDLESS = "{% for a in range(90000) %}{% for b in range(90000) %}{% set c = a %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(("template", "said"), [(ENDLESS, "does not end"), ("{{ raise_exception('no') }}", "fails")])
def test_a_chat_template_that_fails_or_does_not_end_is_a_sentence(template, said, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.models.vlm.PATIENCE", 0.5)
    with pytest.raises(UserError, match=f"chat template {said}"):
        load_vlm(str(save_llava(tmp_path / "llava", template=template)), "cpu")


@pytest.mark.parametrize("load", [load_encoder, load_vlm])
@pytest.mark.parametrize(
    "spec", ["hf-hub:org/name", "openclip:hf-hub:org/name", "https://huggingface.co/org/name/tree/main"]
)
def test_a_notation_of_other_programs_names_ours(load, spec):
    with pytest.raises(UserError, match=r"write hf:org/name\.$"):
        load(spec)


def test_a_tower_is_shown_strips_one_at_a_time_and_sees_the_same(tmp_path, monkeypatch):
    encoder = load_encoder(str(save_llava(tmp_path / "m")))
    images = [picture(0).resize((400, 4)), picture(1), picture(2)]
    together, shown = encoder.vlm.visual(images), []
    visual = encoder.vlm.visual
    monkeypatch.setattr(encoder.vlm, "visual", lambda some: shown.append(len(some)) or visual(some))
    assert encoder.preprocess(images).keys() == together.keys() and shown == [1, 1, 1]
    torch.testing.assert_close(encoder.preprocess(images), together, atol=0, rtol=0)
