"""The saved SAE: inference, files, and what its errors say."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import UserError
from engine.files import write_json
from engine.sae.architectures import REGISTRY
from engine.sae.config import SAEConfig, learning_rate, read_config
from engine.sae.fidelity import measure
from engine.sae.model import SAE

D, W = 6, 20


def made(arch="batchtopk", **options):
    generator = torch.Generator().manual_seed(0)
    sae = SAE(SAEConfig(arch=arch, d=D, w=W, k=4, **options))
    for name, parameter in sae.named_parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if name == "threshold":
            parameter.fill_(0.8)
    return sae, torch.randn(30, D, generator=generator)


@pytest.mark.parametrize("arch", REGISTRY)
def test_encode_and_decode_by_the_formula(arch):
    sae, x = made(arch)
    a, x_hat = sae.encode(x), sae(x)
    for b in range(len(x)):
        z = [max(0.0, float((x[b] - sae.b_dec) @ sae.W_enc[:, j] + sae.b_enc[j])) for j in range(W)]
        kept = sorted(z, reverse=True)[:4] if arch in ("topk", "archetypal") else z
        bound = 0.8 if REGISTRY[arch].has_threshold else 0.0
        expected = [v if v in kept and v > bound else 0.0 for v in z]
        assert a[b].tolist() == pytest.approx(expected, abs=1e-5)
        decoded = sum(expected[j] * sae.W_dec[j] for j in range(W)) + sae.b_dec
        torch.testing.assert_close(x_hat[b], decoded, rtol=1e-4, atol=1e-4)


def test_tokens_of_any_batch_shape_are_encoded_alone():
    sae, x = made("topk")
    torch.testing.assert_close(sae.encode(x.view(5, 6, D)).view(30, W), sae.encode(x))
    torch.testing.assert_close(sae.encode(x[3]), sae.encode(x)[3])
    assert sae(x.half()).dtype == torch.float32


def test_save_and_load(tmp_path):
    sae, x = made(groups=(5, 20), scale=3.5, model="demo", hook="layer:2", tokens="all")
    sae.save(tmp_path / "s")
    sae.save(tmp_path / "again")
    loaded = SAE.load(tmp_path / "s")
    assert torch.equal(loaded(x), sae(x))
    assert loaded.config == sae.config
    assert not any(p.requires_grad for p in loaded.parameters())
    tensors = load_file(tmp_path / "s" / "sae.safetensors")
    assert {k: tuple(v.shape) for k, v in tensors.items()} == {
        "W_enc": (D, W), "b_enc": (W,), "W_dec": (W, D), "b_dec": (D,), "threshold": (W,),
    }  # fmt: skip
    for name in ("sae.safetensors", "config.json"):
        assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    made("relu")[0].save(tmp_path / "r")
    assert "threshold" not in load_file(tmp_path / "r" / "sae.safetensors")


def test_another_width_is_refused_naming_both():
    sae, _ = made(hook="layer:2", model="demo")
    with pytest.raises(UserError, match=r"6 wide.* 7 wide"):
        sae.encode(torch.zeros(2, 7))


def edit(path, **changes):
    """As another version might have written it."""
    write_json(path, json.loads(path.read_text()) | changes)


def of_an_older_version(folder):
    edit(folder / "config.json", weights_sha256=None)
    return folder


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "no finished SAE"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: edit(f / "config.json", version=2), "upgrade saetui"),
        (lambda f: edit(f / "config.json", format="other"), "not the config"),
        (lambda f: edit(f / "config.json", d="six"), "damaged"),
        (lambda f: edit(f / "config.json", arch="none such"), "damaged"),
        (lambda f: edit(f / "config.json", w=21), r"W_enc is \(6, 20\), expected \(6, 21\)"),
        (lambda f: (f / "sae.safetensors").unlink(), "no sae.safetensors"),
        (lambda f: (f / "sae.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"), "damaged"),
        (lambda f: (f / "sae.safetensors").write_bytes((f / "sae.safetensors").read_bytes()[:-9]), "damaged"),
        (lambda f: save_file({"W_enc": torch.zeros(D, W)}, f / "sae.safetensors"), "is damaged"),
        (
            lambda f: save_file({"W_enc": torch.zeros(D, W)}, of_an_older_version(f) / "sae.safetensors"),
            "b_enc is missing",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_one_sentence(tmp_path, harm, says):
    made()[0].save(tmp_path / "s")
    harm(tmp_path / "s")
    with pytest.raises(UserError, match=says) as error:
        SAE.load(tmp_path / "s")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_folder():
    with pytest.raises(UserError, match="no SAE at"):
        read_config("/nowhere/sae")


def test_fidelity_by_the_formulas():
    sae, x = made()
    x = x * torch.linspace(0.1, 3, D) + 40  # a mean far from 0: float32 must not lose the variance
    sae.b_dec.add_(40)
    found = measure(sae, [x[:12], x[12:24], x[24:]])
    x_hat, a = sae(x).double().numpy(), sae.encode(x).numpy()
    x = x.double().numpy()
    assert found.rows == 30
    assert found.fve == pytest.approx(1 - ((x - x_hat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-5)
    parts = [
        1 - ((x[s] - x_hat[s]) ** 2).sum() / ((x[s] - x[s].mean(0)) ** 2).sum()
        for s in (slice(0, 12), slice(12, 24), slice(24, 30))
    ]
    assert found.fve_batch == pytest.approx(np.mean(parts), rel=1e-5)
    assert found.l0 == pytest.approx((a > 0).sum(1).mean())
    cosines = [x[b] @ x_hat[b] / np.linalg.norm(x[b]) / np.linalg.norm(x_hat[b]) for b in range(30)]
    assert found.cosine == pytest.approx(np.mean(cosines), rel=1e-5)
    share = (a > 0).mean(0)
    np.testing.assert_allclose(found.frequency, share)
    assert found.dead == pytest.approx((share == 0).mean())
    assert found.dense == pytest.approx((share > 0.1).mean())


def test_fidelity_without_rows_of_a_hundredfold_norm_by_the_formulas():
    """An SAE that gives back the long rows alone: its FVE is near 1, that of all other rows is 0."""
    sae, x = made()
    x[4], x[25] = 100 * x[4], 120 * x[25]
    long = x.norm(dim=1) > 10 * x.norm(dim=1).median()
    assert long.sum() == 2
    found = measure(sae, [x[:12], x[12:24], x[24:]], longest=float(10 * x.norm(dim=1).median()))
    x_hat, keep = sae(x).double().numpy(), ~long.numpy()
    x = x.double().numpy()
    apart, error = ((x - x.mean(0)) ** 2).sum(1), ((x - x_hat) ** 2).sum(1)
    assert found.outliers == pytest.approx(2 / 30)
    assert found.outlier_variance == pytest.approx(apart[~keep].sum() / apart.sum(), rel=1e-5)
    own = ((x[keep] - x[keep].mean(0)) ** 2).sum()
    assert found.fve_without_outliers == pytest.approx(1 - error[keep].sum() / own, rel=1e-4)
    assert found.fve == pytest.approx(1 - error.sum() / apart.sum(), rel=1e-4)
    plain = measure(sae, [torch.from_numpy(x).float()])
    assert (plain.outliers, plain.outlier_variance, plain.fve_without_outliers) == (0, 0, plain.fve)
    nothing = measure(sae, [torch.from_numpy(x).float()], longest=0.0)
    assert nothing.outliers == 1 and np.isnan(nothing.fve_without_outliers)


def test_fidelity_of_nothing_and_of_a_constant_is_not_a_number():
    sae, _ = made()
    assert np.isnan(measure(sae, []).fve)
    assert np.isnan(measure(sae, [sae.b_dec.expand(4, D)]).fve)


def test_learning_rate():
    assert learning_rate(2**14) == pytest.approx(2e-4)
    assert learning_rate(2**12) == pytest.approx(4e-4)
