"""Vision encoders of transformers: CLIP, SigLIP, SigLIP2, DINOv2, AIMv2, and any other plain stack of blocks."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from engine.errors import UserError, refusal
from engine.files import open_tensors, read_json
from engine.models.encoder import VisionEncoder, first_line

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]
# Families whose usual preprocessing resizes the short side and crops the centre; the others resize to a square.
CROPPED = {
    "clip": (CLIP_MEAN, CLIP_STD),
    "aimv2": (CLIP_MEAN, CLIP_STD),
    "dinov2": (IMAGENET_MEAN, IMAGENET_STD),
    "dinov2_with_registers": (IMAGENET_MEAN, IMAGENET_STD),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
UNMASKED_TEXT = ("siglip", "siglip2")  # trained on text padded to full length, the padding attended to


class TransformersEncoder(VisionEncoder):
    """A model of transformers with its image processor; ``folder`` is where its tokenizer would be."""

    def __init__(self, model: nn.Module, processor: Any, spec: str, folder: Path | None = None):
        super().__init__(model, _vision_module(model))
        config: Any = self.vision.config
        self.spec = spec
        self.family = re.sub("_vision(_model)?$", "", config.model_type)
        self.processor = processor
        self.folder = folder
        self.preprocessing = json.loads(processor.to_json_string())
        self.has_text = hasattr(model, "get_text_features")
        self.has_cls, self.n_prefix = prefix_tokens(self.vision, config)
        self.patch_size = _pair(getattr(config, "patch_size", None))

    def preprocess(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        try:
            features = self.processor(images=list(images), return_tensors="pt")
        except (ValueError, RuntimeError) as error:
            raise UserError(f"The image processor of {self.spec} failed ({first_line(error)}).") from error
        return {name: value for name, value in features.items() if isinstance(value, Tensor)}

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        if not self.has_text:
            raise UserError(f"{self.spec} has no text tower: use a CLIP or SigLIP model for words.")
        config: Any = self.model.config
        unmasked = self.family in UNMASKED_TEXT
        tokens = self._tokenizer(
            list(texts),
            padding="max_length" if unmasked else True,
            truncation=True,
            max_length=config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        names = ("input_ids",) if unmasked else ("input_ids", "attention_mask")
        model: Any = self.model
        with torch.no_grad():
            pooled = _pooled(model.get_text_features(**{n: tokens[n].to(self.device) for n in names if n in tokens}))
        assert pooled is not None
        return pooled

    def _forward(self, inputs: dict[str, Tensor]) -> Float[Tensor, "batch D"]:
        model: Any = self.model
        output = model.get_image_features(**inputs) if hasattr(model, "get_image_features") else model(**inputs)
        pooled = _pooled(output)
        if pooled is None:
            raise UserError(f"{self.spec} has no last (its output is not pooled): use layer:N.")
        return pooled

    @cached_property
    def _tokenizer(self) -> Any:
        # Without its files, transformers would create a tokenizer of the family with an empty vocabulary.
        if self.folder is None or not any((self.folder / name).is_file() for name in TOKENIZER_FILES):
            raise UserError(f"{self.spec} has no tokenizer: put tokenizer.json beside its weights.")
        try:
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, TypeError) as error:
            raise refusal(error) or UserError(
                f"The tokenizer of {self.spec} cannot be read ({first_line(error)}): fetch it again."
            ) from error


def load_folder(
    folder: Path, spec: str, revision: str | None, device: str | torch.device, dtype: torch.dtype | None
) -> TransformersEncoder:
    """An encoder from a directory in the layout of ``save_pretrained``. Raises UserError."""
    config = _config(folder, spec)
    untrained: list[str] = []
    with quiet():
        language = "ForConditionalGeneration" in "".join(config.architectures or ())
        if language and hasattr(config, "vision_config"):
            model, weights = _tower(folder, spec, config.vision_config, dtype or torch.float32)
        else:
            model, weights, untrained = _whole(folder, spec, config, dtype or torch.float32)
        encoder, missing = None, not _has_processor(folder)
        processor = _default_processor(_vision_module(model).config) if missing else _processor(folder, spec)
    encoder = TransformersEncoder(model.to(device), processor, spec, folder)
    encoder.revision, encoder.weights = revision, weights
    encoder.no_last = f"the checkpoint lacks {untrained[0]}" if untrained else ""
    if missing:
        size = encoder.preprocessing.get("crop_size") or encoder.preprocessing.get("size")
        encoder.warnings.append(
            f"{spec} has no preprocessor_config.json: images are prepared as is usual for {encoder.family}, at {size}."
        )
    return encoder


def _config(folder: Path, spec: str) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = read_json(folder / "config.json").get("model_type")
        raise refusal(error) or UserError(
            f"{spec} is of a kind ({kind}) that transformers {transformers.__version__} does not know: use a CLIP, "
            "SigLIP, DINOv2 or AIMv2 model, or a newer transformers."
        ) from error


def _whole(folder: Path, spec: str, config: Any, dtype: torch.dtype) -> tuple[nn.Module, list[Path], list[str]]:
    name = (config.architectures or [""])[0]
    # Not the task classes (ForImageClassification, ...): their base model is the encoder.
    named = getattr(transformers, name, None) if name.endswith(("Model", "WithProjection")) else None
    try:
        model, report = (named or AutoModel).from_pretrained(
            folder, dtype=dtype, output_loading_info=True, trust_remote_code=False, weights_only=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError, TypeError) as error:
        raise refusal(error) or UserError(
            f"Cannot load the weights of {spec} ({first_line(error)}): fetch or save the checkpoint again."
        ) from error
    missing = sorted(report["missing_keys"])
    heads = [
        k for k in missing if re.search(r"pooler|head|projection|layernorm|logit", k) and not re.search(r"\b\d", k)
    ]
    if len(heads) < len(missing):
        lost = next(key for key in missing if key not in heads)
        raise UserError(f"The checkpoint {spec} lacks {lost} and {len(missing) - 1} more weights: fetch it again.")
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return model, weights, [key for key in heads if "logit" not in key]


def _tower(folder: Path, spec: str, config: Any, dtype: torch.dtype) -> tuple[nn.Module, list[Path]]:
    """The vision tower of a LLaVA-class checkpoint, without reading its language model."""
    state, weights = {}, []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with open_tensors(file, "pt") as tensors:
                names = [name for name in tensors.keys() if "vision_tower." in name]  # noqa: SIM118 - no mapping
                for name in names:
                    state[name.split("vision_tower.")[1].removeprefix("vision_model.")] = tensors.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise refusal(error, file) or UserError(f"{file} is damaged ({error}): fetch it again.") from error
        if names:
            weights.append(file)
    if not state:
        raise UserError(f"{spec} has no vision tower in .safetensors files: give the directory of its vision encoder.")
    model = AutoModel.from_config(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"The vision tower of {spec} is not complete: give its vision encoder's directory.") from error
    return model.to(dtype), weights


def _vision_module(model: nn.Module) -> nn.Module:
    for name in ("vision_model", "vision_tower"):
        if isinstance(getattr(model, name, None), nn.Module):
            return getattr(model, name)
    return model


def prefix_tokens(vision: nn.Module, config: Any) -> tuple[bool, int]:
    """Whether there is a CLS token, and how many tokens come before the patches. Learned tokens in a pooling head are
    not part of the sequence."""
    learned = {
        name.rpartition(".")[2]
        for name, _ in vision.named_parameters()
        if not re.search(r"(^|\.)(head|pooler)\.", name)
    }
    has_cls = bool(learned & {"cls_token", "class_embedding"})
    registers = getattr(config, "num_register_tokens", 0) or 0
    return has_cls, has_cls + registers + ("distillation_token" in learned)


def _pooled(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    embeds = getattr(output, "image_embeds", None)
    return embeds if embeds is not None else getattr(output, "pooler_output", None)


def _has_processor(folder: Path) -> bool:
    if (folder / "preprocessor_config.json").is_file():
        return True
    whole = folder / "processor_config.json"
    return whole.is_file() and "image_processor" in read_json(whole)


def _processor(folder: Path, spec: str) -> Any:
    try:
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise refusal(error) or UserError(
            f"The preprocessing of {spec} cannot be read ({first_line(error)}): correct or remove its "
            "preprocessor_config.json."
        ) from error


def _default_processor(config: Any) -> Any:
    """The image processor of the family's published checkpoints, at the size of this model."""
    family = re.sub("_vision(_model)?$", "", config.model_type)
    if family == "siglip2":
        return transformers.Siglip2ImageProcessor(patch_size=config.patch_size, max_num_patches=config.num_patches)
    rows, columns = _pair(getattr(config, "image_size", None)) or (224, 224)
    square = {"height": rows, "width": columns}
    if family in CROPPED:
        mean, std = CROPPED[family]
        return transformers.CLIPImageProcessor(
            size={"shortest_edge": min(rows, columns)}, crop_size=square, image_mean=mean, image_std=std
        )
    return transformers.SiglipImageProcessor(size=square, image_mean=HALF, image_std=HALF)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers' progress bars and reports; saetui's own messages say what matters."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
