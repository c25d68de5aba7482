"""open_clip's models, and that both libraries agree on the same weights."""

import json
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from engine.errors import UserError
from engine.models import HookPoint, load_encoder
from engine.models.hookpoints import KINDS
from tests.support.checkpoints import (
    OPEN_CLIP,
    build,
    open_clip_model,
    pictures,
    save,
    save_open_clip,
    to_open_clip,
    to_transformers,
)

LAYERS = [HookPoint("layer", n) for n in range(3)]
IN_BLOCKS = [HookPoint(kind.name, n) for kind in KINDS.values() if not kind.pooled for n in range(3)]
LAST = HookPoint("last")


def test_activations_are_the_librarys(tmp_path: Path) -> None:
    model: Any = open_clip_model()
    encoder = load_encoder(str(save_open_clip(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(3))
    taken = encoder.activations(inputs, [*LAYERS, LAST])
    with torch.no_grad():
        theirs = model.visual.forward_intermediates(inputs["pixel_values"], output_fmt="NLC", output_extra_tokens=True)
        image = model.encode_image(inputs["pixel_values"])
    for hook, prefix, patches in zip(
        LAYERS, theirs["image_intermediates_prefix"], theirs["image_intermediates"], strict=True
    ):
        torch.testing.assert_close(taken[hook], torch.cat([prefix, patches], 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(taken[LAST][:, 0], image, atol=1e-5, rtol=1e-5)
    assert (encoder.family, encoder.n_prefix, encoder.has_cls, encoder.grid) == ("open_clip", 1, True, (4, 4))
    assert encoder.sha256 and not encoder.warnings


def test_blocks_that_put_tokens_first(tmp_path: Path) -> None:
    model: Any = open_clip_model()
    encoder: Any = load_encoder(str(save_open_clip(model, tmp_path / "m")))
    inputs = encoder.preprocess(pictures(2))
    expected = encoder.activations(inputs, LAYERS)
    encoder.model.visual.transformer.batch_first = encoder.batch_first = False
    for block in encoder.blocks:
        block.attn.batch_first = False
    for hook, states in encoder.activations(inputs, LAYERS).items():
        torch.testing.assert_close(states, expected[hook], atol=1e-5, rtol=1e-5)


def test_text_is_embedded_like_the_library_does(tmp_path: Path) -> None:
    model: Any = open_clip_model()
    encoder = load_encoder(str(save_open_clip(model, tmp_path / "m")))
    texts = ["a red fish", "striped"]
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("ViT-B-32", context_length=12)(texts))
    torch.testing.assert_close(encoder.embed_text(texts), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("source", ["open_clip", "transformers"])
def test_both_libraries_give_the_same_activations(source: str, tmp_path: Path) -> None:
    """The same weights, carried over in either direction."""
    if source == "open_clip":
        ours: Any = open_clip_model()
        theirs: Any = to_transformers(ours)
    else:
        theirs = to_transformers(open_clip_model())  # a configuration with open_clip's activation function
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.mul_(1.1)
        ours = to_open_clip(theirs)
    one = load_encoder(str(save_open_clip(ours, tmp_path / "open_clip")))
    other = load_encoder(str(save(theirs, tmp_path / "transformers")))
    inputs = other.preprocess(pictures(3))
    hooks = [*IN_BLOCKS, LAST]
    a, b = one.activations(inputs, hooks), other.activations(inputs, hooks)
    for hook in hooks:
        torch.testing.assert_close(a[hook], b[hook], atol=1e-5, rtol=1e-4)


def test_files_and_restricted_pickles(tmp_path: Path) -> None:
    model = open_clip_model()
    whole = load_encoder(str(save_open_clip(model, tmp_path / "a")))
    pickled = load_encoder(str(save_open_clip(model, tmp_path / "b", ".bin")))
    file = load_encoder(str(tmp_path / "a" / "open_clip_model.safetensors"))
    inputs = whole.preprocess(pictures(1))
    expected = whole.activations(inputs, [LAST])[LAST]
    for other in (pickled, file):
        assert torch.equal(other.activations(inputs, [LAST])[LAST], expected)


def test_objects_in_a_pickle_are_refused(tmp_path: Path) -> None:
    folder = save_open_clip(open_clip_model(), tmp_path / "m", ".bin")
    torch.save({"payload": Path("/")}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(UserError, match=r"open_clip_pytorch_model.bin"):
        load_encoder(str(folder))


def test_architectures_tags_and_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no architecture 'ViT-Z'"):
        load_encoder("openclip:ViT-Z/openai")
    with pytest.raises(UserError, match=r"one of its tags .*openai"):
        load_encoder("openclip:ViT-B-32/no-such-tag")
    with pytest.raises(UserError, match="openclip:ViT-B-32"):
        load_encoder("openclip:ViT-B-32")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk")
    with pytest.raises(UserError, match=r"junk.safetensors cannot be fetched or read"):
        load_encoder(f"openclip:ViT-B-32/{junk}")


ARCH = {**OPEN_CLIP, "quick_gelu": False}
SIGLIP = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> str:
    """A small architecture of open_clip with two published tags that differ as OpenAI's and laion's do."""
    from open_clip import factory, pretrained

    monkeypatch.setitem(factory._MODEL_CONFIGS, "Small", ARCH)
    tags = {"openai": pretrained._pcfg(quick_gelu=True), "webli": pretrained._slpcfg(**SIGLIP), "webli_2": {}}
    monkeypatch.setitem(pretrained._PRETRAINED, "Small", tags)
    return "Small"


def saved_weights(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in open_clip_model().state_dict().items()}, file)
    return file


def gelu_of(encoder: Any) -> type:
    return type(encoder.blocks[0].mlp.gelu)


def test_a_file_is_read_as_the_tag_that_is_said(published: str, tmp_path: Path) -> None:
    file = saved_weights(tmp_path / "w.safetensors")
    quick, plain = (load_encoder(f"openclip:Small/{tag}@{file}") for tag in ("openai", "webli"))
    assert gelu_of(quick) is open_clip.transformer.QuickGELU and gelu_of(plain) is torch.nn.GELU
    assert quick.preprocessing["mean"] == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert {key: plain.preprocessing[key] for key in SIGLIP} == SIGLIP
    assert quick.preprocessing["size"] == [32, 32] and quick.weights == [file] and not quick.warnings
    assert quick.spec == f"openclip:Small/openai@{file}"
    images = pictures(2)
    model, _, transform = open_clip.create_model_and_transforms(
        "Small", pretrained=str(file), force_quick_gelu=True, image_mean=open_clip.OPENAI_DATASET_MEAN
    )
    inputs = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(quick.preprocess(images)["pixel_values"], inputs)
    with torch.no_grad():
        expected = model.eval().encode_image(inputs)
    torch.testing.assert_close(quick.activations(quick.preprocess(images), [LAST])[LAST][:, 0], expected)


def test_a_file_is_read_by_the_config_beside_it(published: str, tmp_path: Path) -> None:
    file = saved_weights(tmp_path / "w.safetensors")
    config = {"model_cfg": {**OPEN_CLIP, "quick_gelu": True}, "preprocess_cfg": SIGLIP}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    for spec in (f"openclip:Small/{file}", str(file), str(tmp_path)):
        encoder = load_encoder(spec)
        assert gelu_of(encoder) is open_clip.transformer.QuickGELU
        assert {key: encoder.preprocessing[key] for key in SIGLIP} == SIGLIP


def test_a_file_is_read_as_its_name_tells_and_that_is_said(published: str, tmp_path: Path) -> None:
    encoder = load_encoder(f"openclip:Small/{saved_weights(tmp_path / 'small-openai.safetensors')}")
    assert gelu_of(encoder) is open_clip.transformer.QuickGELU
    assert encoder.warnings == ["By its name small-openai.safetensors is taken for the weights openai of Small."]


@pytest.mark.parametrize("name", ["epoch_3.safetensors", "openai-webli.safetensors"])
def test_a_file_of_which_nothing_is_told_is_refused_and_what_is_named_gets_one_out(
    published: str, name: str, tmp_path: Path
) -> None:
    file = saved_weights(tmp_path / name)
    with pytest.raises(UserError, match=r"does not tell its activation function.*\(tags: openai, webli") as refused:
        load_encoder(f"openclip:Small/{file}")
    (way_out,) = re.findall(r"openclip:Small/TAG@[^ ]+", str(refused.value))
    assert load_encoder(way_out.replace("TAG", "openai")).n_layers == 3
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP}))
    assert load_encoder(f"openclip:Small/{file}").n_layers == 3


def test_weights_of_another_image_size_are_not_stretched(published: str, tmp_path: Path) -> None:
    file = saved_weights(tmp_path / "w.safetensors")
    larger = {**OPEN_CLIP, "vision_cfg": {**OPEN_CLIP["vision_cfg"], "image_size": 64}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": larger}))
    with pytest.raises(UserError, match=r"another image size .*\(17 positions, not 65\)"):
        load_encoder(str(file))


def test_no_such_file_and_no_such_tag(published: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*none.pt"):
        load_encoder(f"openclip:Small/openai@{tmp_path}/none.pt")
    with pytest.raises(UserError, match=r"one of its tags \(openai"):
        load_encoder(f"openclip:Small/laion@{saved_weights(tmp_path / 'w.safetensors')}")


def test_no_weights_are_never_random_ones(tmp_path: Path) -> None:
    folder = save_open_clip(open_clip_model(), tmp_path / "m")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(UserError, match="has no weights"):
        load_encoder(str(folder))


def test_a_timm_trunk(tmp_path: Path) -> None:
    from engine.models.from_open_clip import OpenClipEncoder

    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear", "image_size": 224}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {"width": 16, "heads": 2, "layers": 1}}
    torch.manual_seed(0)
    model: Any = open_clip.CustomTextCLIP(**config).eval()
    encoder = OpenClipEncoder(model, "ViT-B-32", "test")
    assert (encoder.n_layers, encoder.n_prefix, encoder.grid) == (12, 1, (14, 14))
    inputs = encoder.preprocess(pictures(1))
    taken = encoder.activations(inputs, [HookPoint("layer", 3), LAST])
    with torch.no_grad():
        theirs = model.visual.trunk.forward_intermediates(
            inputs["pixel_values"], indices=[3], intermediates_only=True, output_fmt="NLC"
        )
        last = model.encode_image(inputs["pixel_values"])
    torch.testing.assert_close(taken[HookPoint("layer", 3)][:, 1:], theirs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(taken[LAST][:, 0], last)


def test_a_convolutional_tower_has_only_last() -> None:
    from engine.models.from_open_clip import OpenClipEncoder

    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}
    text = {"width": 16, "heads": 2, "layers": 1, "vocab_size": 50, "context_length": 8}
    encoder = OpenClipEncoder(open_clip.CLIP(16, vision, text).eval(), "RN50", "test")
    with pytest.raises(UserError, match="only hook point is last"):
        encoder.check(HookPoint("layer", 0))
    assert encoder.width(LAST) == 16 and encoder.grid is None


def test_a_folder_of_both_libraries(tmp_path: Path) -> None:
    """A folder of both libraries is read by transformers."""
    folder = save(build("clip"), tmp_path / "m")
    (folder / "open_clip_config.json").write_text("{}")
    assert load_encoder(str(folder)).family == "clip"


@pytest.mark.parametrize(
    ("tower", "name", "value"),
    [
        ("vision_cfg", "layers", 1 << 31),
        ("vision_cfg", "width", 16_000),
        ("vision_cfg", "layers", 35),  # of a width of 768, where none is said
        ("vision_cfg", "image_size", 1 << 20),
        ("text_cfg", "vocab_size", 100_000_000),
        ("text_cfg", "context_length", 1 << 20),
    ],
)
def test_a_model_that_is_larger_than_its_weights_is_refused_before_it_is_made(
    tower: str, name: str, value: int, tmp_path: Path
) -> None:
    folder = save_open_clip(open_clip_model(), tmp_path / "m")
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"][tower] |= {name: value}
    if value == 35:
        del config["model_cfg"][tower]["width"]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"is smaller than the model that its open_clip_config\.json describes"):
        load_encoder(str(folder))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_is_compared_with_its_architecture_before_that_is_made(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    state = {"visual.proj": torch.zeros(4, 4)}
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    with pytest.raises(UserError, match=r"is smaller than the model that ViT-bigG-14 of open_clip describes, with "):
        load_encoder(f"openclip:ViT-bigG-14/laion2b_s39b_b160k@{file}")
