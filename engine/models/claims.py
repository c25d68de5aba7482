"""A model is no larger than its weights: counted while a library makes it, before memory is taken for what it says."""

import contextlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn.modules import module as modules

from engine.errors import UserError
from engine.files import open_tensors

PER_BYTE = 2  # numbers that a byte of weights can hold: those of four bits
PER_TENSOR = 4  # tensors of a model to one of its weights: some files keep those of several parts, or layers, as one
SPARE_NUMBERS, SPARE_TENSORS = 1 << 24, 1_000  # what a model may have besides: computed tables, parts without weights


@contextlib.contextmanager
def within_weights(files: Sequence[Path], config: str) -> Iterator[None]:
    """In here a model is made as ``config`` describes it, without memory for its tensors, as on the device meta.

    UserError as soon as it has more of them, or more numbers, than the weights in ``files`` can be for.
    """
    numbers = SPARE_NUMBERS + PER_BYTE * sum(file.stat().st_size for file in files)
    tensors = SPARE_TENSORS + PER_TENSOR * sum(map(_tensors, files))

    def count(module: torch.nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal numbers, tensors
        if tensor is None or torch.nn.parameter.is_lazy(tensor):
            return
        numbers, tensors = numbers - tensor.numel(), tensors - 1
        if numbers < 0 or tensors < 0:
            shape = " x ".join(f"{side:,}" for side in tensor.shape)
            part = f"{shape} numbers in the {name} of its {type(module).__name__}"
            what = part if tensors >= 0 else "far more layers"
            raise UserError(
                f"{_named(files)} is smaller than the model that {config} describes, with {what}: fetch or "
                "save the checkpoint again."
            )

    hooks: list[Any] = [
        modules.register_module_parameter_registration_hook(count),
        modules.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(file: Path) -> int:
    """How many are in a file of weights, at most."""
    with contextlib.suppress(OSError, SafetensorError, zipfile.BadZipFile):  # who reads it says what is wrong
        if file.suffix == ".safetensors":
            with open_tensors(file, "pt") as tensors:
                return len(tensors.keys())
        with zipfile.ZipFile(file) as archive:
            return len(archive.infolist())
    return file.stat().st_size


def _named(files: Sequence[Path]) -> Path:
    return files[0] if len(files) == 1 else files[0].parent
