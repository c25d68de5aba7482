"""Everything that an interrupted training continues from, in one file that is replaced in one step.

There is no random state in it: initialisation is a function of the seed, and batch ``s`` of the seed and ``s``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import UserError
from engine.sae.architectures import TrainingSAE
from engine.sae.config import CHECKPOINTS
from engine.sae.model import write_tensors
from engine.workspace import check_version

VERSION = 1


def checkpoint_path(folder: Path) -> Path:
    """Where the newest checkpoint of the SAE in ``folder`` is. Older ones are not kept: each is three times an SAE."""
    return folder / CHECKPOINTS / "newest.safetensors"


def save_checkpoint(folder: Path, model: TrainingSAE, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Replace the checkpoint in ``folder``. ``state``: JSON-able, at least ``step``, the number of steps done."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if model.dead is not None:
        tensors["dead"] = model.dead
    names = [name for name, _ in model.named_parameters()]
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{names[index]}.{key}": value for key, value in moments.items()}
    write_tensors(checkpoint_path(folder), tensors, json.dumps({"version": VERSION, **state}))


def read_state(folder: Path) -> dict[str, Any] | None:
    """The ``state`` of the checkpoint in ``folder``; None if there is no checkpoint, UserError if it is damaged."""
    path = checkpoint_path(folder)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["note"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    check_version(state.get("version"), VERSION, path)
    return state


def restore(folder: Path, model: TrainingSAE, optimiser: torch.optim.Optimizer) -> None:
    """Put the checkpoint in ``folder`` into ``model`` and ``optimiser``."""
    path = checkpoint_path(folder)
    device = str(model.W_enc.device)
    try:
        with safe_open(path, framework="pt", device=device) as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(_below("model.", tensors))
        model.dead = tensors.get("dead")
        moments = [_below(f"optimiser.{name}.", tensors) for name, _ in model.named_parameters()]
        loaded = {"state": {i: m for i, m in enumerate(moments) if m}}
        optimiser.load_state_dict(optimiser.state_dict() | loaded)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise _damaged(path, error) from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"The checkpoint {path} is damaged ({error}): remove it to train from the start.")
