"""Matrices from the files that people keep activations and embeddings in. torch is imported for .pt alone."""

import contextlib
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from engine.errors import UserError, reason, refusal
from engine.files import open_tensors, read_bytes
from engine.regular import open_regular

Matrix = Any  # dense ndarray, or scipy sparse

FORMATS = ".npy, .npz, .h5, .pt, .safetensors or an activation store"
MOST = 256 << 20  # bytes that a matrix may claim, ...
RATIO = 100  # ... or this many times those of its file, if that is more
PREFERRED = ("activations", "embeddings", "latents")  # of several matrices in one file


def read_matrix(path: Path) -> Matrix:
    """The matrix in ``path``: a dense array (N, columns), or a scipy sparse one where the file has that.

    .npy (mapped, not read); .npz of ``scipy.sparse.save_npz`` or with one array; .h5 with one 2-D dataset, or one named
    ``activations``; .pt with a tensor, dense or sparse, or a dict with one; .safetensors with one 2-D tensor; an
    activation store's folder. bfloat16 becomes float32. UserError, which names the file, for anything else.
    """
    if path.is_dir():
        from engine.activations.store import Store

        store = Store.open(path)
        store.check_filled()
        return store.read(0, store.rows)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UserError(f"{path} has no format that can be read here: give {FORMATS}.")
    try:
        open_regular(path).close()
        _check_shard(path)
        return _filled(_plausible(read(path), path), path)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path.") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory: save it sparse (scipy.sparse.save_npz).") from error
    except Exception as error:  # what a damaged file raises depends on where in it the damage is
        damaged = UserError(f"{path} is damaged or not a {path.suffix} file ({reason(error)}): write it again.")
        raise refusal(error, path) or damaged from error


def _check_shard(path: Path) -> None:
    """UserError for a shard that is not as the manifest beside it says."""
    from engine.activations.manifest import FILE, read_manifest
    from engine.activations.shards import Shard, intact

    shards: tuple[Shard, ...] = ()
    if path.suffix == ".h5" and (path.parent / FILE).is_file():
        with contextlib.suppress(UserError):  # a manifest of something else
            shards = read_manifest(path.parent).shards
    for shard in shards:
        if shard.file == path.name:
            intact(path.parent, shard)


def _npy(path: Path) -> np.ndarray:
    return _matrix(np.load(path, mmap_mode="r", allow_pickle=False), path)


def _npz(path: Path) -> Matrix:
    names = {Path(name).stem for name in _members(path)}
    if {"format", "shape", "data"} <= names:
        return sparse.load_npz(path)
    with np.load(path, allow_pickle=False) as arrays:
        return _only({name: arrays[name] for name in arrays.files}, path)


def _hdf5(path: Path) -> np.ndarray:
    import h5py

    from engine.hdf5 import HDF5File, read_array, read_text

    with HDF5File(path) as file:
        found: dict[str, Any] = {}
        file.visititems(lambda name, item: found.setdefault(name, item) if isinstance(item, h5py.Dataset) else None)
        dataset = _only(found, path)
        values = read_array(dataset)
        bits = dataset.dtype == np.uint16 and read_text(dataset, "dtype") == "bfloat16"
        return _from_bfloat16(values) if bits else values


def _torch(path: Path) -> Matrix:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse tensors: a beta notice, and that their indices are checked
        if zipfile.is_zipfile(path):
            _members(path)
        with torch.sparse.check_sparse_tensor_invariants():
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(loaded, dict):
            loaded = _only({str(k): v for k, v in loaded.items() if isinstance(v, torch.Tensor)}, path)
        if not isinstance(loaded, torch.Tensor):
            raise UserError(f"{path} holds a {type(loaded).__name__}: save one tensor, images x columns.")
        tensor = _matrix(loaded.detach(), path)
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        if tensor.layout == torch.strided:
            return tensor.numpy()
        coo = tensor.to_sparse_coo().coalesce()
    rows, columns = coo.indices().numpy()
    return sparse.coo_array((coo.values().numpy(), (rows, columns)), shape=tuple(coo.shape)).tocsr()


def _safetensors(path: Path) -> np.ndarray:
    from safetensors import deserialize

    with open_tensors(path, "np") as file:
        name, tensor = _one({key: file.get_slice(key) for key in file.keys()}, path)  # noqa: SIM118 - not a dict
        if tensor.get_dtype() != "BF16":
            return file.get_tensor(name)
    stored = dict(deserialize(read_bytes(path, sys.maxsize)))[name]
    return _from_bfloat16(np.frombuffer(stored["data"], "<u2")).reshape(stored["shape"])


_READERS: dict[str, Callable[[Path], Matrix]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".pt": _torch,
    ".pth": _torch,
    ".safetensors": _safetensors,
}


def _members(path: Path) -> list[str]:
    """Names in a zip archive. ValueError for one that would unpack to far more than it has."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    _check_size(sum(info.file_size for info in infos), path)
    return [info.filename for info in infos]


def _filled(matrix: Matrix, path: Path) -> Matrix:
    if 0 in matrix.shape:
        rows, columns = matrix.shape
        raise UserError(f"{path} is {rows:,} x {columns:,}, so it holds no numbers: give images x columns of some.")
    return matrix


def _plausible(matrix: Matrix, path: Path) -> Matrix:
    """``matrix`` if its numbers are some, and as many as a file of that size may have. ValueError otherwise."""
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"its values are {matrix.dtype}, not numbers")
    if not sparse.issparse(matrix):
        _check_size(matrix.size * matrix.dtype.itemsize, path)
        return matrix
    _check_size(max(matrix.shape), path)
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)  # compiled code believes the indices
    return matrix


def _check_size(claimed: int, path: Path) -> None:
    size = path.stat().st_size
    if claimed > max(MOST, RATIO * size):
        raise ValueError(f"it claims {claimed:,} bytes and has {size:,}")


def _only(arrays: Mapping[str, Any], path: Path) -> Any:
    return _one(arrays, path)[1]


def _one(arrays: Mapping[str, Any], path: Path) -> tuple[str, Any]:
    """The one matrix among ``arrays``, or the one with a name that says it is meant."""
    matrices = {name: array for name, array in arrays.items() if len(_shape(array)) == 2}
    for name in PREFERRED:
        if name in matrices:
            return name, matrices[name]
    if len(matrices) != 1:
        has = f"holds {len(matrices)} matrices ({', '.join(list(matrices)[:4])})" if matrices else "holds no matrix"
        raise UserError(f"{path} {has}: keep one, images x columns, or name it activations.")
    return next(iter(matrices.items()))


def _matrix(array: Any, path: Path) -> Any:
    if len(array.shape) != 2:
        raise UserError(f"{path} has shape {tuple(array.shape)}: a matrix, images x columns, is needed.")
    return array


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.get_shape()) if hasattr(array, "get_shape") else tuple(array.shape)


def _from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
