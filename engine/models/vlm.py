"""Vision-language models: loading, vision blocks, prompts and inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BatchFeature,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from engine.errors import UserError, counted, reason, refusal
from engine.models.asked import check_vlm_path
from engine.models.device import pick_device
from engine.models.encoder import (
    Enough,
    astray,
    block_input,
    find_blocks,
    module_at,
    refusing_odd,
    seen_alone,
)
from engine.models.folder import check_folder
from engine.models.from_transformers import check_processor, prefix_tokens, quiet, read_weights
from engine.models.hookpoints import HookPoint
from engine.models.hub import check_notation, hub_folder
from engine.models.kept import kept
from engine.models.patience import within

PATIENCE = 2.0  # seconds that a chat template may take, which takes milliseconds
FALLBACK_PROMPT = "USER: {image}\n{prompt} ASSISTANT:"  # the form of LLaVA-1.5

OTHER_FAMILY = "saetui can neither steer nor extract from it yet; use a family that the README lists"
QUESTION = "Question: {prompt} Answer:"  # of BLIP-2, whose processor puts the image before it
TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass(eq=False)
class VLM:
    """A model that answers questions about images, and what is known about its vision tower."""

    spec: str
    model: Any
    """A model of transformers that can generate."""
    processor: Any
    """Its image processor, tokenizer and chat template in one."""
    blocks: list[nn.Module]
    """The blocks of the vision tower: ``layer:N`` is the output of ``blocks[N]``."""
    seen: int
    """Index of the deepest block whose output reaches the language model."""
    n_prefix: int
    """Tokens before the patches: CLS and registers."""
    width: int | None
    """Width of the vision tower's residual stream; None when only running it would tell."""
    n_patches: int | None
    """Patch tokens per image (per tile, for models that tile images); None when that depends on the image."""
    chat: bool
    """Whether to use the processor's chat template, instead of the prompt format of LLaVA-1.5."""
    notes: list[str] = field(default_factory=list)
    """What a user should know about how the model is run."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the images that the vision tower sees."""
        images = getattr(self.processor, "image_processor", None)
        for size in (getattr(images, "crop_size", None), getattr(images, "size", None)):
            if size and size.get("height") and size.get("width"):
                return size["width"], size["height"]
        side = getattr(getattr(self.model.config, "vision_config", None), "image_size", None) or 224
        return (side, side) if isinstance(side, int) else (side[1], side[0])

    @cached_property
    def alone(self) -> bool:
        """Whether a batch of images is no row an image of the vision tower, so that each is asked about alone."""

        return seen_alone(self.visual, self._embedded)

    @cached_property
    def astray(self) -> bool:
        """Whether the tower puts CLS or other tokens of its own elsewhere than before the patches."""
        return astray(self._embedded, self.n_prefix)

    def _embedded(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return block_input(self.blocks[0], lambda: self.look(self.visual(images)))

    def site(self, hook: str | HookPoint) -> nn.Module:
        """The module whose output is that hook point. Raises UserError when a change there would change no answer."""
        if not hook:
            raise UserError('The SAE does not say where it reads: set "hook" (such as "layer:22") in its config.json.')
        hook = HookPoint.parse(str(hook))
        if hook.pooled:
            raise UserError(
                f"An SAE of the hook point {hook} cannot steer, the language model reads patch tokens: "
                f"train one on layer:{self.seen} of the vision tower of {self.spec}."
            )
        if hook.index >= len(self.blocks):
            raise UserError(
                f"The SAE reads {hook}, but the vision tower of {self.spec} has {counted(len(self.blocks), 'block')}: "
                f"take an SAE of layer:{self.seen} or before."
            )
        if hook.index > self.seen:
            raise UserError(
                f"The SAE reads {hook}, but the language model of {self.spec} sees the vision tower after layer:"
                f"{self.seen}, so that steering would do nothing: take an SAE of layer:{self.seen} or before."
            )
        whose = f"the vision tower of {self.spec}"
        return module_at(hook, self.blocks[hook.index], whose, f"take an SAE of layer:{hook.index}")

    def question(self, prompt: str) -> str:
        """``prompt`` in the model's chat format, with the image before it."""
        mark = _image_mark(self.processor)
        if mark and mark in prompt:
            raise UserError(
                f"The prompt contains {mark}, which stands for the image: leave it out, it is put in for you."
            )
        if self.chat:
            return _chat(self.processor, prompt)
        return FALLBACK_PROMPT.format(image=mark, prompt=prompt) if mark else QUESTION.format(prompt=prompt)

    def visual(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """What the vision tower is given of ``images`` when they are asked about, on the CPU."""
        features = self.prepared(list(images), [""] * len(images))
        return {name: value for name, value in features.items() if isinstance(value, torch.Tensor) and name not in TEXT}

    @torch.no_grad()
    def look(self, inputs: dict[str, torch.Tensor]) -> Any:
        """The output of the vision tower for ``visual`` inputs, which the model itself gives to it."""
        tower, seen = image_tower(self.model), []

        def take(module: nn.Module, args: Any, output: Any) -> None:
            seen.append(output)
            raise Enough

        see = _eyes(self.model).get_image_features
        known = {*signature(see).parameters, *signature(tower.forward).parameters}
        first = next(tower.parameters())
        given = {
            name: value.to(first.device, first.dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            if name in known
        }
        handle = tower.register_forward_hook(take)
        try:
            see(**given)
        except Enough:
            if not seen:  # another hook has enough
                raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.spec} ({type(self.model).__name__}) cannot be shown an image alone ({reason(error)}): "
                f"{OTHER_FAMILY}."
            ) from error
        finally:
            handle.remove()
        if not seen:
            raise UserError(
                f"{self.spec} ({type(self.model).__name__}) does not show images to its {type(tower).__name__}: "
                f"{OTHER_FAMILY}."
            )
        return seen[0]

    def inputs(self, images: list[Image.Image], prompts: list[str]) -> BatchFeature:
        """The inputs of ``generate``: one question per image, padded on the left, on the model's device."""
        return self.prepared(images, prompts).to(self.device, self.model.dtype)

    def prepared(self, images: list[Image.Image], prompts: list[str]) -> BatchFeature:
        """The same, on the CPU."""
        asked = {prompt: self.question(prompt) for prompt in set(prompts)}
        texts = [asked[prompt] for prompt in prompts]
        bos = self.processor.tokenizer.bos_token
        try:
            return self.processor(
                text=texts,
                images=[[image] for image in images],
                return_tensors="pt",
                padding=True,
                padding_side="left",
                add_special_tokens=not (bos and texts[0].startswith(bos)),
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"The processor of {self.spec} refuses an image with a question ({reason(error)}): "
                "check its processor_config.json."
            ) from error


def load_vlm(spec: str, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> VLM:
    """The model ``hf:REPO``, in a local directory (``save_pretrained``), or ``demo``, ready to answer.

    ``dtype`` auto: the checkpoint's own on a GPU, float32 on a CPU. Weights are read only from safetensors, and no
    code in a checkpoint is run. Raises UserError for anything that is missing or does not fit. Within
    engine.models.kept.models_kept it is one that was loaded before, if there is one.
    """
    where = pick_device(str(device))
    return kept(spec, where, ("vlm", dtype), lambda: _loaded(spec, where, dtype))


def _loaded(spec: str, where: torch.device, dtype: str | torch.dtype) -> VLM:
    folder = _folder(spec)
    if dtype == "auto" and where.type == "cpu":
        dtype = torch.float32
    elif isinstance(dtype, str) and dtype != "auto":
        dtype = getattr(torch, dtype)
    with quiet():
        model, processor = _model(folder, spec, dtype), load_processor(folder, spec)
    with refusing_odd(spec):
        return wrap(model.to(where).eval().requires_grad_(False), processor, spec)


def wrap(model: PreTrainedModel, processor: Any, spec: str = "") -> VLM:
    """A loaded model and processor as a VLM. Raises UserError when no vision blocks are found."""
    spec = spec or type(model).__name__
    tower: Any = image_tower(model)
    blocks = find_blocks(tower) if isinstance(tower, nn.Module) and tower is not model else []
    if not blocks and tower is not model:
        raise UserError(
            f"The vision tower of {spec} ({type(model).__name__}) is no single stack of equal blocks: {OTHER_FAMILY}."
        )
    if not blocks:
        raise UserError(
            f"Found no vision blocks in {spec} ({type(model).__name__}): looked for a list of equal blocks inside "
            "vision_tower, visual, vision_model, vision_encoder or image_tower; give a LLaVA-class model."
        )
    if _eyes(model) is None or not isinstance(tower, PreTrainedModel):
        raise UserError(
            f"{spec} ({type(model).__name__}) has no way to show an image to its vision tower alone: {OTHER_FAMILY}."
        )
    vlm = VLM(
        spec=spec,
        model=model,
        processor=processor,
        blocks=blocks,
        seen=_seen(model.config, len(blocks)),
        n_prefix=prefix_tokens(tower, tower.config)[1],
        width=_width(blocks[0]),
        n_patches=_patches(model.config),
        chat=bool(processor.chat_template) and _image_mark(processor) in _chat(processor, ""),
    )
    _complete(vlm)
    if not vlm.chat and _image_mark(processor):
        form = FALLBACK_PROMPT.format(image="<image>", prompt="...").replace("\n", "\\n")
        vlm.notes.append(f"{spec} has no chat template for images: it is asked in the form of LLaVA-1.5 ({form}).")
    return vlm


def image_tower(model: Any) -> Any:
    """The vision tower of a model; the model itself where it has none."""
    return model.get_encoder(modality="image")


def _eyes(model: Any) -> Any:
    """The part of a model that shows images to its tower, the model or its body; None where neither does."""
    return next((part for part in (model, model.base_model) if hasattr(part, "get_image_features")), None)


def _folder(spec: str) -> Path:
    check_notation(spec)
    if spec == "demo":
        from engine.models.shipped import shipped

        return shipped("llava")
    if spec.startswith("hf:"):
        return hub_folder(spec)
    return check_vlm_path(spec)


def _model(folder: Path, spec: str, dtype: str | torch.dtype) -> Any:
    check_folder(folder)
    try:
        kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
        if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise UserError(f"{spec} is a {kind}, not a vision-language model: give a LLaVA-class checkpoint.")
        model, report = read_weights(AutoModelForImageTextToText, folder, spec, dtype=dtype, use_safetensors=True)
    except UserError:
        raise
    except Exception as error:  # damaged and foreign checkpoints make libraries raise many kinds of error
        raise refusal(error) or UserError(
            f"Cannot load {spec} as a vision-language model ({reason(error)}): "
            "give a complete LLaVA-class checkpoint in safetensors."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"The checkpoint {spec} lacks {missing[0]} and {len(missing) - 1} more weights: fetch it again."
        )
    return model


def load_processor(folder: Path, spec: str) -> Any:
    """The processor of the model in ``folder``. UserError where it has no image processor or no tokenizer."""
    why = "it has no tokenizer or no image processor"
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        if hasattr(processor, "image_processor") and hasattr(processor, "tokenizer"):
            check_processor(processor.image_processor, spec)
            return processor
    except UserError:
        raise
    except Exception as error:  # the kind of error depends on which file is missing
        if refused := refusal(error):
            raise refused from error
        why = reason(error)
    raise UserError(f"{_lacking(folder, spec)} ({why}): save the model's processor beside it.")


def _lacking(folder: Path, spec: str) -> str:
    """The beginning of a sentence that names the missing files of a processor."""
    wanted = ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
    has = {name for name in wanted if (folder / name).is_file()}
    if "processor_config.json" in has:  # it also holds the image processor's settings
        has.add("preprocessor_config.json")
    lacks = [name for name in wanted if name not in has]
    return f"{spec} lacks {', '.join(lacks)}" if lacks else f"Cannot load the processor of {spec}"


def _image_mark(processor: Any) -> str:
    """What stands for the image in a question; empty for processors that put it before every question."""
    return "" if hasattr(processor, "num_query_tokens") else getattr(processor, "image_token", "<image>")


def _chat(processor: Any, prompt: str) -> str:
    """``prompt`` in the form that the model's template gives it. UserError where it fails, or does not end: it is a
    program of whoever made the model (in Jinja's sandbox)."""
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    asked = [{"role": "user", "content": content}]
    try:
        said = within(PATIENCE, lambda: processor.apply_chat_template(asked, add_generation_prompt=True))
    except TimeoutError:
        raise _unusable(f"does not end within {PATIENCE:g} s") from None
    except Exception as error:  # a template raises whatever it likes
        raise _unusable(f"fails ({reason(error)})") from error
    if not isinstance(said, str):
        raise _unusable("gives no text")
    return said


def _unusable(why: str) -> UserError:
    return UserError(f"The model's chat template {why}: correct its chat_template, or give another model.")


def _seen(config: Any, n_blocks: int) -> int:
    """Index of the deepest block that LLaVA reads: hidden state i is the output of block i - 1."""
    chosen = getattr(config, "vision_feature_layer", None)
    if chosen is None:
        return n_blocks - 1
    states = chosen if isinstance(chosen, (list, tuple)) else [chosen]
    return max(state % (n_blocks + 1) for state in states) - 1


def _width(block: nn.Module) -> int | None:
    """Width of the residual stream, which is that of the block's first norm."""
    for module in block.children():
        weight = getattr(module, "weight", None)
        if "norm" in type(module).__name__.lower() and weight is not None and weight.ndim == 1:
            return len(weight)
    return None


def _patches(config: Any) -> int | None:
    vision = getattr(config, "vision_config", None)
    image, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    return (image // patch) ** 2 if isinstance(image, int) and isinstance(patch, int) else None


def _complete(vlm: VLM) -> None:
    """Fill in settings that processors of older checkpoints lack."""
    processor: Any = vlm.processor
    tokenizer = processor.tokenizer
    if tokenizer.pad_token is None:  # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    # Without a patch size LLaVA's processor cannot count the image's tokens.
    if not hasattr(processor, "patch_size") or processor.patch_size is not None:
        return
    config: Any = vlm.model.config
    if not hasattr(config, "vision_feature_select_strategy"):  # a processor that asks for no such thing
        return
    processor.patch_size = config.vision_config.patch_size
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    processor.num_additional_image_tokens = vlm.n_prefix
    vlm.notes.append(f"The processor of {vlm.spec} has no patch size: taken from the model, {processor.patch_size}.")


def read_hook(spec: str) -> HookPoint:
    """The hook point of the vision tower that the language half of ``spec`` reads, from its config alone.

    UserError for what is no such model.
    """
    folder = _folder(spec)
    check_folder(folder)
    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # damaged and foreign configurations make the library raise many kinds of error
        raise refusal(error, folder / "config.json") or UserError(
            f"Cannot read the config.json of {spec} ({reason(error)}): give a LLaVA-class model."
        ) from error
    vision = getattr(config, "vision_config", None)
    blocks = next(
        (n for name in ("num_hidden_layers", "depth") if isinstance(n := getattr(vision, name, None), int)), 0
    )
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or not blocks:
        raise UserError(
            f"{spec} is a {config.model_type}, whose vision tower is not known: name a hook point with --at."
        )
    return HookPoint("layer", _seen(config, blocks))
