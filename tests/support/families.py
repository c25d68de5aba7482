"""Tiny encoders of many families, saved by their libraries with a preprocessing of their own, and what they compute."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers as t
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.checkpoints import VISION, build, open_clip_model, perturbed, save, save_open_clip
from tests.support.vlms import SQUARE, internvl_images, pixtral_images


@dataclass
class Seen:
    """What a library's own model computes of one image, a tensor a hook point: (sequence, token, d)."""

    layer: Tensor | None
    mlp: Tensor | None
    last: Tensor | None
    prefix: int = 0
    """Tokens before the patches of every sequence."""

    def rows(self, kind: str, tokens: str, drawn: Any) -> Tensor:
        """The rows that a choice of ``tokens`` keeps at ``kind``; of random ones those at ``drawn``."""
        hidden = {"layer": self.layer, "mlp": self.mlp}[kind]
        assert hidden is not None
        patches, everything = hidden[:, self.prefix :].flatten(0, 1), hidden.flatten(0, 1)
        kept = {"cls": hidden[0, :1], "mean": patches.mean(0, keepdim=True), "patches": patches, "all": everything}
        return kept[tokens] if tokens in kept else everything[drawn]


@dataclass
class Encoder:
    """How a family's encoder is made and saved, and where its library keeps block 1."""

    make: Callable[[], nn.Module]
    block: str = ""
    prefix: int = 0
    mlp: str = "mlp"
    images: Callable[[], Any] = lambda: t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE)

    def save(self, folder: Path) -> Path:
        return save(self.make(), folder, self.images())

    def seen(self, folder: Path, image: Image.Image) -> Seen:
        with torch.no_grad():
            return self._seen(folder, image)

    def _seen(self, folder: Path, image: Image.Image) -> Seen:
        name = json.loads((folder / "config.json").read_text())["architectures"][0]
        model: Any = getattr(t, name).from_pretrained(folder).eval()
        inputs = t.AutoImageProcessor.from_pretrained(folder)(images=[image], return_tensors="pt")
        inputs.pop("num_patches", None)
        whole = hasattr(model, "get_image_features")
        run = model.get_image_features if whole else model
        if not self.block:
            return Seen(None, None, _flat(run(**inputs).pooler_output))
        mlp = _caught(model.get_submodule(f"{self.block}.{self.mlp}"), lambda: run(**inputs)) if self.mlp else None
        out = run(**inputs, output_hidden_states=True)
        layer, last = out.hidden_states[2], out["image_embeds"] if "image_embeds" in out else out.get("pooler_output")
        if "pixel_attention_mask" in inputs:
            shown = inputs["pixel_attention_mask"][0].bool()
            layer, mlp = layer[:, shown], None if mlp is None else mlp[:, shown]
        return Seen(layer, mlp, last, self.prefix)


@dataclass
class OpenClip(Encoder):
    """One of open_clip's; ``config`` says what model."""

    config: dict[str, Any] | None = None

    def save(self, folder: Path) -> Path:
        if self.config is None:
            return save_open_clip(self.make(), folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": self.config, "preprocess_cfg": {"size": self.config["vision_cfg"]["image_size"]}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        state = {name: value.contiguous() for name, value in perturbed(model).state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
        return folder

    def _seen(self, folder: Path, image: Image.Image) -> Seen:
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        pixels = transform(image)[None]
        model.eval()
        layer, mlp = (
            _caught(model.get_submodule(path), lambda: model.encode_image(pixels))
            for path in (self.block, f"{self.block}.{self.mlp}")
        )
        return Seen(layer, mlp, model.encode_image(pixels), self.prefix)


def _caught(module: nn.Module, run: Callable[[], Any]) -> Tensor:
    caught: list[Any] = []
    handle = module.register_forward_hook(lambda _, __, output: caught.append(output), prepend=True)
    run()
    handle.remove()
    return caught[0][0] if isinstance(caught[0], tuple) else caught[0]


def _flat(pooled: Tensor) -> Tensor:
    return pooled.flatten(1)


def _made(model: Any, config: Any, **more: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        torch.manual_seed(1)
        return perturbed(model(config(**{**VISION, **more})))

    return make


def _timm(name: str, size: int, pool: str) -> dict[str, Any]:
    vision = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": "linear",
              "image_size": size}  # fmt: skip
    text = {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 4, "layers": 1}
    return {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}


def _swin() -> nn.Module:
    config = t.SwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4)
    return perturbed(t.SwinModel(config))


def _convnext() -> nn.Module:
    return perturbed(t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2)))


def _naflex() -> Any:
    return t.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)


DINO3 = {"num_register_tokens": 4, "layerscale_value": 0.7}
INTERN = {"image_size": [32, 32], "patch_size": [8, 8]}
ENCODERS: dict[str, Encoder] = {
    "CLIP": Encoder(lambda: build("clip"), "vision_model.encoder.layers.1", 1),
    "CLIP, vision tower with projection": Encoder(lambda: build("clip-projected"), "vision_model.encoder.layers.1", 1),
    "MetaCLIP 2": Encoder(_made(t.MetaClip2VisionModel, t.MetaClip2VisionConfig), "encoder.layers.1", 1),
    "SigLIP": Encoder(lambda: build("siglip"), "vision_model.encoder.layers.1"),
    "SigLIP2 NaFlex": Encoder(lambda: build("siglip2"), "vision_model.encoder.layers.1", images=_naflex),
    "AIMv2": Encoder(lambda: build("aimv2"), "vision_model.encoder.layers.1", mlp="ffn"),
    "DINOv2": Encoder(lambda: build("dinov2"), "encoder.layer.1", 1),
    "DINOv2 with registers": Encoder(lambda: build("dinov2-registers"), "encoder.layer.1", 5),
    "DINOv3": Encoder(_made(t.DINOv3ViTModel, t.DINOv3ViTConfig, **DINO3), "model.layer.1", 5),
    "ViT": Encoder(lambda: build("vit"), "layers.1", 1),
    "DeiT": Encoder(lambda: build("deit"), "layers.1", 2),
    "BEiT": Encoder(_made(t.BeitModel, t.BeitConfig), "layers.1", 1),
    "Data2Vec": Encoder(_made(t.Data2VecVisionModel, t.Data2VecVisionConfig), "encoder.layer.1", 1, mlp=""),
    "I-JEPA": Encoder(_made(t.IJepaModel, t.IJepaConfig), "layers.1"),
    "YOLOS": Encoder(
        _made(t.YolosModel, t.YolosConfig, image_size=[32, 32], num_detection_tokens=5),
        "encoder.layer.1",
        1,
        mlp="",
    ),
    "Pixtral, vision tower": Encoder(
        _made(t.PixtralVisionModel, t.PixtralVisionConfig, image_size=64),
        "transformer.layers.1",
        mlp="feed_forward",
        images=pixtral_images,
    ),
    "InternVL, vision tower": Encoder(
        _made(t.InternVLVisionModel, t.InternVLVisionConfig, **INTERN), "encoder.layer.1", 1, images=internvl_images
    ),
    "Swin": Encoder(_swin),
    "ConvNeXt": Encoder(_convnext),
    "open_clip": OpenClip(open_clip_model, "visual.transformer.resblocks.1", 1),
    "open_clip, ViT of timm": OpenClip(
        open_clip_model, "visual.trunk.blocks.1", 1, config=_timm("test_vit", 160, "token")
    ),
    "open_clip, EVA02 of timm": OpenClip(
        open_clip_model, "visual.trunk.blocks.1", 1, config=_timm("eva02_tiny_patch14_224", 224, "token")
    ),
}


OBLONG = Encoder(
    lambda: build("dinov2-registers"),
    "encoder.layer.1",
    5,
    images=lambda: t.BitImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 32, "width": 48}),
)
"""CLS and four registers before 4 x 6 patches: what takes rows for columns, or a register for a patch, is seen."""


def save_encoder(family: str, folder: Path) -> Path:
    return ENCODERS[family].save(folder)
