"""Everything that an interrupted training continues from, in one file that is replaced in one step.

There is no random state in it: initialisation is a function of the seed, and batch ``s`` of the seed and ``s``.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from engine.files import open_tensors
from engine.records import to_json
from engine.sae.model import write_tensors
from engine.sae.state import Checkpointed, checkpoint_path, unreadable
from engine.sae.training_sae import TrainingSAE


def save_checkpoint(folder: Path, model: TrainingSAE, optimiser: torch.optim.Optimizer, state: Checkpointed) -> None:
    """Replace the checkpoint in ``folder``."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if model.dead is not None:
        tensors["dead"] = model.dead
    names = [name for name, _ in model.named_parameters()]
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{names[index]}.{key}": value for key, value in moments.items()}
    write_tensors(checkpoint_path(folder), tensors, json.dumps(to_json(state)))


def restore(folder: Path, model: TrainingSAE, optimiser: torch.optim.Optimizer) -> None:
    """Put the checkpoint in ``folder`` into ``model`` and ``optimiser``."""
    path = checkpoint_path(folder)
    device = str(model.W_enc.device)
    try:
        with open_tensors(path, "pt", device) as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        unknown = {"smallest": torch.full_like(model.smallest, torch.nan)}  # in checkpoints of older versions
        model.load_state_dict(unknown | _below("model.", tensors))
        model.dead = tensors.get("dead")
        moments = [_below(f"optimiser.{name}.", tensors) for name, _ in model.named_parameters()]
        loaded = {"state": {i: m for i, m in enumerate(moments) if m}}
        optimiser.load_state_dict(optimiser.state_dict() | loaded)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise unreadable(path, error) from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
