"""What is asked of a model and of this machine, checked before anything is loaded. Costs no torch.

Nothing that is let pass here need be right: whoever loads the model sees more of it.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.files import path_of, read_json
from engine.models.hookpoints import HookPoint, TokenPolicy
from engine.models.hub import cached, check_notation, check_repository

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
OF_OPEN_CLIP = "open_clip_config.json"
_PLAIN = ("clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "vit")
"""Model types of transformers whose config says what their blocks are."""
_DRIVERS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")  # of GPUs that torch calls cuda


@dataclass(frozen=True)
class Blocks:
    """What a config says of the blocks of a vision encoder."""

    number: int
    width: int
    tokens: int | None
    """Of an image, where all have as many."""
    cls: bool
    last: int
    """Width of what the encoder puts out, pooled or projected."""


_KNOWN = {
    "hf:openai/clip-vit-large-patch14-336": Blocks(24, 1024, 24**2 + 1, True, 768),
    "hf:openai/clip-vit-base-patch32": Blocks(12, 768, 7**2 + 1, True, 512),
    "hf:facebook/dinov2-base": Blocks(12, 768, None, True, 768),
    "hf:google/siglip-so400m-patch14-384": Blocks(27, 1152, 27**2, False, 1152),
}
"""What the configs of models say that shipped plans name, for who has not fetched them yet."""


def check_device(name: str) -> None:
    """UserError for a device of which it is plain that this machine has none."""
    if name.startswith("cuda") and (not may_have_gpu() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")):
        raise UserError(f"This machine has no {name} (0 GPUs seen): choose auto or cpu.")
    if name == "mps" and sys.platform != "darwin":
        raise UserError("This machine has no mps: choose auto or cpu.")


def may_have_gpu() -> bool:
    return not sys.platform.startswith("linux") or any(map(os.path.exists, _DRIVERS))


def check_encoder(spec: str) -> None:
    """UserError where ``spec``, as of engine.models.load_encoder, names nothing that could be an encoder."""
    check_notation(spec)
    if spec in ("demo", "demo:encoder"):
        return
    if spec.startswith("hf:"):
        check_repository(spec)
    elif spec.startswith("openclip:"):
        _check_tag(spec)
    else:
        check_encoder_path(spec)


def check_encoder_path(spec: str) -> Path:
    """The files of a local encoder: a folder, or weights in one that has their config."""
    path = path_of(spec)
    if not path.exists():
        ways_out = (
            "give hf:ORG/NAME, openclip:ARCH/TAG, demo or a local directory, or after a move run saetui relink OLD NEW."
        )
        named = path if not path.is_absolute() and not spec.startswith(".") else Path(*path.parts[-2:])
        like_hub = len(named.parts) == 2 and not path.absolute().parent.exists() and path.absolute().parents[1].exists()
        hint = f"did you mean hf:{named}?" if like_hub else ""
        raise UserError(f"No model at {spec}: {hint or ways_out}")
    path = path.resolve()
    folder = path.parent if path.is_file() and path.suffix in WEIGHT_SUFFIXES else path
    if not any((folder / name).exists() for name in ("config.json", OF_OPEN_CLIP)):
        raise UserError(
            f"{path} is no model: it needs config.json (of transformers) or open_clip_config.json beside its weights."
        )
    return path


def _check_tag(spec: str) -> None:
    architecture, _, rest = spec.removeprefix("openclip:").partition("/")
    if not architecture or not rest:
        raise UserError(f"{spec} names no weights: write openclip:ARCH/TAG, or openclip:ARCH/FILE.")


def check_vlm(spec: str) -> None:
    """UserError where ``spec``, as of engine.models.vlm.load_vlm, names nothing that could be a model."""
    check_notation(spec)
    if spec.startswith("hf:"):
        check_repository(spec)
    elif spec != "demo":
        check_vlm_path(spec)


def check_vlm_path(spec: str) -> Path:
    folder = path_of(spec)
    if not folder.is_dir():
        raise UserError(
            f"There is no directory {spec}: give a local model directory, hf:ORG/NAME, or demo; after a move run "
            "saetui relink OLD NEW."
        )
    if not (folder / "config.json").is_file():
        raise UserError(f"{spec} has no config.json: give a directory written by save_pretrained.")
    return folder


def blocks_of(spec: str) -> Blocks | None:
    """What is known of the encoder's blocks without loading it; None where its config does not say it plainly."""
    try:
        whole = read_json(_folder(spec) / "config.json")
        config = whole.get("vision_config") or whole
        if config["model_type"] not in _PLAIN:
            return None
        alike = whole["model_type"] in _PLAIN and config["model_type"] != "dinov2"  # else tiles, or sizes of images
        side = config["image_size"] // config["patch_size"] if alike else 0
        cls = not config["model_type"].startswith("siglip")
        width, projected = config["hidden_size"], whole["model_type"] == "clip"
        last = whole["projection_dim"] if projected else width
        return Blocks(config["num_hidden_layers"], width, side**2 + cls if side else None, cls, last)
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return _KNOWN.get(spec)


def _folder(spec: str) -> Path:
    if spec in ("demo", "demo:encoder"):
        from engine.models.shipped import assets

        return assets() / ("clip" if spec == "demo" else "encoder")
    if spec.startswith("hf:"):
        return cached(spec)
    return path_of(spec)


def check_hook(spec: str, hook: HookPoint, width: int | None = None) -> None:
    """UserError for a hook point that the encoder ``spec`` does not have, or with vectors of another width."""
    blocks = blocks_of(spec)
    if blocks is None or hook.pooled:
        return
    if hook.index >= blocks.number:
        raise UserError(no_hook(spec, hook, blocks.number))
    if width is not None and width != blocks.width:
        raise UserError(other_width(spec, hook, blocks.width, width))


def width_of(spec: str, hook: HookPoint) -> int | None:
    """Dimensions of the activations at a hook point; None where that is known only when the encoder is loaded."""
    blocks = blocks_of(spec)
    if blocks is None:
        return None
    return blocks.last if hook.pooled else blocks.width


def no_hook(spec: str, hook: HookPoint, blocks: int) -> str:
    return f"{spec} has no {hook}: its blocks are {hook.kind}:0 to {hook.kind}:{blocks - 1}."


def other_width(spec: str, hook: HookPoint, has: int, reads: int) -> str:
    return (
        f"The SAE reads activations {reads} wide, {spec} has {has} at {hook}: give the encoder it was trained on to "
        "--encoder."
    )


def rows_of(spec: str, hook: HookPoint, policy: TokenPolicy) -> int | None:
    """Rows that an image has at a hook point; None where that is known only when the encoder is loaded. UserError for
    tokens that it does not have."""
    blocks = None if hook.pooled else blocks_of(spec)
    if blocks is None:
        return policy.rows_an_image(hook)
    if policy.kind == "cls" and not blocks.cls:
        raise UserError(f"{spec} has no CLS token: use --tokens mean, patches, all or random:K.")
    if blocks.tokens is not None and policy.count > blocks.tokens:
        raise UserError(too_many(spec, policy, blocks.tokens))
    if (rows := policy.rows_an_image(hook)) is not None or blocks.tokens is None:
        return rows
    return blocks.tokens - (blocks.cls if policy.kind == "patches" else 0)


def too_many(spec: str, policy: TokenPolicy, tokens: int) -> str:
    return f"{spec} has {tokens:,} token{'s' * (tokens != 1)} an image, fewer than --tokens {policy}: lower the number."
