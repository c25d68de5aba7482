"""Small models of the real classes, with random weights, saved the way their libraries save them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 40,
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
DINO = {**{k: v for k, v in VISION.items() if k != "intermediate_size"}, "mlp_ratio": 2, "layerscale_value": 0.7}
AIM = {**VISION, "qkv_bias": True, "mlp_bias": True}


def build(family: str) -> nn.Module:
    """A small model of ``family`` whose weights make every block matter."""
    torch.manual_seed(len(family))
    t = transformers
    model: nn.Module = {
        "clip": lambda: t.CLIPModel(t.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=16)),
        "clip-vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**VISION)),
        "clip-projected": lambda: t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**VISION, projection_dim=16)),
        "siglip": lambda: t.SiglipModel(
            t.SiglipConfig(vision_config=VISION, text_config={**TEXT, "projection_size": 32})
        ),
        "siglip-vision": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**VISION)),
        "siglip2": lambda: t.Siglip2Model(
            t.Siglip2Config(
                vision_config={**{k: v for k, v in VISION.items() if k != "image_size"}, "num_patches": 16},
                text_config={**TEXT, "projection_size": 32},
            )
        ),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**DINO)),
        "dinov2-registers": lambda: t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(**DINO, num_register_tokens=4)
        ),
        "aimv2": lambda: t.Aimv2Model(t.Aimv2Config(vision_config=AIM, text_config=TEXT, projection_dim=16)),
        "aimv2-vision": lambda: t.Aimv2VisionModel(t.Aimv2VisionConfig(**AIM)),
        "vit": lambda: t.ViTModel(t.ViTConfig(**VISION)),
        "deit": lambda: t.DeiTModel(t.DeiTConfig(**VISION)),
    }[family]()
    return perturbed(model)


def llava() -> nn.Module:
    text = transformers.LlamaConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=40
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION), text_config=text, image_token_index=39
    )
    torch.manual_seed(5)
    return perturbed(transformers.LlavaForConditionalGeneration(config))


def perturbed(model: nn.Module) -> nn.Module:
    """Moves biases and norms away from 0 and 1, so that hooks before and after a norm differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def discerning(model: nn.Module) -> nn.Module:
    """To a judge of small random weights all images look alike: then every MS is near 1, whatever is scored."""
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "token" not in name and "position" not in name:
                weights *= 10
    return model


def save(model: Any, folder: Path, processor: Any = None, words: tuple[str, ...] = ()) -> Path:
    """In the layout of save_pretrained, with the plain preprocessing of ``model`` where no other is given."""
    model.save_pretrained(folder)
    if processor is None:
        processor = _plain(getattr(model.config, "vision_config", model.config))
    if processor is not None:
        processor.save_pretrained(folder)
    if words:
        tokenizer(words).save_pretrained(folder)
    return folder


def _plain(config: Any) -> Any:
    if hasattr(config, "num_patches"):  # of SigLIP2
        return transformers.Siglip2ImageProcessor(patch_size=config.patch_size, max_num_patches=config.num_patches)
    if not isinstance(side := getattr(config, "image_size", None), int):
        return None
    return transformers.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def bare(folder: Path) -> Path:
    """``folder`` without its preprocessing."""
    (folder / "preprocessor_config.json").unlink()
    return folder


def tokenizer(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(("<pad>", "<bos>", "<eos>", "<unk>", *words))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing("<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)])
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def pictures(count: int, size: tuple[int, int] = (40, 50), seed: int = 0) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)) for _ in range(count)]


# open_clip, and the same weights in both libraries

OPEN_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8, "mlp_ratio": 1.5},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 4, "layers": 2},
}


def open_clip_model() -> nn.Module:
    torch.manual_seed(3)
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in OPEN_CLIP.items()}
    return perturbed(open_clip.CLIP(**config))


def save_open_clip(model: nn.Module, folder: Path, suffix: str = ".safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": {}}))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, folder / "open_clip_model.safetensors")
    else:
        torch.save(state, folder / f"open_clip_pytorch_model{suffix}")
    return folder


def vision_names(layers: int) -> list[tuple[str, tuple[str, ...]]]:
    """(name in open_clip's vision tower, names in transformers' of the tensors that it stacks)."""
    pairs: list[tuple[str, tuple[str, ...]]] = [
        ("class_embedding", ("embeddings.class_embedding",)),
        ("positional_embedding", ("embeddings.position_embedding.weight",)),
        ("conv1.weight", ("embeddings.patch_embedding.weight",)),
    ]
    norms = [("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")]
    for i in range(layers):
        here, there = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        norms += [(f"{here}.ln_{n}", f"{there}.layer_norm{n}") for n in (1, 2)]
        norms += [(f"{here}.mlp.c_fc", f"{there}.mlp.fc1"), (f"{here}.mlp.c_proj", f"{there}.mlp.fc2")]
        norms += [(f"{here}.attn.out_proj", f"{there}.self_attn.out_proj")]
        for kind in ("weight", "bias"):
            parts = tuple(f"{there}.self_attn.{part}_proj.{kind}" for part in "qkv")
            pairs.append((f"{here}.attn.in_proj_{kind}", parts))
    pairs += [(f"{a}.{kind}", (f"{b}.{kind}",)) for a, b in norms for kind in ("weight", "bias")]
    return pairs


def to_transformers(model: Any) -> nn.Module:
    """transformers' CLIP vision tower with projection, with the weights of an open_clip model."""
    config = transformers.CLIPVisionConfig(**VISION, projection_dim=16, hidden_act="gelu")
    other = transformers.CLIPVisionModelWithProjection(config)
    visual = model.visual.state_dict()
    state = {"visual_projection.weight": visual["proj"].T.contiguous()}
    for name, parts in vision_names(3):
        for part, piece in zip(parts, visual[name].chunk(len(parts)), strict=True):
            state[f"vision_model.{part}"] = piece.reshape(other.state_dict()[f"vision_model.{part}"].shape)
    other.load_state_dict(state)
    return other.eval()


def to_open_clip(other: nn.Module) -> nn.Module:
    """An open_clip model whose vision tower has the weights of transformers' CLIP."""
    model: Any = open_clip_model()
    state = other.state_dict()
    visual = {"proj": state["visual_projection.weight"].T}
    for name, parts in vision_names(3):
        visual[name] = torch.cat([state[f"vision_model.{part}"] for part in parts])
    model.visual.load_state_dict(visual)
    return model.eval()
