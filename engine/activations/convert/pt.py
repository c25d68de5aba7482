"""Files of ``torch.save``: one tensor each, or a dict with one. Those of arXiv 2504.02821's ``save_activations.py`` are
called ``..._part<N>.pt``. Nothing in them is executed; they are mapped, not read, unless an old torch wrote them."""

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.activations.convert.format import (
    MANY,
    NotRows,
    Part,
    Parts,
    PartsFormat,
    begins_with_rows,
    files_of,
    joined,
    part_of,
    read_header,
    register,
    series_of,
    the_one,
)
from engine.activations.convert.names import likely_of
from engine.config import RecogniseSettings
from engine.errors import UserError
from engine.regular import open_regular


@register
class Torch(PartsFormat):
    NAME = "pt"

    def find(self, path: Path) -> Sequence[Path]:
        return files_of(path, (".pt", ".pth"))

    def holds(self, files: Sequence[Path]) -> bool:
        return begins_with_rows(files, _part)

    def read(self, path: Path, files: Sequence[Path], settings: RecogniseSettings) -> Parts:
        series = series_of(files)
        if len(series) > 1:
            shown = ", ".join(str(path / one) for one in series[:MANY]) + (", ..." if len(series) > MANY else "")
            raise UserError(f"{path} holds parts of {len(series)} kinds: give those of one, in quotes: {shown}.")
        parts = [read_header(file, _part) for file in files]
        return Parts(parts=joined(parts, path), likely=likely_of(files[0]))


def _part(path: Path) -> Part:
    import torch

    loaded = _loaded(path)
    if isinstance(loaded, dict):
        tensors = {str(name): one for name, one in loaded.items() if isinstance(one, torch.Tensor)}
        name = the_one({one: tuple(tensor.shape) for one, tensor in tensors.items()}, path)
        tensor = tensors[name]
    elif isinstance(loaded, torch.Tensor):
        name, tensor = "", loaded
    else:
        raise NotRows(f"{path} holds a {type(loaded).__name__}: save one tensor, rows x width.")
    if tensor.layout != torch.strided:
        raise NotRows(f"{path} holds a sparse tensor: activations are dense.")
    return part_of(path, tensor.shape, _numpy_type(tensor.dtype, path), lambda: _array(path, name))


def _array(path: Path, name: str) -> np.ndarray:
    import torch

    loaded = _loaded(path)
    tensor = (loaded[next(key for key in loaded if str(key) == name)] if name else loaded).detach()
    if tensor.dtype == torch.bfloat16:
        found: np.ndarray = tensor.view(torch.int16).numpy().view(np.uint16)
        return found
    found = tensor.numpy()
    return found


def _loaded(path: Path) -> Any:
    import torch

    try:
        if not zipfile.is_zipfile(path):  # an old version of torch wrote it: it cannot be mapped
            with open_regular(path) as file:
                return torch.load(io.BytesIO(file.readall()), map_location="cpu", weights_only=True)
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > path.stat().st_size:
                raise UserError(f"{path} is compressed, which torch.save never does: save the tensor again.")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, or holds Python objects, of which none is made here: copy it again, or save tensors "
            "alone (of an SAE its state_dict)."
        ) from error


def _numpy_type(dtype: Any, path: Path) -> Any:
    import torch

    if dtype == torch.bfloat16:
        return None
    if not dtype.is_floating_point or dtype.itemsize < 2:
        raise NotRows(f"{path} holds {dtype}: save activations as float16, bfloat16, float32 or float64.")
    return str(dtype).removeprefix("torch.")
