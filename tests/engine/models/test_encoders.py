"""Our activations are the library's own, family by family."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.errors import UserError
from engine.files import file_sha256, read_json, write_json
from engine.models import HookPoint, load_encoder, same_model
from tests.support.checkpoints import (
    AIM,
    VISION,
    bare,
    build,
    llava,
    open_clip_model,
    pictures,
    save,
    save_open_clip,
    tokenizer,
)

WORDS = ("red", "fish", "a", "of")
LAYERS = [HookPoint("layer", n) for n in range(3)]
LAST = HookPoint("last")
FAMILIES = {  # family: (n_prefix, has_cls, width of last)
    "clip": (1, True, 16),
    "clip-vision": (1, True, 32),
    "clip-projected": (1, True, 16),
    "siglip": (0, False, 32),
    "siglip-vision": (0, False, 32),
    "siglip2": (0, False, 32),
    "dinov2": (1, True, 32),
    "dinov2-registers": (5, True, 32),
    "aimv2": (0, False, 16),
    "aimv2-vision": (0, False, 32),
    "vit": (1, True, 32),
    "deit": (2, True, 32),
}


def library_states(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What each block puts out, by the library's own hidden_states: element N + 1 is the output of block N."""
    vision = getattr(model, "vision_model", model)
    with torch.no_grad():
        return list(vision(**inputs, output_hidden_states=True).hidden_states[1:])


def library_last(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        if hasattr(model, "get_image_features"):
            return model.get_image_features(**inputs).pooler_output
        output = model(**inputs)
        return output.image_embeds if "image_embeds" in output else output.pooler_output


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_the_librarys(family: str, tmp_path: Path) -> None:
    model = build(family)
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(3))
    taken = encoder.activations(inputs, [*LAYERS, LAST])
    states = library_states(model, inputs)
    assert len(states) == encoder.n_layers == 3
    # Families differ in whether the library's last hidden state has passed the final norm; ours never has.
    for hook, state in zip(LAYERS[:2], states[:2], strict=True):
        torch.testing.assert_close(taken[hook], state, atol=1e-5, rtol=1e-5)
    seen = []
    blocks = dict(encoder.model.named_modules())
    name = next(n for n, m in blocks.items() if m is encoder.blocks[2])
    handle = dict(model.named_modules())[name].register_forward_hook(lambda *a: seen.append(a[2]))
    last = library_last(model, inputs)
    handle.remove()
    torch.testing.assert_close(taken[LAYERS[2]], seen[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(taken[LAST][:, 0], last, atol=1e-5, rtol=1e-5)
    assert (encoder.n_prefix, encoder.has_cls, encoder.width(LAST)) == FAMILIES[family]
    assert encoder.width(LAYERS[1]) == 32 and encoder.dtype == torch.float32
    assert encoder.grid == (None if family == "siglip2" else (4, 4))


@pytest.mark.parametrize("family", ["clip", "siglip2", "dinov2-registers", "aimv2", "open_clip"])
def test_what_stands_in_place_of_activations_is_all_that_is_read(family: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    saved = save_open_clip(open_clip_model(), path) if family == "open_clip" else save(build(family), path)
    encoder = load_encoder(str(saved))
    inputs, hook, other = encoder.preprocess(pictures(3)), HookPoint("layer", 1), HookPoint("mlp", 2)
    taken = encoder.activations(inputs, [hook, other, LAST])
    last = taken[LAST][:, 0]
    torch.testing.assert_close(encoder.output(inputs, 3, {hook: lambda x, _: x, other: lambda x, _: x}), last)
    turned = {at: encoder.output(inputs, 3, {at: lambda x, _: x.roll(1, 0)}) for at in (hook, LAST)}
    # Who reads the stream of another image sees that image; no block reads anything but the stream.
    for rolled in turned.values():
        torch.testing.assert_close(rolled, last.roll(1, 0), atol=1e-5, rtol=1e-5)
    seen: list[torch.Tensor] = []
    zeros = encoder.output(inputs, 3, {other: lambda x, given: seen.append(x) or torch.zeros_like(x)})
    torch.testing.assert_close(seen[0], taken[other])
    mlp = dict(encoder.blocks[2].named_children())
    module = next(mlp[name] for name in ("mlp", "ffn") if name in mlp)
    module.forward = lambda hidden, run=module.forward: run(hidden) * 0  # the library, where its MLP does nothing
    torch.testing.assert_close(zeros, encoder.activations(inputs, [LAST])[LAST][:, 0], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(zeros, last, atol=1e-3)
    assert not any(module._forward_hooks for module in encoder.model.modules()), "no hook stays"


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "aimv2", "vit"])
def test_last_block_is_the_librarys_where_that_is_not_normed(family: str, tmp_path: Path) -> None:
    model = build(family)
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    ours = encoder.activations(inputs, [LAYERS[2]])[LAYERS[2]]
    torch.testing.assert_close(ours, library_states(model, inputs)[2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip2", "dinov2-registers", "aimv2"])
def test_mlp_is_the_blocks_mlp_output(family: str, tmp_path: Path) -> None:
    """Recomputed: the block's residual stream minus its MLP branch (scaled where the family scales it)."""
    model: Any = build(family)
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    hook = HookPoint("mlp", 1)
    taken = encoder.activations(inputs, [hook, LAYERS[1]])
    block: Any = encoder.blocks[1]
    mlp = getattr(block, "mlp", None) or block.ffn
    norm = next(getattr(block, n) for n in ("layer_norm2", "norm2", "rms_norm2") if hasattr(block, n))
    scale = block.layer_scale2.lambda1 if hasattr(block, "layer_scale2") else 1.0
    before = taken[LAYERS[1]] - taken[hook] * scale  # the stream between attention and MLP
    torch.testing.assert_close(mlp(norm(before)), taken[hook], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [*FAMILIES, "open_clip"])
def test_attention_is_what_the_mlp_did_not_add(family: str, tmp_path: Path) -> None:
    """A block adds two branches to the stream: attention and MLP (scaled where the family scales them)."""
    path = tmp_path / "m"
    saved = save_open_clip(open_clip_model(), path) if family == "open_clip" else save(build(family), path)
    encoder = load_encoder(str(saved))
    hooks = [HookPoint("layer", 0), HookPoint("attn", 1), HookPoint("mlp", 1), HookPoint("layer", 1)]
    before, attention, mlp, after = encoder.activations(encoder.preprocess(pictures(2)), hooks).values()
    scales = [getattr(encoder.blocks[1], f"layer_scale{n}", None) for n in (1, 2)]
    for scale, branch in zip(scales, (attention, mlp), strict=True):
        before = before + branch * (scale.lambda1 if scale is not None else 1.0)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


def test_several_hooks_in_one_pass_and_no_block_after_the_deepest(tmp_path: Path) -> None:
    encoder = load_encoder(str(save(build("clip"), tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    ran: list[int] = []
    for number, block in enumerate(encoder.blocks):
        block.register_forward_pre_hook(lambda *_, n=number: ran.append(n))
    both = encoder.activations(inputs, [HookPoint("layer", 1), HookPoint("mlp", 0)])
    assert ran == [0, 1] and list(map(str, both)) == ["layer:1", "mlp:0"]
    ran.clear()
    encoder.activations(inputs, [HookPoint("mlp", 0)])
    assert ran == [0]
    ran.clear()
    encoder.activations(inputs, [LAST, HookPoint("layer", 0)])
    assert ran == [0, 1, 2]


def test_hooks_leave_the_model_as_it_was_and_come_before_the_librarys(tmp_path: Path) -> None:
    """The library puts its own hooks on blocks in the first pass that asks for hidden states; ours still see the
    block's output, and what we stop early does not disturb the library's next pass."""
    model: Any = build("clip")
    encoder: Any = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    states = library_states(encoder.model, inputs)
    handle = encoder.blocks[0].register_forward_hook(lambda m, a, output: output + 100)
    moved = encoder.activations(inputs, [LAYERS[0]])[LAYERS[0]]
    handle.remove()
    torch.testing.assert_close(moved, states[0])
    again = library_states(encoder.model, inputs)
    assert len(again) == 3 and all(torch.equal(a, b) for a, b in zip(again, states, strict=True))


def test_siglip2_padding_is_masked(tmp_path: Path) -> None:
    model = build("siglip2")
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(1, (30, 50)) + pictures(1, (50, 50)))
    mask = encoder.token_mask(inputs)
    assert mask is not None
    assert mask.sum(1).tolist() == inputs["spatial_shapes"].prod(1).tolist() and not mask.all()


@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2", "aimv2"])
def test_text_is_embedded_like_the_library_does(family: str, tmp_path: Path) -> None:
    model: Any = build(family)
    folder = save(model, tmp_path / "m", words=WORDS)
    encoder = load_encoder(str(folder))
    texts = ["red fish", "a fish of red"]
    options = {"padding": "max_length", "max_length": 12} if family.startswith("siglip") else {"padding": True}
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **options)
    if family.startswith("siglip"):
        del tokens["attention_mask"]
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        expected = model.get_text_features(**tokens).pooler_output
    assert encoder.has_text
    torch.testing.assert_close(encoder.embed_text(texts), expected, atol=1e-5, rtol=1e-5)


def test_no_text_tower_and_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text tower"):
        load_encoder(str(save(build("dinov2"), tmp_path / "d"))).embed_text(["red"])
    with pytest.raises(UserError, match="no tokenizer"):
        load_encoder(str(save(build("clip"), tmp_path / "c"))).embed_text(["red"])


def test_the_vision_tower_of_a_llava(tmp_path: Path) -> None:
    model: Any = llava()
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    with torch.no_grad():
        states = model.model.vision_tower(**inputs, output_hidden_states=True).hidden_states[1:]
    taken = encoder.activations(inputs, LAYERS)
    for hook, state in zip(LAYERS, states, strict=True):
        torch.testing.assert_close(taken[hook], state, atol=1e-5, rtol=1e-5)
    assert encoder.family == "clip" and not encoder.has_text


def test_vit_mae_sees_every_patch_as_a_plain_vit_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pretraining = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            **VISION,
            decoder_hidden_size=16,
            decoder_num_attention_heads=2,
            decoder_num_hidden_layers=1,
            decoder_intermediate_size=16,
        )
    ).eval()
    plain = transformers.ViTModel(transformers.ViTConfig(**VISION), add_pooling_layer=False).eval()
    plain.load_state_dict(pretraining.vit.state_dict())
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    encoder = load_encoder(str(save(pretraining, tmp_path / "m", processor)))
    inputs = encoder.preprocess(pictures(3))
    taken = encoder.activations(inputs, LAYERS)
    for hook, state in zip(LAYERS, library_states(plain, inputs), strict=True):
        torch.testing.assert_close(taken[hook], state, atol=1e-5, rtol=1e-5)
    assert encoder.grid == (4, 4) and encoder.has_cls


def test_stochastic_depth_masks_and_dropout_of_training_are_off(tmp_path: Path) -> None:
    settings = {**VISION, "hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    masked = transformers.BeitForMaskedImageModeling(
        transformers.BeitConfig(**settings, drop_path_rate=0.5, use_mask_token=True, vocab_size=30)
    )
    processor = transformers.BeitImageProcessor(size={"height": 32, "width": 32})
    encoder = load_encoder(str(save(masked, tmp_path / "m", processor)))
    inputs = encoder.preprocess(pictures(2))
    with torch.no_grad():
        states = masked.eval().beit(**inputs, output_hidden_states=True).hidden_states[1:]
    torch.testing.assert_close(encoder.activations(inputs, [LAYERS[2]])[LAYERS[2]], states[2])


def test_a_forward_pass_that_draws_is_refused(tmp_path: Path) -> None:
    encoder: Any = load_encoder(str(save(build("clip"), tmp_path / "m")))
    encoder.blocks[0].register_forward_hook(lambda m, a, output: output + torch.rand(1))
    with pytest.raises(UserError, match="draws random numbers"):
        encoder.shape(LAYERS[1])


def test_models_of_something_else_than_images(tmp_path: Path) -> None:
    t = transformers
    video = t.VideoMAEModel(t.VideoMAEConfig(**VISION, num_frames=4))
    joint = t.VJEPA2Model(
        t.VJEPA2Config(
            crop_size=32,
            patch_size=8,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            pred_hidden_size=16,
            pred_num_attention_heads=4,
            pred_num_hidden_layers=1,
        )
    )
    words = t.BertModel(t.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32))
    backbone = t.VitPoseBackbone(t.VitPoseBackboneConfig(**{**VISION, "image_size": [32, 32], "patch_size": [8, 8]}))
    for model, what in ((video, "videos"), (joint, "videos"), (words, "no images"), (backbone, "no encoder")):
        folder = save(model, tmp_path / what, t.ViTImageProcessor(size={"height": 32, "width": 32}))
        with pytest.raises(UserError, match=f"{what}: give an encoder of single images"):
            load_encoder(str(folder))


def test_tokens_before_and_after_the_patches(tmp_path: Path) -> None:
    """Pixio has eight CLS tokens, RADIO registers beside them; YOLOS puts its own behind, which nobody counts."""
    t = transformers
    processor = t.ViTImageProcessor(size={"height": 32, "width": 32})
    plain = {key: value for key, value in VISION.items() if key != "intermediate_size"}
    pixio = load_encoder(str(save(t.PixioModel(t.PixioConfig(**plain, n_cls_tokens=8)), tmp_path / "p", processor)))
    radio = load_encoder(str(save(t.RadioModel(t.RadioConfig(**VISION)), tmp_path / "r", processor)))
    assert (pixio.n_prefix, pixio.grid, radio.grid) == (8, (4, 4), (4, 4))
    settings = {**VISION, "image_size": [32, 32], "num_detection_tokens": 3}
    yolos = load_encoder(str(save(t.YolosModel(t.YolosConfig(**settings)), tmp_path / "y", processor)))
    with pytest.raises(UserError, match=r"19 tokens for 4 x 4 patches.* use --tokens all"):
        yolos.check_patches()
    pixio.check_patches()


# Preprocessing


@pytest.mark.parametrize(
    ("family", "processor"),
    [
        ("clip", transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})),
        ("siglip", transformers.SiglipImageProcessor(size={"height": 32, "width": 32})),
        ("dinov2", transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})),
    ],
)
def test_the_checkpoints_own_preprocessing_is_used(family: str, processor: Any, tmp_path: Path) -> None:
    encoder = load_encoder(str(save(build(family), tmp_path / "m", processor)))
    images = pictures(3) + pictures(1, (64, 33))
    assert not encoder.warnings
    expected = processor(images=images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.preprocess(images)["pixel_values"], expected, atol=0, rtol=0)
    json.dumps(encoder.preprocessing)


def test_a_whole_processor_is_found(tmp_path: Path) -> None:
    image_processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3]
    )
    processor = transformers.CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer(WORDS))
    encoder = load_encoder(str(save(build("clip"), tmp_path / "m", processor)))
    assert not encoder.warnings and encoder.preprocessing["image_mean"] == [0.1, 0.2, 0.3]
    assert encoder.embed_text(["red"]).shape == (1, 16)


@pytest.mark.parametrize("family", ["clip", "clip-vision", "siglip2", "aimv2-vision", "deit"])
def test_without_a_processor_the_familys_own_at_the_models_size(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(str(bare(save(build(family), tmp_path / "m"))))
    assert "preprocessor_config.json" in encoder.warnings[0]
    assert f"mean {encoder.preprocessing['image_mean']}" in encoder.warnings[0]
    pixels = encoder.preprocess(pictures(2, (45, 70)))["pixel_values"]
    assert pixels.shape == ((2, 16, 192) if family == "siglip2" else (2, 3, 32, 32))
    means = {"siglip2": 0.5, "deit": 0.485}
    assert encoder.preprocessing["image_mean"][0] == pytest.approx(means.get(family, 0.4815), abs=1e-4)


@pytest.mark.parametrize(("side", "resized"), [(224, 256), (384, 438)])
def test_without_a_processor_deit_is_prepared_as_published(side: int, resized: int, tmp_path: Path) -> None:
    """facebook/deit-base-distilled-patch16-384 resizes to 438, not 439."""
    model = transformers.DeiTModel(transformers.DeiTConfig(**{**VISION, "image_size": side, "patch_size": 32}))
    published = transformers.DeiTImageProcessor(
        size={"height": resized, "width": resized},
        crop_size={"height": side, "width": side},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    encoder = load_encoder(str(bare(save(model, tmp_path / "m"))))
    expected = published(images=pictures(2, (300, 400)), return_tensors="pt")["pixel_values"]
    prepared = encoder.preprocess(pictures(2, (300, 400)))["pixel_values"]
    torch.testing.assert_close(prepared, expected, atol=0, rtol=0)


def unprepared() -> dict[str, Any]:
    """Families whose checkpoints are not all prepared as their class of transformers does by default."""
    t = transformers
    return {
        "dinov3_vit": t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION)),
        "vit_mae": t.ViTMAEModel(t.ViTMAEConfig(**VISION)),
        "beit": t.BeitModel(t.BeitConfig(**VISION)),
        "ijepa": t.IJepaModel(t.IJepaConfig(**VISION)),
        "metaclip_2": t.MetaClip2VisionModel(t.MetaClip2VisionConfig(**VISION)),
        "vit": build("vit"),  # google's .5, facebook's DINO ImageNet's
        "siglip": build("siglip"),  # bicubic, of fixed size and SigLIP 2 bilinear
        "dinov2": build("dinov2"),  # ImageNet's, RAD-DINO its own
        "dinov2_with_registers": build("dinov2-registers"),
        "clip": t.CLIPVisionModel(t.CLIPVisionConfig(**VISION, hidden_act="gelu")),  # of LAION's some .5
        "aimv2": t.Aimv2VisionModel(t.Aimv2VisionConfig(**AIM, is_native=True)),  # of any size
    }


@pytest.mark.parametrize("family", [*unprepared()])
def test_without_a_processor_other_families_are_refused_and_the_file_that_is_named_gets_one_out(
    family: str, tmp_path: Path
) -> None:
    folder = bare(save(unprepared()[family], tmp_path / "m"))
    with pytest.raises(
        UserError, match=rf"no preprocessor_config.json, and not all {family} models .*beside its weights"
    ):
        load_encoder(str(folder))
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(folder)
    encoder = load_encoder(str(folder))
    assert not encoder.warnings
    expected = processor(images=pictures(2), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.preprocess(pictures(2))["pixel_values"], expected, atol=0, rtol=0)


def test_a_model_of_timm_is_prepared_as_its_config_says(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch14_reg4_dinov2", depth=3, img_size=56).eval()
    save_for_hf(model, tmp_path / "m", model_args={"depth": 3, "img_size": 56})
    encoder = load_encoder(str(tmp_path / "m"))
    assert (encoder.n_layers, encoder.n_prefix, encoder.has_cls, encoder.grid) == (3, 5, True, (4, 4))
    assert not encoder.warnings and encoder.preprocessing["data_config"]["mean"] == [0.485, 0.456, 0.406]
    images = pictures(2)
    settings = timm.data.resolve_data_config({**model.pretrained_cfg, "input_size": (3, 56, 56)})
    transform = timm.data.create_transform(**settings, is_training=False)
    inputs = encoder.preprocess(images)
    torch.testing.assert_close(inputs["pixel_values"], torch.stack([transform(image) for image in images]))
    with torch.no_grad():
        patches, last = (
            model.forward_intermediates(inputs["pixel_values"], indices=[1], intermediates_only=True, output_fmt="NLC")[
                0
            ],
            model(inputs["pixel_values"]),
        )
    taken = encoder.activations(inputs, [LAYERS[1], LAST])
    torch.testing.assert_close(taken[LAYERS[1]][:, 5:], patches)
    torch.testing.assert_close(taken[LAST][:, 0], last)


def test_a_processor_of_another_size_is_refused_in_words(tmp_path: Path) -> None:
    encoder = load_encoder(str(save(build("clip"), tmp_path / "m", transformers.CLIPImageProcessor())))
    with pytest.raises(UserError, match=r"does not take the 3 x 224 x 224 inputs .* preprocessor_config.json"):
        encoder.width(LAYERS[0])


def test_strips_take_little_memory_and_are_prepared_as_the_library_does(tmp_path: Path) -> None:
    """Resizing the short side of 2 x 400 pixels to 224 makes 30 MB of it, before the centre is cut out."""
    processor = transformers.CLIPImageProcessor()
    config = transformers.CLIPVisionConfig(**{**VISION, "image_size": 224, "patch_size": 56})
    folder = save(transformers.CLIPVisionModel(config), tmp_path / "m", processor)
    encoder = load_encoder(str(folder))
    images = [*pictures(2, (400, 2)), *pictures(1)]
    expected = processor(images=images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder.preprocess(images)["pixel_values"], expected, atol=0, rtol=0)
    measured = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True)
    assert float(measured.stdout) < 0.5  # GB; 1 when four threads prepare eight at once


MEASURE = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from engine.models import load_encoder
from tests.support.checkpoints import pictures

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)

encoder = load_encoder(sys.argv[1])
encoder.preprocess(pictures(16, (300, 300)))
before, strips = most(), pictures(8, (400, 2))
with ThreadPoolExecutor(4) as pool:
    list(pool.map(encoder.preprocess, [strips] * 4))
print(most() - before)
"""


# What goes wrong


def test_hook_points_that_are_not_there(tmp_path: Path) -> None:
    encoder = load_encoder(str(save(build("clip"), tmp_path / "m")))
    with pytest.raises(UserError, match="layer:0 to layer:2"):
        encoder.check(HookPoint("layer", 3))


def test_a_hierarchical_model_has_no_layers(tmp_path: Path) -> None:
    config = transformers.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 2])
    config.window_size = 4
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    encoder = load_encoder(str(save(transformers.SwinModel(config).eval(), tmp_path / "m", processor)))
    with pytest.raises(UserError, match="only hook point is last"):
        encoder.check(HookPoint("layer", 0))
    assert encoder.width(LAST) == 32 and encoder.grid is None


def test_a_classifier_is_read_as_its_encoder_without_an_untrained_head(tmp_path: Path) -> None:
    config = transformers.ViTConfig(**{**build("vit").config.to_dict(), "num_labels": 3})
    model: Any = transformers.ViTForImageClassification(config).eval()
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    torch.testing.assert_close(
        encoder.activations(inputs, [LAYERS[1]])[LAYERS[1]], library_states(model.vit, inputs)[1]
    )
    with pytest.raises(UserError, match=r"no last \(the checkpoint lacks pooler.*\): use layer:2.$") as refused:
        encoder.activations(inputs, [LAST])
    encoder.check(HookPoint.parse(str(refused.value).rpartition(" ")[2].rstrip(".")))


def test_a_model_without_any_hook_point_names_none(tmp_path: Path) -> None:
    """SAM's blocks give maps, not sequences of tokens, and nothing is pooled."""
    small = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
    vision = {**small, "num_hidden_layers": 2, "num_attention_heads": 2, "output_channels": 16, "mlp_dim": 32}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.SamConfig(
        vision_config={**vision, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8},
        prompt_encoder_config={**small, "mask_input_channels": 4},
        mask_decoder_config={**decoder, "iou_head_hidden_dim": 16},
    )
    processor = transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    encoder = load_encoder(str(save(transformers.SamModel(config).eval(), tmp_path / "m", processor)))
    for hook in (LAST, *LAYERS):
        with pytest.raises(
            UserError, match=r"has no last(: use| \(.*\), nor tokens of layers: give) another encoder.$"
        ):
            encoder.shape(hook)


def test_broken_checkpoints_are_named(tmp_path: Path) -> None:
    good = save(build("clip"), tmp_path / "good")
    cut = tmp_path / "cut"
    shutil.copytree(good, cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    unknown = tmp_path / "unknown"
    shutil.copytree(good, unknown)
    config = json.loads((unknown / "config.json").read_text())
    (unknown / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    own_code = tmp_path / "own"
    shutil.copytree(good, own_code)
    auto = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (own_code / "config.json").write_text(json.dumps({**config, **auto}))
    (own_code / "mine.py").write_text("raise SystemExit('code of a checkpoint was run')")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(good / "config.json", bare)
    (tmp_path / "empty").mkdir()
    for name in ("cut", "unknown", "own", "bare", "empty", "nowhere"):
        with pytest.raises(UserError, match=name):
            load_encoder(str(tmp_path / name))


def test_lost_weights_are_named(tmp_path: Path) -> None:
    folder = save(build("clip"), tmp_path / "m")
    state = load_file(folder / "model.safetensors")
    lost = next(name for name in state if "layers.1.mlp.fc1.weight" in name and "vision" in name)
    del state[lost]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks .*layers.1.mlp.fc1.weight"):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("family", "lost"),
    [
        ("vit", "embeddings.patch_embeddings.projection.weight"),
        ("vit", "embeddings.cls_token"),
        ("clip", "text_projection.weight"),
        ("clip", "vision_model.pre_layrnorm.weight"),
        ("siglip", "text_model.head.weight"),
        ("dinov2", "layernorm.weight"),
    ],
)
def test_no_weight_that_is_lost_starts_at_random(family: str, lost: str, tmp_path: Path) -> None:
    folder = save(build(family), tmp_path / "m")
    state = weights_of(folder)
    state.pop(lost)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"lacks {lost} and 0 more weights.*or correct config.json"):
        load_encoder(str(folder))


def test_weights_for_which_the_config_has_no_place_are_named(tmp_path: Path) -> None:
    """A config of fewer layers, or without registers, would leave them out without a word; heads of tasks may go."""
    fewer = save(build("clip"), tmp_path / "fewer")
    config = json.loads((fewer / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 2
    (fewer / "config.json").write_text(json.dumps(config))
    plain = save(build("dinov2-registers"), tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "model_type": "dinov2", "architectures": ["Dinov2Model"]}))
    for folder, extra in ((fewer, r"vision_model.encoder.layers.2"), (plain, "embeddings.register_tokens")):
        with pytest.raises(UserError, match=rf"has {extra}.* has no place"):
            load_encoder(str(folder))


def test_a_prefix_that_no_class_writes_is_no_model_of_random_weights(tmp_path: Path) -> None:
    folder = save(build("vit"), tmp_path / "m")
    state = {f"module.{name}": value for name, value in weights_of(folder).items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks embeddings.cls_token"):
        load_encoder(str(folder))


def test_shards_are_read_and_a_lost_one_is_named(tmp_path: Path) -> None:
    model: Any = build("vit")
    whole = load_encoder(str(save(model, tmp_path / "whole")))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    inputs = whole.preprocess(pictures(1))
    cut = load_encoder(str(tmp_path / "cut"))
    assert len(cut.weights) > 1
    torch.testing.assert_close(cut.activations(inputs, [LAST])[LAST], whole.activations(inputs, [LAST])[LAST])
    lost = cut.weights[1]
    lost.unlink()
    with pytest.raises(UserError, match=lost.name):
        load_encoder(str(tmp_path / "cut"))


def test_the_file_that_is_given_is_the_one_that_is_read(tmp_path: Path) -> None:
    folder = save(build("vit"), tmp_path / "m")
    assert load_encoder(str(folder / "model.safetensors")).n_layers == 3
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    with pytest.raises(UserError, match=r"reads model.safetensors, not other.safetensors: .* copy other.safetensors"):
        load_encoder(str(folder / "other.safetensors"))


def test_a_classifier_of_siglip_has_only_its_vision_side(tmp_path: Path) -> None:
    config = build("siglip").config
    model: Any = transformers.SiglipForImageClassification(config).eval()
    encoder = load_encoder(str(save(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    states = library_states(model, inputs)
    torch.testing.assert_close(encoder.activations(inputs, [LAYERS[1]])[LAYERS[1]], states[1])
    assert not encoder.has_text


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_models_that_are_not_at_hand() -> None:
    with pytest.raises(UserError, match=r"hf:no-such/model is not on this machine"):
        load_encoder("hf:no-such/model")
    with pytest.raises(UserError, match="did you mean hf:openai/clip"):
        load_encoder("openai/clip")


def test_identity_is_the_weights_and_the_architecture(tmp_path: Path) -> None:
    folder = save(build("clip"), tmp_path / "m")
    encoder = load_encoder(str(folder))
    weights = file_sha256(folder / "model.safetensors")
    assert encoder.sha256 and encoder.sha256.startswith(f"{weights}.") and encoder.revision is None
    assert encoder.spec == str(folder) and encoder.family == "clip"
    config = read_json(folder / "config.json")
    config["vision_config"]["hidden_act"] = "gelu_new"
    write_json(folder / "config.json", config)
    other = load_encoder(str(folder)).sha256
    assert other and other.startswith(weights) and not same_model(encoder.sha256, other)
    assert same_model(weights, other) and same_model(other, weights), "older artefacts know the weights alone"
    assert not same_model(None, other) and same_model(None, None)


def test_half_precision(tmp_path: Path) -> None:
    folder = str(save(build("siglip"), tmp_path / "m"))
    half, full = load_encoder(folder, dtype=torch.bfloat16), load_encoder(folder)
    inputs = full.preprocess(pictures(2))
    taken = half.activations(inputs, [LAST])[LAST]
    assert taken.dtype == torch.bfloat16
    torch.testing.assert_close(taken.float(), full.activations(inputs, [LAST])[LAST], atol=0.1, rtol=0.1)


def unpooled() -> dict[str, tuple[Any, str]]:
    """Models without ``last`` whose blocks give no tokens either, or that want a text, and what is said of them."""
    t = transformers
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sam = t.SamVisionConfig(**sizes, mlp_dim=48, window_size=2, global_attn_indexes=[1], output_channels=16)
    cvt = t.CvtConfig(embed_dim=[8, 16, 32], num_heads=[1, 1, 2], depth=[1, 2, 3])
    vilt = t.ViltConfig(**sizes, intermediate_size=48, vocab_size=40)
    return {
        "sam": (t.SamVisionModel(sam), "nor tokens of layers: give another encoder"),
        "cvt": (t.CvtModel(cvt), "(use|give) another encoder"),
        "vilt": (t.ViltModel(vilt), "a vilt, which reads images only together with a text: give an encoder of single"),
    }


@pytest.mark.parametrize("family", [*unpooled()])
def test_what_has_no_hook_point_points_to_no_other(family: str, tmp_path: Path) -> None:
    model, says = unpooled()[family]
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    encoder = load_encoder(str(save(model, tmp_path / "m", images)))
    inputs = encoder.preprocess(pictures(1))
    with pytest.raises(UserError, match=says):
        encoder.activations(inputs, [LAST])
    with pytest.raises(UserError, match=r"another encoder\.$|an encoder of single") as refusal:
        encoder.activations(inputs, [LAYERS[1]])
    assert "only hook point is last" not in str(refusal.value)


@pytest.mark.parametrize(
    "odd",
    [
        {"model_type": ["clip"]},
        {"architectures": [5]},
        {"dtype": "../../x"},
        {"vision_config": 3},
        {"vision_config": {**VISION, "initializer_factor": "x"}},
        {"vision_config": {**VISION, "num_hidden_layers": 1 << 31}},
        {"vision_config": {**VISION, "hidden_size": 1 << 31}},
        [],
    ],
)
def test_odd_settings_end_in_a_sentence(odd: Any, tmp_path: Path) -> None:
    folder = save(build("clip"), tmp_path / "m")
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **odd} if odd else odd))
    with pytest.raises(UserError) as refused:
        load_encoder(str(folder))
    assert str(folder) in str(refused.value) and "\n" not in str(refused.value)
