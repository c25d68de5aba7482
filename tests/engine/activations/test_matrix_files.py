import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file
from scipy import sparse

from engine.activations.matrix_files import read_matrix
from engine.config import MsSettings
from engine.errors import UserError
from engine.metrics.by_group import mean_ms
from engine.metrics.monosemanticity import monosemanticity
from engine.neurons.matrix_scores import ms_files
from engine.neurons.results import MatrixScored
from engine.records import from_json, to_json
from engine.workspace import Workspace
from tests.support.stores import write_store


@pytest.fixture
def matrix():
    rng = np.random.default_rng(0)
    return np.maximum(rng.normal(size=(12, 5)), 0).astype(np.float32)


def write(path, matrix):
    """One file of every kind; returns the paths."""
    tensor, csr = torch.from_numpy(matrix), sparse.csr_array(matrix)
    np.save(path / "a.npy", matrix)
    np.savez(path / "one.npz", anything=matrix, count=np.arange(3))
    sparse.save_npz(path / "csr.npz", csr)
    sparse.save_npz(path / "csc.npz", csr.tocsc(), compressed=False)
    sparse.save_npz(path / "coo.npz", sparse.coo_matrix(matrix))
    with h5py.File(path / "one.h5", "w") as file:
        file["group/values"] = matrix
        file["image"] = np.arange(12)
    with h5py.File(path / "shard.h5", "w") as file:
        file["other"] = np.zeros((2, 2))
        file["activations"] = matrix
    torch.save(tensor, path / "dense.pt")
    torch.save({"x": tensor, "step": 3}, path / "dict.pt")
    torch.save(tensor.to_sparse(), path / "coo.pt")
    torch.save(tensor.to_sparse_csr(), path / "csr.pt")
    save_file({"x": matrix, "bias": matrix[0]}, path / "a.safetensors")
    return sorted(path.iterdir())


def dense(matrix):
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_every_format_gives_the_same_matrix(tmp_path, matrix):
    paths = write(tmp_path, matrix)
    assert len(paths) == 12
    for path in paths:
        np.testing.assert_array_equal(dense(read_matrix(path)), matrix, err_msg=path.name)


def test_bfloat16_is_read_exactly(tmp_path, matrix):
    rounded = torch.from_numpy(matrix).bfloat16()
    torch.save(rounded, tmp_path / "b.pt")
    save_torch_file({"x": rounded}, tmp_path / "b.safetensors")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["activations"] = rounded.view(torch.uint16).numpy()
        file["activations"].attrs["dtype"] = "bfloat16"
    for path in tmp_path.iterdir():
        found = read_matrix(path)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rounded.float().numpy(), err_msg=path.name)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_truncated_files_are_named(tmp_path, matrix):
    large = np.concatenate([matrix] * 200)
    for path in write(tmp_path, large):
        content = path.read_bytes()
        for length in (0, 3, len(content) // 2, len(content) - 5):
            path.write_bytes(content[:length])
            try:
                found = read_matrix(path)
            except UserError as error:
                assert path.name in str(error) and "\n" not in str(error)
            else:  # h5py and zip files may end in padding
                np.testing.assert_array_equal(dense(found), large, err_msg=f"{path.name} {length}")
                assert length == len(content) - 5


def test_wrong_contents_are_named(tmp_path, matrix):
    (tmp_path / "a.txt").write_text("1 2")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=matrix, b=matrix)
    torch.save([1, 2], tmp_path / "list.pt")
    save_file({"x": matrix[0]}, tmp_path / "vector.safetensors")
    for name in ("a.txt", "cube.npy", "objects.npy", "two.npz", "list.pt", "vector.safetensors", "missing.npy"):
        with pytest.raises(UserError, match=name):
            read_matrix(tmp_path / name)


def test_pickled_code_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save(Harmful(), tmp_path / "harmful.pt")
    objects = np.array([[Harmful()]], object)
    np.savez(tmp_path / "harmful.npz", objects)
    for name in ("harmful.pt", "harmful.npz"):
        with pytest.raises(UserError, match=f"{name} .*Python objects, which may run code") as refused:
            read_matrix(tmp_path / name)
        assert "weights_only" not in str(refused.value), "no advice to run it"
    assert not (tmp_path / "ran").exists()


def test_ms_of_files(tmp_path, workspace, matrix):
    matrix[:, 2] = 0
    np.save(tmp_path / "E.npy", np.random.default_rng(1).normal(size=(12, 3)))
    sparse.save_npz(tmp_path / "A.npz", sparse.csr_array(matrix))
    given = MsSettings(activations=str(tmp_path / "A.npz"), embeddings=str(tmp_path / "E.npy"))
    result = ms_files(given, workspace)
    expected = monosemanticity(sparse.csr_array(matrix), np.load(tmp_path / "E.npy"))
    told = json.loads(json.dumps(to_json(result), allow_nan=False))
    names = ["ms", "support", "effective_support", "mean", "best", "worst", "undefined", "baseline", "std"]
    assert list(told) == [*names, "low", "high"]
    assert from_json(MatrixScored, told, "it") == result
    assert result.ms[2] is None and result.undefined == 1
    assert [v for v in result.ms if v is not None] == expected.ms[~np.isnan(expected.ms)].tolist()
    assert list(result.support) == expected.support.tolist()
    assert result.std == pytest.approx(np.nanstd(expected.ms, ddof=1))
    assert (result.low, result.high) == (mean_ms(expected.ms)[0].low, mean_ms(expected.ms)[0].high)
    assert result.mean == expected.mean and result.baseline == expected.baseline


def test_stores_of_different_images_have_no_ms(workspace):
    """As where each could not read another image: as many rows, and some of them beside those of another image."""
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    write_store(workspace.activations("a"), x)
    write_store(workspace.embeddings("same"), x, paths=[f"moved/{i}.png" for i in range(6)])
    write_store(workspace.embeddings("other"), x, paths=list("abcdef"), shows=[0, 1, 2, 4, 5, 6])
    result = ms_files(MsSettings(activations="a", embeddings="same", min_support=6), workspace)
    assert result.ms == (None,) * 4 and result.support == (5,) * 4
    with pytest.raises(UserError, match=r"a has rows of 3.png where .*other has those of d: give stores of the same"):
        ms_files(MsSettings(activations="a", embeddings="other"), workspace)


def test_missing_sources_are_named(workspace, tmp_path):
    np.save(tmp_path / "E.npy", np.ones((3, 3)))
    with pytest.raises(UserError, match=r"nowhere\.npz does not exist"):
        ms_files(MsSettings(activations="nowhere.npz", embeddings=str(tmp_path / "E.npy")), workspace)
    with pytest.raises(UserError, match="No activations named 'A'"):
        ms_files(MsSettings(activations="A", embeddings=str(tmp_path / "E.npy")), workspace)


def test_torch_is_not_imported(tmp_path, matrix):
    np.save(tmp_path / "A.npy", matrix)
    save_file({"x": matrix}, tmp_path / "E.safetensors")
    code = """
import sys
from pathlib import Path
from engine.config import MsSettings
from engine.neurons.matrix_scores import ms_files
from engine.workspace import Workspace
ms_files(MsSettings(activations=sys.argv[1], embeddings=sys.argv[2]), Workspace.find(sys.argv[3]))
assert not {"torch", "transformers", "open_clip"} & set(sys.modules)
"""
    paths = [str(tmp_path / "A.npy"), str(tmp_path / "E.safetensors"), str(tmp_path)]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)


@pytest.mark.parametrize("shape", [(24, 0), (0, 8), (0, 0)])
@pytest.mark.parametrize("side", ["activations", "embeddings"])
def test_a_matrix_of_nothing_is_a_sentence(shape: tuple[int, int], side: str, tmp_path: Path) -> None:
    empty = np.zeros(shape, np.float32)
    np.save(tmp_path / "m.npy", empty)
    sparse.save_npz(tmp_path / "m.npz", sparse.csr_matrix(shape, dtype=np.float32))
    torch.save(torch.from_numpy(empty), tmp_path / "m.pt")
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["activations"] = empty
    np.save(tmp_path / "other.npy", np.ones((24, 8), np.float32))
    for path in tmp_path.glob("m.*"):
        asked = {"activations": str(tmp_path / "other.npy"), "embeddings": str(tmp_path / "other.npy"), side: str(path)}
        with pytest.raises(UserError, match=f"is {shape[0]} x {shape[1]}, so it holds no numbers"):
            ms_files(MsSettings(**asked), Workspace(tmp_path))
