import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy import sparse

from engine.config import EncodeSettings
from engine.errors import Stopped, UserError
from engine.reporter import Reporter
from engine.sae.config import SAEConfig
from engine.sae.encode import encode_store
from engine.sae.model import SAE
from engine.workspace import Workspace
from tests.support.stores import write_store

D, W, ROWS = 6, 40, 50


@pytest.fixture(params=["topk", "batchtopk", "relu"])
def sae(request, workspace: Workspace) -> SAE:
    generator = torch.Generator().manual_seed(0)
    sae = SAE(SAEConfig(arch=request.param, d=D, w=W, k=4))
    for parameter in sae.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    sae.save(workspace.sae("s"))
    return sae


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, D)).astype(np.float32)


def encode(workspace, activations, to, **changes):
    usual = {"sae": "s", "activations": str(activations), "out": str(to), "batch_size": 16, "device": "cpu"}
    return encode_store(EncodeSettings(**usual | changes), workspace)


def test_latents_of_a_store_as_scipy_reads_them(workspace, sae, x, tmp_path):
    write_store(workspace.activations("a"), x, tokens=2, shard_images=7)
    result = encode(workspace, "a", tmp_path / "out" / "f.npz")
    found = sparse.load_npz(tmp_path / "out" / "f.npz")
    expected = sae.encode(torch.from_numpy(x)).numpy()
    assert found.format == "csr" and found.dtype == np.float32 and found.shape == (ROWS, W)
    found.check_format(full_check=True)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-5)
    assert vars(result) == {
        "out": str(tmp_path / "out" / "f.npz"), "rows": ROWS, "latents": W,
        "nonzero": int((expected > 0).sum()), "l0": (expected > 0).sum() / ROWS,
    }  # fmt: skip
    encode(workspace, "a", tmp_path / "g.npz")
    assert (tmp_path / "g.npz").read_bytes() == (tmp_path / "out" / "f.npz").read_bytes()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["f.npz"]


def test_latents_of_matrix_files(workspace, sae, x, tmp_path):
    pytest.importorskip("engine.activations.matrix_files")
    np.save(tmp_path / "x.npy", x)
    sparse.save_npz(tmp_path / "x.npz", sparse.csc_matrix(x))
    save_file({"x": x}, tmp_path / "x.safetensors")
    torch.save(torch.from_numpy(x), tmp_path / "x.pt")
    expected = sae.encode(torch.from_numpy(x)).numpy()
    for suffix in ("npy", "npz", "safetensors", "pt"):
        encode(workspace, tmp_path / f"x.{suffix}", tmp_path / "out.npz")
        np.testing.assert_allclose(sparse.load_npz(tmp_path / "out.npz").toarray(), expected, atol=1e-5)


def test_mistakes_are_named_and_harm_nothing(workspace, sae, x, tmp_path):
    (tmp_path / "out.npz").write_text("mine")
    write_store(workspace.activations("wide"), np.zeros((4, 7), np.float32))
    x[31, 2] = np.nan
    write_store(workspace.activations("bad"), x)
    for activations, changes, says in (
        ("wide", {}, r"wide is 7 wide, the SAE s reads activations 6 wide"),
        ("bad", {}, r"bad has a value that is not a finite number in row 31\b"),
        ("none", {}, "No activations named 'none'"),
        ("bad", {"sae": "none"}, "No SAE named 'none'"),
        ("bad", {"out": "out.csv"}, "does not end in .npz"),
        ("bad", {"batch_size": 0}, "--batch-size is 0"),
    ):
        with pytest.raises(UserError, match=says):
            encode(workspace, activations, tmp_path / "out.npz", **changes)
    assert (tmp_path / "out.npz").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "workspace"]


def test_stopped_it_leaves_nothing(workspace, sae, x, tmp_path):
    class Impatient(Reporter):
        def check(self):
            raise Stopped

    write_store(workspace.activations("a"), x)
    settings = EncodeSettings(sae="s", activations="a", out=str(tmp_path / "o.npz"), batch_size=16, device="cpu")
    with pytest.raises(Stopped):
        encode_store(settings, workspace, Impatient())
    assert [p.name for p in tmp_path.iterdir()] == ["workspace"]


def test_nothing_active_and_no_rows(workspace, x, tmp_path):
    sae = SAE(SAEConfig(arch="batchtopk", d=D, w=W, k=4))
    sae.save(workspace.sae("s"))
    write_store(workspace.activations("a"), x)
    write_store(workspace.activations("empty"), x[:0])
    assert encode(workspace, "a", tmp_path / "o.npz").nonzero == 0
    assert sparse.load_npz(tmp_path / "o.npz").shape == (ROWS, W)
    assert encode(workspace, "empty", tmp_path / "o.npz").l0 is None
    assert sparse.load_npz(tmp_path / "o.npz").shape == (0, W)


def test_a_store_of_another_hook_point_or_encoder_is_refused(workspace, x, tmp_path):
    """Equally wide as it may be."""
    store = write_store(workspace.activations("a"), x)
    manifest = store.manifest
    says = {"model": manifest.model.spec, "model_sha256": manifest.model.sha256, "hook": manifest.hook}
    for changed in ({"hook": "layer:99"}, {"model": "hf:another/model", "model_sha256": "1" * 64}):
        SAE(SAEConfig(arch="relu", d=D, w=W, **says | changed)).save(workspace.sae("s"))
        with pytest.raises(UserError, match=f"holds {manifest.hook} of .*, the SAE s reads {changed.get('hook', '')}"):
            encode(workspace, "a", tmp_path / "f.npz")
        assert not (tmp_path / "f.npz").exists()
    SAE(SAEConfig(arch="relu", d=D, w=W, **says)).save(workspace.sae("s"))
    assert encode(workspace, "a", tmp_path / "f.npz").rows == ROWS


@pytest.mark.usefixtures("sae")
def test_a_matrix_of_nothing_is_a_sentence(workspace, tmp_path):
    np.save(tmp_path / "empty.npy", np.zeros((0, D), np.float32))
    with pytest.raises(UserError, match="holds no numbers"):
        encode(workspace, tmp_path / "empty.npy", tmp_path / "f.npz")
    assert not (tmp_path / "f.npz").exists()
