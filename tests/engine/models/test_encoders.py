"""Our activations are the library's own, family by family."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from engine.errors import UserError
from engine.files import file_sha256, read_json, write_json
from engine.models import HookPoint, load_encoder, same_model
from tests.support.checkpoints import (
    VISION,
    build,
    llava,
    open_clip_model,
    pictures,
    save,
    save_open_clip,
)
from tests.support.library import LAST, LAYERS, WORDS, library_last, library_states

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
