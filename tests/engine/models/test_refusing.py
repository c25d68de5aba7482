"""What cannot be read as an encoder is named, and nothing that is lost starts at random."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.errors import UserError
from engine.models import HookPoint, load_encoder
from tests.support.checkpoints import (
    VISION,
    build,
    pictures,
    save,
)
from tests.support.library import LAST, LAYERS, library_states


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
