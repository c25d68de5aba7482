"""Vision encoders and where their activations are taken. Does not import torch until an encoder is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.models.asked import WEIGHT_SUFFIXES, check_encoder_path
from engine.models.hookpoints import HookPoint, TokenPolicy

if TYPE_CHECKING:
    import torch

    from engine.models.encoder import VisionEncoder

__all__ = ["HookPoint", "TokenPolicy", "load_encoder", "same_model"]


def same_model(was: str | None, now: str | None) -> bool:
    """Whether two ``VisionEncoder.sha256`` are of one model. Artefacts once knew the weights alone, not the
    architecture: with such, the weights decide."""
    weights, _, architecture = (was or "").partition(".")
    other_weights, _, other = (now or "").partition(".")
    return weights == other_weights and (not architecture or not other or architecture == other)


def load_encoder(
    spec: str, device: "str | torch.device" = "cpu", dtype: "torch.dtype | None" = None
) -> "VisionEncoder":
    """The vision encoder that ``spec`` names, in eval mode, on ``device``, with weights in ``dtype`` (None: float32).

    ``spec``: ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION`` (Hugging Face Hub or its local cache), ``openclip:ARCH/TAG``,
    ``openclip:ARCH/TAG@FILE`` or ``openclip:ARCH/FILE`` (weights in a file), a local directory that ``save_pretrained``
    or open_clip wrote, an open_clip weights file beside its ``open_clip_config.json``, ``demo`` or ``demo:encoder``.

    Weights are read from safetensors, else by torch's restricted loader (``weights_only``); code in a
    checkpoint is never run. Raises UserError when the model is missing, damaged or not supported. Within
    engine.models.kept.models_kept it is one that was loaded before, if there is one.
    """
    from engine.models.kept import kept

    return kept(spec, device, ("encoder", dtype), lambda: _loaded(spec, device, dtype))


def _loaded(spec: str, device: "str | torch.device", dtype: "torch.dtype | None") -> "VisionEncoder":
    from engine.models.hub import check_notation, hub_folder

    check_notation(spec)
    if spec in ("demo", "demo:encoder"):
        from engine.models.shipped import shipped

        return _local(shipped("clip" if spec == "demo" else "encoder"), spec, None, device, dtype)
    if spec.startswith("hf:"):
        folder = hub_folder(spec)
        return _local(folder, spec, folder.name, device, dtype)
    if spec.startswith("openclip:"):
        from engine.models.from_open_clip import load_tagged

        return load_tagged(spec, device, dtype)
    path = check_encoder_path(spec)
    return _local(path, str(path), None, device, dtype)


def _local(
    path: Path, spec: str, revision: str | None, device: "str | torch.device", dtype: "torch.dtype | None"
) -> "VisionEncoder":
    from engine.models.encoder import refusing_odd

    with refusing_odd(spec):
        return _read(path, spec, revision, device, dtype)


def _read(
    path: Path, spec: str, revision: str | None, device: "str | torch.device", dtype: "torch.dtype | None"
) -> "VisionEncoder":
    is_weights = path.is_file() and path.suffix in WEIGHT_SUFFIXES
    folder = path.parent if is_weights else path
    for_transformers, for_open_clip = ((folder / f"{name}config.json").exists() for name in ("", "open_clip_"))
    if for_transformers or for_open_clip:
        from engine.models.folder import check_folder

        check_folder(folder)
    if for_open_clip and (is_weights or not for_transformers):
        from engine.models.from_open_clip import load_folder

        return load_folder(folder, path if is_weights else None, spec, revision, device, dtype)
    if for_transformers:
        from engine.models import from_transformers, tower

        weights = from_transformers.WEIGHTS
        read = next((name for name in weights if (folder / name).is_file()), "the files of its index")
        if is_weights and path.name != read:
            raise UserError(
                f"Of {folder} transformers reads {read}, not {path.name}: give the directory, or copy {path.name} as "
                f"{weights[0] if path.suffix == '.safetensors' else weights[1]} into one of its own, with config.json."
            )
        load = tower.load_folder if tower.is_vlm(folder) else from_transformers.load_folder
        return load(folder, spec, revision, device, dtype)
    raise UserError(
        f"{path} is no model: it needs config.json (of transformers) or open_clip_config.json beside its weights."
    )
