"""The published configurations, on the meta device: no weights, real shapes, through the code that runs them."""

from typing import Any

import open_clip
import pytest
import torch
import transformers as t

from engine.models import HookPoint
from engine.models.encoder import VisionEncoder
from engine.models.from_open_clip import OpenClipEncoder
from engine.models.from_transformers import TransformersEncoder, _vision_module

LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
BASE: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_L = {**LARGE, "intermediate_size": 4096, "image_size": 336, "patch_size": 14, "projection_dim": 768}
CLIP_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
AIM_L = {**LARGE, "num_attention_heads": 8, "intermediate_size": 2816, "image_size": 224, "patch_size": 14}
DINO = {"image_size": 518, "patch_size": 14}

# name: (model, layers, d, prefix, grid, width of last, parameters of the vision side in millions)
MODELS: dict[str, tuple[Any, int, int, int, tuple[int, int], int, float]] = {
    "clip-vit-large-patch14-336": (
        lambda: t.CLIPModel(t.CLIPConfig(vision_config=CLIP_L, text_config=CLIP_TEXT, projection_dim=768)),
        *(24, 1024, 1, (24, 24), 768, 303.5),
    ),
    "siglip-so400m-patch14-384": (
        lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**SO400M, image_size=384, patch_size=14)),
        *(27, 1152, 0, (27, 27), 1152, 428.2),
    ),
    "dinov2-base": (lambda: t.Dinov2Model(t.Dinov2Config(**BASE, **DINO)), 12, 768, 1, (16, 16), 768, 86.6),
    "dinov2-large": (lambda: t.Dinov2Model(t.Dinov2Config(**LARGE, **DINO)), 24, 1024, 1, (16, 16), 1024, 304.4),
    "dinov2-with-registers-base": (
        lambda: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**BASE, **DINO, num_register_tokens=4)),
        *(12, 768, 5, (16, 16), 768, 86.6),
    ),
    "aimv2-large-patch14-224": (
        lambda: t.Aimv2VisionModel(t.Aimv2VisionConfig(**AIM_L, use_head=False)),
        *(24, 1024, 0, (16, 16), 0, 309.2),
    ),
    "open_clip ViT-L-14-336": (
        lambda: open_clip.create_model("ViT-L-14-336", device="meta"),
        *(24, 1024, 1, (24, 24), 768, 304.3),
    ),
}


def encoder_of(model: Any) -> VisionEncoder:
    if isinstance(model, open_clip.CLIP):
        return OpenClipEncoder(model, "ViT-L-14-336", "test")
    return TransformersEncoder(model, _processor(_vision_module(model).config), "test")


def _processor(config: Any) -> Any:
    """At the size for which they are published: DINOv2 is trained at 518 pixels."""
    side = 224 if config.model_type.startswith("dinov2") else config.image_size
    return t.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


@pytest.mark.parametrize("name", MODELS)
def test_shapes(name: str) -> None:
    build, layers, d, prefix, grid, last, millions = MODELS[name]
    with torch.device("meta"):
        model = build()
    encoder = encoder_of(model)
    tokens = prefix + grid[0] * grid[1]
    assert (encoder.n_layers, encoder.n_prefix, encoder.grid) == (layers, prefix, grid)
    for hook in (HookPoint("layer", 0), HookPoint("layer", layers - 2), HookPoint("mlp", layers - 1)):
        assert encoder.shape(hook) == (tokens, d)
    if last:
        assert encoder.shape(HookPoint("last")) == (1, last)
    count = sum(p.numel() for p in encoder.vision.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.15)


def test_dinov2_at_its_published_crop() -> None:
    """facebook/dinov2-base is trained at 518 pixels and preprocesses to 224: position embeddings are interpolated."""
    with torch.device("meta"):
        model = t.Dinov2Model(t.Dinov2Config(**BASE, **DINO))
    processor = t.BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    encoder = TransformersEncoder(model, processor, "test")
    assert encoder.grid == (16, 16) and encoder.shape(HookPoint("layer", 11)) == (257, 768)
