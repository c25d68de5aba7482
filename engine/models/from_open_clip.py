"""Vision encoders of open_clip: by architecture and tag, or from a local checkpoint."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from jaxtyping import Float
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from engine.errors import UserError, refusal
from engine.models.encoder import VisionEncoder, first_line


class OpenClipEncoder(VisionEncoder):
    """A model of open_clip; ``name`` identifies its tokenizer."""

    family = "open_clip"
    has_text = True

    def __init__(self, model: nn.Module, name: str, spec: str):
        visual: Any = model.visual
        super().__init__(model, visual)
        self.spec = spec
        self.name = name
        config = PreprocessCfg(**getattr(visual, "preprocess_cfg", {"size": visual.image_size}))
        self.preprocessing = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()}
        self._transform = image_transform_v2(config, is_train=False)
        self.batch_first = getattr(getattr(visual, "transformer", None), "batch_first", True)
        trunk = getattr(visual, "trunk", None)
        if trunk is None:
            self.has_cls, self.n_prefix = True, 1
            self.patch_size = getattr(visual, "patch_size", None)
        else:
            self.n_prefix = getattr(trunk, "num_prefix_tokens", 0)
            self.has_cls = getattr(trunk, "cls_token", None) is not None
            self.patch_size = getattr(getattr(trunk, "patch_embed", None), "patch_size", None)

    def preprocess(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        return {"pixel_values": torch.stack([self._transform(image) for image in images])}

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        model: Any = self.model
        with torch.no_grad():
            return model.encode_text(self._tokenizer(list(texts)).to(self.device))

    def _forward(self, inputs: dict[str, Tensor]) -> Float[Tensor, "batch D"]:
        model: Any = self.model
        return model.encode_image(inputs["pixel_values"])

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            return open_clip.get_tokenizer(self.name)
        except Exception as error:  # each kind of tokenizer raises errors of its own
            raise UserError(
                f"The tokenizer of {self.spec} is not on this machine: copy it beside the weights."
            ) from error


def load_tagged(spec: str, device: str | torch.device, dtype: torch.dtype | None) -> OpenClipEncoder:
    """``openclip:ARCH/TAG``, or ``openclip:ARCH/FILE`` for local weights. Raises UserError."""
    arch, _, tag = spec.removeprefix("openclip:").partition("/")
    if open_clip.get_model_config(arch) is None:
        raise UserError(f"open_clip has no architecture {arch!r}: list them with open_clip.list_models().")
    config = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    file = Path(tag).expanduser()
    if not config and not (tag and file.is_file()):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise UserError(f"{spec} names no weights: after {arch}/ give a file, or one of its tags ({tags}).")
    try:
        with _quiet():
            weights = Path(open_clip.download_pretrained(config)) if config else file
            # OpenAI's weights need QuickGELU, which the tag knows and the plain architecture does not.
            quick = {"force_quick_gelu": True} if config.get("quick_gelu") else {}
            model = open_clip.create_model(
                arch, pretrained=tag if config else str(file), require_pretrained=True, **quick
            )
    except Exception as error:  # network, hash, pickle and shape errors, in several libraries' own classes
        raise refusal(error) or UserError(
            f"The weights of {spec} cannot be fetched or read ({first_line(error)}): check the network, or give "
            f"openclip:{arch}/FILE."
        ) from error
    return _finished(OpenClipEncoder(_placed(model, device, dtype), arch, spec), weights)


def load_folder(
    folder: Path,
    weights: Path | None,
    spec: str,
    revision: str | None,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> OpenClipEncoder:
    """A directory with ``open_clip_config.json`` and weights (``weights``: which of several). Raises UserError."""
    name = f"local-dir:{folder}"
    found = weights or open_clip.factory._find_checkpoint_in_dir(folder)
    if found is None:
        raise UserError(f"{folder} has no weights: put open_clip_model.safetensors beside open_clip_config.json.")
    try:
        with _quiet():
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
            open_clip.load_checkpoint(model, str(found))
    except Exception as error:  # JSON, pickle, shape and key errors
        damaged = UserError(f"Cannot load {found} ({first_line(error)}): save or fetch the checkpoint again.")
        raise refusal(error, found) or damaged from error
    encoder = OpenClipEncoder(_placed(model, device, dtype), name, spec)
    encoder.revision = revision
    return _finished(encoder, Path(found))


def _finished(encoder: OpenClipEncoder, weights: Path) -> OpenClipEncoder:
    encoder.weights = [weights]
    return encoder


def _placed(model: nn.Module, device: str | torch.device, dtype: torch.dtype | None) -> nn.Module:
    return model.to(device, dtype or torch.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences open_clip, which logs each step of loading to the root logger, and errors that it also raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
