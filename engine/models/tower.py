"""The vision tower of a vision-language model, run as that model runs it: what steering turns, extraction reads."""

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from engine.errors import UserError, reason, refusal
from engine.files import open_tensors, read_json
from engine.models.claims import within_weights
from engine.models.encoder import VisionEncoder
from engine.models.from_transformers import (
    TOKENIZER_FILES,
    architecture,
    has_processor,
    load_config,
    prefix_tokens,
    quiet,
    strips_apart,
    weight_files,
)
from engine.models.vlm import VLM, image_tower, load_processor, wrap


class TowerEncoder(VisionEncoder):
    """The vision tower of ``vlm``, whose language model has no weights (it is on the meta device)."""

    def __init__(self, vlm: VLM, spec: str):
        tower: Any = image_tower(vlm.model)
        super().__init__(tower, tower)
        self.vlm = vlm
        self.spec = spec
        self.family = re.sub("_vision(_model)?$", "", tower.config.model_type)
        processor: Any = vlm.processor
        asks = {**getattr(processor, "images_kwargs", {})}  # of its image processor, over the latter's own settings
        asks.pop("return_tensors", None)
        self.preprocessing = {**json.loads(processor.image_processor.to_json_string()), **asks}
        self.has_cls, self.n_prefix = prefix_tokens(tower, tower.config)
        side = getattr(tower.config, "patch_size", None)
        self.patch_size = (side, side) if isinstance(side, int) else None
        if self.alone:
            self.no_last = "it does not see an image as one sequence of tokens"

    def preprocess(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        return strips_apart(images, self.vlm.visual)

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        raise UserError(f"{self.spec} has no text tower: use a CLIP or SigLIP model for words.")

    def _forward(self, inputs: dict[str, Tensor]) -> Float[Tensor, "batch D"]:
        pooled = getattr(self.vlm.look(inputs), "pooler_output", None)
        if pooled is None or pooled.ndim != 2:
            raise self.lacks_last("its output is not pooled")
        return pooled


def is_vlm(folder: Path) -> bool:
    """Whether ``folder`` holds a vision-language model with the processor that its questions need."""
    config = read_json(folder / "config.json")
    kind, names = config.get("model_type"), " ".join(config.get("architectures") or ())
    answers = "ForConditionalGeneration" in names or (
        kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind != "blip"
    )
    whole = any((folder / name).is_file() for name in TOKENIZER_FILES) and has_processor(folder)
    return "vision_config" in config and answers and whole


def load_folder(
    folder: Path, spec: str, revision: str | None, device: str | torch.device, dtype: torch.dtype | None
) -> TowerEncoder:
    """The tower of the model in ``folder``, from a directory in the layout of ``save_pretrained``. Raises UserError."""
    with quiet():
        processor, config = load_processor(folder, spec), load_config(folder, spec)
        with torch.device("meta"), _within_weights(folder):
            model: Any = AutoModelForImageTextToText.from_config(config).to(dtype or torch.float32).eval()
        empty: Any = image_tower(model)
        wrap(model, processor, spec)  # refuses what has no tower
        path = next(name for name, module in model.named_modules() if module is empty)
        with torch.device("meta"), within_weights(weight_files(folder), "its config.json"):
            type(empty)._from_config(empty.config)
        tower, weights = _read(folder, spec, type(empty)._from_config(empty.config))
        model.set_submodule(path, tower.to(device, dtype or torch.float32).eval())
        encoder = TowerEncoder(wrap(model, processor, spec), spec)
    encoder.revision, encoder.weights, encoder.architecture = revision, weights, architecture(folder)
    return encoder


def _within_weights(folder: Path) -> contextlib.AbstractContextManager[None]:
    """As within_weights; anything where the language model's files are not there, which are not needed."""
    files = [file for index in folder.glob("*.index.json") for file in read_json(index)["weight_map"].values()]
    if not all((folder / file).is_file() for file in files):
        return contextlib.nullcontext()
    return within_weights(weight_files(folder), "its config.json")


def _read(folder: Path, spec: str, tower: Any) -> tuple[nn.Module, list[Path]]:
    """``tower`` with its weights, without reading those of the language model."""
    wanted = tower.state_dict()
    places: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with open_tensors(file, "pt") as tensors:
                places |= dict.fromkeys(tensors.keys(), file)
        except (OSError, SafetensorError) as error:
            raise refusal(error, file) or UserError(f"{file} is damaged ({reason(error)}): fetch it again.") from error
    prefix = _prefix(set(places), set(wanted))
    if prefix is None:
        raise UserError(f"{spec} lacks weights of its vision tower in .safetensors files: fetch or save it again.")
    files = sorted({places[prefix + name] for name in wanted})
    state: dict[str, Tensor] = {}
    for file in files:
        with open_tensors(file, "pt") as tensors:
            state |= {n: tensors.get_tensor(prefix + n) for n in wanted if places[prefix + n] == file}
    try:
        tower.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"The vision tower of {spec} does not fit its config.json ({reason(error)}).") from error
    return tower, files


def _prefix(names: set[str], wanted: set[str]) -> str | None:
    """What stands before the names of the tower's weights in the checkpoint; None where some are not there."""
    one = max(wanted, key=len)
    found = sorted({name.removesuffix(one) for name in names if name.endswith(one)}, key=len)
    return next((prefix for prefix in found if all(prefix + name in names for name in wanted)), None)
