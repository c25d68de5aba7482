"""Vision encoders of open_clip: by architecture and tag, or from a local checkpoint."""

import contextlib
import difflib
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

from engine.errors import UserError, reason, refusal
from engine.files import path_of, read_json
from engine.models.claims import within_weights
from engine.models.encoder import ODD, VisionEncoder, refusing_odd
from engine.models.folder import check_sides

CONFIG = "open_clip_config.json"


class OpenClipEncoder(VisionEncoder):
    """A model of open_clip; ``name`` identifies its tokenizer."""

    family = "open_clip"
    settings_file = CONFIG
    has_text = True

    def __init__(self, model: nn.Module, name: str, spec: str):
        visual: Any = model.visual
        super().__init__(model, visual)
        self.spec = spec
        self.name = name
        config = PreprocessCfg(**getattr(visual, "preprocess_cfg", {"size": visual.image_size}))
        self.preprocessing = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()}
        check_sides(self.preprocessing, f"The preprocessing of {spec}")
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
        with refusing_odd(self.spec):
            return {"pixel_values": torch.stack([self._transform(image) for image in images])}

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        model: Any = self.model
        with torch.no_grad(), refusing_odd(self.spec):
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
                f"The tokenizer of {self.spec} is not on this machine: give a directory with it, the weights and their "
                f"{CONFIG}."
            ) from error


def load_tagged(spec: str, device: str | torch.device, dtype: torch.dtype | None) -> OpenClipEncoder:
    """``openclip:ARCH/TAG``, or for local weights ``openclip:ARCH/TAG@FILE`` or ``openclip:ARCH/FILE``.

    Weights do not tell their activation function, normalisation and resizing: those of a FILE without TAG stand in the
    ``open_clip_config.json`` beside it, or are those of the tag that its name contains. Raises UserError.
    """
    arch, _, rest = spec.removeprefix("openclip:").partition("/")
    if open_clip.get_model_config(arch) is None:
        near = difflib.get_close_matches(arch, open_clip.list_models(), 3, 0)
        raise UserError(f"open_clip has no architecture {arch!r}: did you mean {', '.join(near)}?")
    tag, file = _tag_and_file(arch, rest)
    if file is not None and not tag and (file.parent / CONFIG).is_file():
        return load_folder(file.parent, file, spec, None, device, dtype)
    told = "" if tag or file is None else _told_tag(arch, file)
    config = open_clip.get_pretrained_cfg(arch, tag or told) or {}
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
    if not config and (tag or file is None):
        raise UserError(f"{spec} names no weights: after {arch}/ give a file, or one of its tags ({tags}).")
    try:
        with _quiet():
            weights = file or Path(open_clip.download_pretrained(config))
            shapes = _shapes(weights) if file else {}
            if not config:
                raise UserError(
                    f"{weights} does not tell its activation function, normalisation and resizing: put the "
                    f"{CONFIG} of its model beside it, or name the tag under which it was published, "
                    f"openclip:{arch}/TAG@{weights} (tags: {tags})."
                )
            if file:
                _check_claims(arch, file, f"{arch} of open_clip", force_quick_gelu=bool(config.get("quick_gelu")))
            model = open_clip.create_model(
                arch,
                pretrained=str(file) if file else tag,
                require_pretrained=True,
                force_preprocess_cfg=config,
                # OpenAI's weights need QuickGELU, which the tag knows and the plain architecture does not.
                force_quick_gelu=bool(config.get("quick_gelu")),
            )
    except UserError:
        raise
    except Exception as error:  # network, hash, pickle and shape errors, in several libraries' own classes
        raise refusal(error) or UserError(
            f"The weights of {spec} cannot be fetched or read ({reason(error)}): check the network, or give "
            f"openclip:{arch}/TAG@FILE for a file that has them."
        ) from error
    _check_grid(model, shapes, weights)
    spec = f"openclip:{arch}/{tag}{'@' if tag else ''}{file.resolve()}" if file else spec
    encoder = OpenClipEncoder(_placed(model, device, dtype), arch, spec)
    encoder.weights = [weights]
    encoder.architecture = [open_clip.get_model_config(arch), bool(config.get("quick_gelu"))]
    if told:
        encoder.warnings.append(f"By its name {weights.name} is taken for the weights {told} of {arch}.")
    return encoder


def _tag_and_file(arch: str, text: str) -> tuple[str, Path | None]:
    """What stands after ``openclip:ARCH/``: TAG, FILE or TAG@FILE."""
    tag, _, path = text.partition("@")
    if text and path_of(text).is_file():
        tag, path = "", text
    file = path_of(path) if path else None
    if file is not None and not file.is_file():
        raise UserError(f"There is no file {path}: after openclip:{arch}/{tag}@ give one of weights.")
    return tag, file


def _told_tag(arch: str, file: Path) -> str:
    """The one published tag of ``arch`` that the name of ``file`` contains; empty when it tells none, or several."""
    told = [tag for tag in open_clip.list_pretrained_tags_by_model(arch) if tag in file.name]
    whole = [tag for tag in told if not any(tag in other for other in told if other != tag)]
    return whole[0] if len(whole) == 1 else ""


def _shapes(file: Path) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in open_clip.factory.load_state_dict(str(file)).items()}


def _check_grid(model: nn.Module, shapes: dict[str, torch.Size], file: Path) -> None:
    """UserError where open_clip has stretched position embeddings of another image size to the model's."""
    for name, value in model.state_dict().items():
        was = shapes.get(name, value.shape)
        if name.endswith(("visual.positional_embedding", "visual.trunk.pos_embed")) and was != value.shape:
            raise UserError(
                f"{file} is of another image size than its architecture ({was[-2]} positions, not {value.shape[-2]}): "
                f"give the architecture or the {CONFIG} that it was trained with."
            )


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
        raise UserError(f"{folder} has no weights: put open_clip_model.safetensors beside {CONFIG}.")
    try:
        with _quiet():
            _check_claims(name, Path(found), f"its {CONFIG}")
            model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
            open_clip.load_checkpoint(model, str(found))
            shapes = _shapes(Path(found))
    except UserError:
        raise
    except Exception as error:  # JSON, pickle, shape and key errors
        damaged = UserError(f"Cannot load {found} ({reason(error)}): save or fetch the checkpoint again.")
        raise refusal(error, found) or damaged from error
    _check_grid(model, shapes, Path(found))
    encoder = OpenClipEncoder(_placed(model, device, dtype), name, spec)
    encoder.revision, encoder.weights, encoder.architecture = revision, [Path(found)], read_json(folder / CONFIG)
    return encoder


def _check_claims(name: str, weights: Path, config: str, **settings: Any) -> None:
    """UserError where the model ``name``, which ``config`` describes, is larger than ``weights``: open_clip takes
    memory for it before it compares."""
    with (
        contextlib.suppress(*ODD, OSError),  # the model itself, made afterwards, says what is wrong
        torch.device("meta"),
        within_weights([weights], config),
    ):
        open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta", **settings)


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
