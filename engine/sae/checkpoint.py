"""Everything that an interrupted training continues from, in one file that is replaced in one step.

There is no random state in it: initialisation is a function of the seed, and batch ``s`` of the seed and ``s``.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from engine.files import open_tensors, sealed
from engine.records import to_json
from engine.sae.model import write_tensors
from engine.sae.state import Checkpointed, check_tensors, checkpoint_path, tensors_sha256, unreadable
from engine.sae.training_sae import TrainingSAE


def save_checkpoint(folder: Path, model: TrainingSAE, optimiser: torch.optim.Optimizer, state: Checkpointed) -> None:
    """Replace the checkpoint in ``folder``."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if model.dead is not None:
        tensors["dead"] = model.dead
    names = [name for name, _ in model.named_parameters()]
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{names[index]}.{key}": value for key, value in moments.items()}
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    state = replace(state, tensors_sha256=tensors_sha256(_arrays(tensors)))
    write_tensors(checkpoint_path(folder), tensors, json.dumps(sealed(to_json(state))))


def restore(folder: Path, state: Checkpointed, model: TrainingSAE, optimiser: torch.optim.Optimizer) -> None:
    """Put the checkpoint in ``folder``, which says ``state`` of itself, into ``model`` and ``optimiser``."""
    path = checkpoint_path(folder)
    try:
        with open_tensors(path, "pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_tensors(folder, state, _arrays(tensors))
        tensors = {name: tensor.to(model.W_enc.device) for name, tensor in tensors.items()}
        unknown = {"smallest": torch.full_like(model.smallest, torch.nan)}  # in checkpoints of older versions
        model.load_state_dict(unknown | _below("model.", tensors))
        model.dead = tensors.get("dead")
        moments = [_below(f"optimiser.{name}.", tensors) for name, _ in model.named_parameters()]
        loaded = {"state": {i: m for i, m in enumerate(moments) if m}}
        optimiser.load_state_dict(optimiser.state_dict() | loaded)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise unreadable(path, error) from error


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
