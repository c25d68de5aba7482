"""Pictures are prepared as the checkpoint says, else as its family does, else a sentence asks for how."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from engine.errors import UserError
from engine.models import load_encoder
from tests.support.checkpoints import (
    AIM,
    VISION,
    bare,
    build,
    pictures,
    save,
    tokenizer,
)
from tests.support.library import LAST, LAYERS, WORDS


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
