import json
import shutil

import pytest
import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    GemmaConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from engine.errors import UserError
from engine.models import HookPoint
from engine.models.vlm import load_vlm, read_hook, wrap
from engine.steer.generate import answer, answers, next_token_kl
from engine.steer.interventions import Intervention, attached
from tests.support.tiny_llava import TEMPLATE, byte_tokenizer, picture, random_sae, save_llava, word_tokenizer

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
          "image_size": 32, "patch_size": 8}  # fmt: skip


def text_config(tokenizer, **more):
    return {
        "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, **more,
    }  # fmt: skip


def llava_next():
    tokenizer, grid = word_tokenizer(), [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**text_config(tokenizer)),
        image_token_index=4,
        image_grid_pinpoints=grid,
    )
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=grid
    )
    processor = LlavaNextProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return LlavaNextForConditionalGeneration(config), processor, {"seen": 2, "n_prefix": 1}


def paligemma():
    tokenizer = word_tokenizer()
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=GemmaConfig(**text_config(tokenizer), head_dim=24),
        image_token_index=4,
        projection_dim=48,
    )
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)
    return PaliGemmaForConditionalGeneration(config), processor, {"seen": 3, "n_prefix": 0}


def qwen2_vl():
    tokenizer = word_tokenizer()
    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.image_token = names[0]
    tokenizer.add_tokens(names, special_tokens=True)
    image, video, start, end = tokenizer.convert_tokens_to_ids(names)
    rope = {"rope_type": "default", "mrope_section": [2, 4, 6], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        vision_config={"depth": 4, "embed_dim": 32, "hidden_size": 48, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8},
        text_config=text_config(tokenizer, rope_parameters=rope),
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    processor = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=8, min_pixels=1024, max_pixels=4096),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=8),
        chat_template=TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return Qwen2VLForConditionalGeneration(config), processor, {"seen": 3, "n_prefix": 0}


def idefics3():
    tokenizer = word_tokenizer()
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    marks = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_tokens([*marks, *tiles], special_tokens=True)
    config = Idefics3Config(
        vision_config=VISION,
        text_config=text_config(tokenizer, model_type="llama"),
        image_token_id=4,
        scale_factor=2,
    )
    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(images, tokenizer=tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return Idefics3ForConditionalGeneration(config), processor, {"seen": 3, "n_prefix": 0}


@pytest.mark.parametrize("make", [llava_next, paligemma, qwen2_vl, idefics3])
def test_other_families(tmp_path, make):
    """Their vision blocks are found, answers change under the SAE, and batches with an intervention an image (of
    different sizes, so that some are cut into different numbers of tiles) say the same as single answers."""
    model, processor, facts = make()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

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
    with pytest.raises(UserError, match=r"Cannot read the config\.json"):
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


def test_a_model_without_vision_blocks():
    processor = type("Processor", (), {"image_processor": CLIPImageProcessor(), "tokenizer": word_tokenizer()})()
    with pytest.raises(UserError, match=r"Found no vision blocks in LlamaForCausalLM .* looked for"):
        wrap(LlamaForCausalLM(LlamaConfig(**text_config(word_tokenizer()))), processor)
