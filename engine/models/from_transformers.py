"""Vision encoders of transformers: CLIP, SigLIP, SigLIP2, DINOv2, AIMv2, and any other plain stack of blocks."""

import contextlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from engine.errors import UserError, reason, refusal
from engine.files import open_tensors, read_json
from engine.models.claims import within_weights
from engine.models.encoder import ODD, VisionEncoder, refusing_odd
from engine.models.folder import check_sides

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # what transformers reads of a directory, the first that is there
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
WAY_OUT = "give an encoder of single images, such as a CLIP, SigLIP, DINOv2 or AIMv2"
FRAMES = ("num_frames", "frames_per_clip")  # a config with one of these is of a model of videos
PIXELS = ("image_size", "patch_size", "num_channels")  # and with one of these of a model of images
# Weights that change no activation: of pretraining, of the loss, and tables that are computed.
NO_MATTER = re.compile(r"mask_token|logit_(scale|bias)|position_ids|relative_position_index|num_batches_tracked")
BEHIND = re.compile(  # the blocks of a vision tower
    r"^(vision_model\.)?(pooler|head|visual_projection)\."
)
STRIP = 8  # times as long as wide; resizing such images before their centre is cut out takes far more than they do
ONE_AT_A_TIME = threading.Lock()  # for them, whatever the number of threads that read
UNMASKED_TEXT = ("siglip", "siglip2")  # trained on text padded to full length, the padding attended to


class TransformersEncoder(VisionEncoder):
    """A model of transformers with its image processor; ``folder`` is where its tokenizer would be."""

    def __init__(self, model: nn.Module, processor: Any, spec: str, folder: Path | None = None):
        super().__init__(model, _vision_module(model))
        config: Any = self.vision.config
        self.spec = spec
        self.family = _family(config)
        self.processor = processor
        self.folder = folder
        self.preprocessing = json.loads(processor.to_json_string())
        self.has_text = hasattr(model, "get_text_features")
        self.has_cls, self.n_prefix = prefix_tokens(self.vision, config)
        self.patch_size = _pair(getattr(getattr(_trunk(self.vision), "patch_embed", config), "patch_size", None))
        if self.family == "vit_mae":
            config.mask_ratio = 0.0

    def preprocess(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        return strips_apart(images, self._processed)

    def _processed(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        try:
            features = self.processor(images=list(images), return_tensors="pt")
        except ODD as error:
            raise UserError(
                f"The image processor of {self.spec} failed ({reason(error)}): correct its preprocessor_config.json."
            ) from error
        return {name: value for name, value in features.items() if isinstance(value, Tensor)}

    def embed_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        if not self.has_text:
            raise UserError(f"{self.spec} has no text tower: use a CLIP or SigLIP model for words.")
        with torch.no_grad(), refusing_odd(self.spec):
            return self._embedded_text(texts)

    def _embedded_text(self, texts: Sequence[str]) -> Float[Tensor, "text D"]:
        unmasked = self.family in UNMASKED_TEXT
        tokens = self._tokens(texts, "max_length" if unmasked else True)
        names = ("input_ids",) if unmasked else ("input_ids", "attention_mask")
        model: Any = self.model
        pooled = _pooled(model.get_text_features(**{n: tokens[n].to(self.device) for n in names if n in tokens}))
        assert pooled is not None
        return pooled

    def _tokens(self, texts: Sequence[str], padding: bool | str) -> Any:
        config, tokenizer = cast(Any, self.model.config), self._tokenizer
        most = config.text_config.max_position_embeddings
        try:
            return tokenizer(list(texts), padding=padding, truncation=True, max_length=most, return_tensors="pt")
        except Exception as error:  # tokenizers raises plain ones, as for words that only its other files know
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> UserError:
        return UserError(f"The tokenizer of {self.spec} cannot be used ({reason(error)}): fetch it again.")

    def _forward(self, inputs: dict[str, Tensor]) -> Float[Tensor, "batch D"]:
        model: Any = self.model
        if self.family == "vit_mae":  # keeps the patches that are not masked in the order of this "noise"
            patches = model.embeddings.patch_embeddings.num_patches
            inputs = {**inputs, "noise": torch.arange(patches).expand(len(inputs["pixel_values"]), -1)}
        output = model.get_image_features(**inputs) if hasattr(model, "get_image_features") else model(**inputs)
        pooled = _pooled(output)
        if pooled is None:
            raise self.lacks_last("its output is not pooled")
        return pooled

    def _refusal(self, inputs: dict[str, Tensor], error: Exception) -> str:
        if self.vision is self.model and "input_ids" in signature(self.model.forward).parameters:  # such as ViLT
            return f"{self.spec} is a {self.family}, which reads images only together with a text: {WAY_OUT}."
        return super()._refusal(inputs, error)

    @cached_property
    def _tokenizer(self) -> Any:
        # Without its files, transformers would create a tokenizer of the family with an empty vocabulary.
        if self.folder is None or not any((self.folder / name).is_file() for name in TOKENIZER_FILES):
            raise UserError(f"{self.spec} has no tokenizer: put tokenizer.json beside its weights.")
        try:
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # tokenizers raises plain ones
            raise refusal(error) or self._unusable(error) from error


_OF_THE_WRITER = ("transformers_version", "_name_or_path", "_commit_hash", "torch_dtype", "dtype")


def architecture(folder: Path) -> Any:
    """What ``config.json`` says of the model, without what depends on who wrote it. Weights are read as they are asked
    for, whatever type it names."""

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: said(one) for name, one in value.items() if name not in _OF_THE_WRITER}
        return value

    return said(read_json(folder / "config.json"))


def load_folder(
    folder: Path, spec: str, revision: str | None, device: str | torch.device, dtype: torch.dtype | None
) -> TransformersEncoder:
    """An encoder from a directory in the layout of ``save_pretrained``. Raises UserError."""
    config = load_config(folder, spec)
    untrained: list[str] = []
    with quiet():
        language = "ForConditionalGeneration" in "".join(config.architectures or ())
        if language and hasattr(config, "vision_config"):
            model, weights = _tower(folder, spec, config.vision_config, dtype or torch.float32)
        else:
            model, weights, untrained = _whole(folder, spec, config, dtype or torch.float32)
        stated = has_processor(folder) or config.model_type == "timm_wrapper"  # timm's stands in its config.json
        processor = _processor(folder, spec) if stated else _default_processor(_vision_module(model).config, spec)
    encoder = TransformersEncoder(model.to(device), processor, spec, folder)
    encoder.revision, encoder.weights, encoder.architecture = revision, weights, architecture(folder)
    encoder.no_last = f"the checkpoint lacks {untrained[0]}" if untrained else ""
    if language and encoder.alone:
        raise UserError(
            f"{spec} cuts or packs images as its whole processor says, which is not there: put its tokenizer.json and "
            "processor_config.json beside its weights."
        )
    if not stated:
        told = encoder.preprocessing
        encoder.warnings.append(
            f"{spec} has no preprocessor_config.json: images are prepared as for published {encoder.family} models, at "
            f"{told.get('crop_size') or told.get('size')}, with mean {told['image_mean']} and deviation "
            f"{told['image_std']}."
        )
    return encoder


def load_config(folder: Path, spec: str) -> Any:
    """The config.json of a model of transformers. UserError for a kind that is not known."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # damaged and foreign configurations make the library raise many kinds of error
        kind = read_json(folder / "config.json").get("model_type")
        if kind in CONFIG_MAPPING_NAMES:
            raise refusal(error) or UserError(
                f"{folder / 'config.json'} is damaged ({reason(error)}): fetch it again."
            ) from error
        raise refusal(error) or UserError(
            f"{spec} is of a kind ({kind}) that transformers {transformers.__version__} does not know: use a CLIP, "
            "SigLIP, DINOv2 or AIMv2 model, or a newer transformers."
        ) from error


def _whole(folder: Path, spec: str, config: Any, dtype: torch.dtype) -> tuple[nn.Module, list[Path], list[str]]:
    name = (config.architectures or [""])[0]
    if name.endswith("ForImageClassification"):  # of a CLIP or SigLIP: it has no text tower
        config = getattr(config, "vision_config", config)
    # Not the task classes (ForImageClassification, ...): their base model is the encoder.
    named = getattr(transformers, name, None) if name.endswith(("Model", "WithProjection")) else None
    if named is None and config.model_type not in MODEL_MAPPING_NAMES:
        raise UserError(f"{spec} is a {config.model_type}, of which transformers has no encoder: {WAY_OUT}.")
    _check_images(config, spec)
    if config.model_type == "timm_wrapper":  # timm writes what transformers gives as well
        (config.model_args or {}).pop("num_classes", None)
    try:
        model, report = read_weights(named or AutoModel, folder, spec, config=config, dtype=dtype, weights_only=True)
    except UserError:
        raise
    except Exception as error:  # so do damaged weights, and settings that do not fit each other
        raise refusal(error) or UserError(
            f"Cannot load the weights of {spec} ({reason(error)}): fetch or save the checkpoint again."
        ) from error
    return model, weight_files(folder), _untrained(model, report, spec)


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def read_weights(kind: Any, folder: Path, spec: str, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The model of the class ``kind`` in ``folder``, and the library's report. UserError where what it is to be is not
    what there are weights for; errors of the library's own for what else is wrong."""
    with within_weights(weight_files(folder), "its config.json"):
        model, report = kind.from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False, ignore_mismatched_sizes=True, **settings
        )
    for name, has, wanted in sorted(report["mismatched_keys"]):
        raise UserError(
            f"The weights of {spec} have {name} of {_sides(has)}, for which its config.json says {_sides(wanted)}: "
            "fetch it again, or correct config.json."
        )
    return model, report


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _check_images(config: Any, spec: str) -> None:
    """UserError for a model that takes something else than single images."""
    vision = getattr(config, "vision_config", config)
    if any(hasattr(vision, name) for name in FRAMES):
        raise UserError(f"{spec} is a {config.model_type}, which takes videos: {WAY_OUT}.")
    if config.model_type != "timm_wrapper" and not any(hasattr(vision, name) for name in PIXELS):
        raise UserError(f"{spec} is a {config.model_type}, which takes no images: {WAY_OUT}.")


def _untrained(model: Any, report: dict[str, Any], spec: str) -> list[str]:
    """Weights behind the blocks that the checkpoint lacks, so that there is no ``last``.

    UserError when it lacks others, whose random start would be taken for knowledge, or has weights of a part of the
    model for which its config.json leaves no place.
    """
    missing = sorted(key for key in report["missing_keys"] if not NO_MATTER.search(key))
    lost = [key for key in missing if not BEHIND.search(key)]
    if lost:
        raise UserError(
            f"The checkpoint {spec} lacks {lost[0]} and {len(lost) - 1} more weights that its config.json calls for: "
            "fetch it again, or correct config.json."
        )
    parts = {name for name, part in model.named_modules() if any(True for _ in part.parameters())}
    parts -= {"", model.base_model_prefix}
    extra = sorted(
        key
        for key in report["unexpected_keys"]
        if not NO_MATTER.search(key) and _is_within(key, parts, model.base_model_prefix)
    )
    if extra:
        raise UserError(
            f"The checkpoint {spec} has {extra[0]} and {len(extra) - 1} more weights for which its config.json has no "
            "place: fetch it again, or correct config.json."
        )
    return missing


def _is_within(key: str, parts: set[str], prefix: str) -> bool:
    """Whether ``key``, which may begin with ``prefix`` where a task class was saved, lies in one of ``parts``."""
    spellings = [name.split(".") for name in (key, key.removeprefix(f"{prefix}."))]
    return any(".".join(names[:n]) in parts for names in spellings for n in range(1, len(names)))


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
            raise refusal(error, file) or UserError(f"{file} is damaged ({reason(error)}): fetch it again.") from error
        if names:
            weights.append(file)
    if not state:
        raise UserError(
            f"{spec} has no vision tower in .safetensors files that can be read without its processor: put its "
            "tokenizer.json and processor_config.json beside its weights."
        )
    with torch.device("meta"), within_weights(weights, "its config.json"):
        AutoModel.from_config(config)
    model = AutoModel.from_config(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"The weights of {spec} are not those of the vision tower in its config.json: fetch both again."
        ) from error
    return model.to(dtype), weights


def _vision_module(model: nn.Module) -> nn.Module:
    for name in ("vision_model", "vision_tower"):
        if isinstance(getattr(model, name, None), nn.Module):
            return getattr(model, name)
    return model


def prefix_tokens(vision: nn.Module, config: Any) -> tuple[bool, int]:
    """Whether there is a CLS token, and how many tokens come before the patches. Learned tokens in a pooling head are
    not part of the sequence."""
    trunk = _trunk(vision)
    if trunk is not vision:
        return getattr(trunk, "cls_token", None) is not None, getattr(trunk, "num_prefix_tokens", 0)
    learned = {
        name.rpartition(".")[2]
        for name, _ in vision.named_parameters()
        if not re.search(r"(^|\.)(head|pooler)\.", name)
    }
    several = getattr(config, "n_cls_tokens", None) or getattr(config, "num_cls_tokens", None)  # Pixio; RADIO
    registers = getattr(config, "num_register_tokens", None) or getattr(config, "num_registers", None) or 0
    if several:
        return several == 1, several + registers
    has_cls = bool(learned & {"cls_token", "class_embedding"})
    return has_cls, has_cls + registers + ("distillation_token" in learned)


def _trunk(vision: Any) -> Any:
    """timm's model, where transformers only wraps it; else ``vision``."""
    return getattr(vision, "timm_model", vision)


def _family(config: Any) -> str:
    return re.sub("_vision(_model)?$", "", config.model_type)


def _pooled(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    embeds = getattr(output, "image_embeds", None)
    return embeds if embeds is not None else getattr(output, "pooler_output", None)


def strips_apart(
    images: Sequence[Image.Image], process: Callable[[Sequence[Image.Image]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What ``process`` makes of the images together; where there are long strips, of one after the other."""
    if any(max(image.size) > STRIP * min(image.size) for image in images):
        with ONE_AT_A_TIME:
            parts = [process([image]) for image in images]
        if all(len({part[name].shape[1:] for part in parts}) == 1 for name in parts[0]):
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return process(images)


def has_processor(folder: Path) -> bool:
    """Whether the settings of an image processor are in ``folder``."""
    if (folder / "preprocessor_config.json").is_file():
        return True
    whole = folder / "processor_config.json"
    return whole.is_file() and "image_processor" in read_json(whole)


def _processor(folder: Path, spec: str) -> Any:
    try:
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # and foreign ones of the preprocessing
        raise refusal(error) or UserError(
            f"The preprocessing of {spec} cannot be read ({reason(error)}): correct its preprocessor_config.json."
        ) from error
    check_processor(processor, spec)
    return processor


def check_processor(processor: Any, spec: str) -> None:
    """UserError for an image processor that makes images larger than any model sees."""
    told = processor.to_dict()
    if hasattr(sys.modules[type(processor).__module__], "smart_resize"):  # what it calls edges are numbers of pixels
        told["size"] = {f"{name}, in pixels": count for name, count in (told.get("size") or {}).items()}
    check_sides(told, f"The image processor of {spec}")


def _default_processor(config: Any, spec: str = "this model") -> Any:
    """The image processor of models that are all published with the same one, at the size of this model.

    UserError for others. Of one model_type are google's ViT (.5) and facebook's DINO (ImageNet); SigLIP (bicubic) and
    SigLIP 2 of fixed size (bilinear); DINOv2 (ImageNet) and microsoft's RAD-DINO (its own mean); with registers, too,
    others than facebook train. And transformers' class of image processor may have other defaults than any checkpoint.
    """
    family = _family(config)
    rows, columns = _pair(getattr(config, "image_size", None)) or (224, 224)
    square = {"height": rows, "width": columns}
    if family == "siglip2":  # NaFlex, of google alone
        return transformers.Siglip2ImageProcessor(patch_size=config.patch_size, max_num_patches=config.num_patches)
    if (family == "clip" and _as_openai(config)) or (family == "aimv2" and not config.is_native):
        return transformers.CLIPImageProcessor(size={"shortest_edge": min(rows, columns)}, crop_size=square)
    if family == "deit":  # distilled, of facebook alone: 256 and 224, 438 and 384; others call themselves vit
        return transformers.DeiTImageProcessor(
            size={name: int(side * 256 / 224) for name, side in square.items()},
            crop_size=square,
            image_mean=IMAGENET_MEAN,
            image_std=IMAGENET_STD,
        )
    raise UserError(
        f"{spec} has no preprocessor_config.json, and not all {family} models are prepared alike: put the one of the "
        "published model beside its weights."
    )


def _as_openai(config: Any) -> bool:
    """Whether a CLIP is OpenAI's or trained on as they were: base or large, with their QuickGELU.

    LAION's ViT-L/14 has mean and deviation .5 (and GELU); apple's DFN ViT-H/14 squeezes images instead of cropping them
    (``open_clip/pretrained.py``).
    """
    return config.hidden_act == "quick_gelu" and config.hidden_size <= 1024


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
