"""The torch device to work on, and its memory."""

from pathlib import Path

import torch
from torch import Tensor

from engine import room
from engine.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """The device ``name``; ``auto``: a GPU if there is one, else the CPU. Raises UserError for a missing device."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{name!r} is not a device: choose auto, cpu, cuda, cuda:1 or mps.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"This machine has no {name} ({torch.cuda.device_count()} GPUs seen): choose auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("This machine has no mps: choose auto or cpu.")
    return device


def random_state(device: torch.device) -> Tensor:
    """The state of the random numbers that are drawn on ``device``: another one after each draw."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an accelerator or the host has no memory left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def free_memory(
    device: torch.device, system: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that can be had on ``device``, on a CPU within the control group ``group``; None where it does not tell."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    if device.type != "cpu":
        return None
    return room.free_memory(system, group)
