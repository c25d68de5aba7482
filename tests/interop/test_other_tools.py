"""SAEs through the code of other tools: they save and we read, we write and they load, to the same latents.

Needs the packages (``pip install '.[interop]'``); CI has a step for it.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.config import ExportSettings, ImportSettings
from engine.sae.architectures import REGISTRY
from engine.sae.config import SAEConfig
from engine.sae.convert import FORMATS
from engine.sae.convert.dictionary_learning import CLASSES
from engine.sae.exchange import export_sae, import_sae
from engine.sae.model import SAE, shapes
from engine.workspace import Workspace

D, W, K = 16, 48, 5
X = torch.randn(64, D, generator=torch.Generator().manual_seed(7)) * 2 + 0.5
READS = {"model": "hf:openai/clip-vit-large-patch14-336", "hook": "layer:22", "tokens": "cls"}

Codes = tuple[Tensor, Tensor]
"""Latents of X, and its reconstruction."""


def randomised(module: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """With every number of it random, as after a training: biases too, and no direction of length 1."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = torch.randn(parameter.shape, generator=chance) * (0.3 if parameter.ndim == 2 else 0.2)
            parameter.copy_(value.abs() if "threshold" in name and parameter.ndim else value)
    return module


def imported(source: Path, place: Path, **more: Any) -> SAE:
    settings = ImportSettings(source=str(source), name="s", **(READS | more))
    return SAE.load(import_sae(settings, Workspace(place)).path)


def ours(arch: str, place: Path) -> SAE:
    """A random SAE of the workspace ``place``, called ``s``, with directions of length 1."""
    w_groups = (8, 24, W) if "matryoshka" in arch else ()
    config = SAEConfig(arch=arch, d=D, w=W, k=K if "topk" in arch else 0, groups=w_groups, **READS)
    chance = torch.Generator().manual_seed(3)
    weights = {name: torch.randn(shape, generator=chance) * 0.3 for name, shape in shapes(config).items()}
    weights["W_dec"] /= weights["W_dec"].norm(dim=1, keepdim=True)
    if REGISTRY[config.arch].has_threshold:
        one = "batchtopk" in arch
        weights["threshold"] = torch.full((W,), 0.4) if one else torch.rand(W, generator=chance)
    sae = SAE.of(config, weights)
    Workspace(place).sae("s").mkdir(parents=True)
    sae.save(Workspace(place).sae("s"))
    return sae


def exported(format: str, place: Path) -> Path:
    out = place / "out"
    export_sae(ExportSettings(sae="s", to=format, out=str(out)), Workspace(place))
    return out


def assert_equal(sae: SAE, theirs: Codes) -> None:
    a = sae.encode(X)
    torch.testing.assert_close(a, theirs[0].detach().to(a.dtype), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(a), theirs[1].detach().to(a.dtype), rtol=1e-5, atol=2e-5)
    share = (a > 0).float().mean()
    assert 0.02 < share < 0.9  # so that the threshold or K is at work


# dictionary_learning


def _dictionary_classes() -> dict[str, Callable[[], torch.nn.Module]]:
    dictionary = pytest.importorskip("dictionary_learning.dictionary")
    trainers = pytest.importorskip("dictionary_learning.trainers")
    top_k = pytest.importorskip("dictionary_learning.trainers.top_k")
    batch = pytest.importorskip("dictionary_learning.trainers.batch_top_k")
    nested = pytest.importorskip("dictionary_learning.trainers.matryoshka_batch_top_k")
    del trainers
    return {
        "AutoEncoder": lambda: dictionary.AutoEncoder(D, W),
        "AutoEncoderNew": lambda: dictionary.AutoEncoderNew(D, W),
        "GatedAutoEncoder": lambda: dictionary.GatedAutoEncoder(D, W),
        "JumpReluAutoEncoder": lambda: dictionary.JumpReluAutoEncoder(D, W),
        "AutoEncoderTopK": lambda: top_k.AutoEncoderTopK(D, W, K),
        "BatchTopKSAE": lambda: batch.BatchTopKSAE(D, W, K),
        "MatryoshkaBatchTopKSAE": lambda: nested.MatryoshkaBatchTopKSAE(D, W, K, [8, 16, 24]),
    }


def _load_dictionary(folder: Path) -> Codes:
    utils = pytest.importorskip("dictionary_learning.utils")
    module, _ = utils.load_dictionary(str(folder), "cpu")
    a = module.encode(X)
    return a, module.decode(a)


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "MatroyshkaBatchTopKSAE"])
def test_what_dictionary_learning_saves_is_read(name: str, tmp_path: Path) -> None:
    module = randomised(_dictionary_classes()[name]())
    if "TopK" in name and name != "AutoEncoderTopK":
        module.threshold.fill_(0.7)
    folder = tmp_path / "trainer_0"
    folder.mkdir()
    torch.save(module.state_dict(), folder / "ae.pt")
    trainer = {"dict_class": name, "activation_dim": D, "dict_size": W, "layer": "", "lm_name": ""}
    trainer |= {"k": K} if "TopK" in name else {}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    assert_equal(imported(folder, tmp_path / "w"), _load_dictionary(folder))


@pytest.mark.parametrize("arch", FORMATS["dictionary_learning"].HOLDS)
def test_dictionary_learning_reads_what_is_written(arch: str, tmp_path: Path) -> None:
    sae = ours(arch, tmp_path)
    assert_equal(sae, _load_dictionary(exported("dictionary_learning", tmp_path)))


# SAELens


def _load_saelens(folder: Path) -> Codes:
    module = pytest.importorskip("sae_lens").SAE.load_from_disk(str(folder))
    a = module.encode(X)
    return a, module.decode(a)


def _save_saelens(folder: Path, kind: str, **more: Any) -> None:
    saes = pytest.importorskip("sae_lens.saes")
    name = {"standard": "StandardSAE", "topk": "TopKSAE", "jumprelu": "JumpReLUSAE", "gated": "GatedSAE"}[kind]
    config = getattr(saes, f"{name}Config")(d_in=D, d_sae=W, **more)
    config.metadata.model_name, config.metadata.hook_name = "openai/clip", "vision_model.encoder.layers.22"
    randomised(getattr(saes, name)(config)).save_model(folder)


@pytest.mark.parametrize("subtracts", (True, False))
@pytest.mark.parametrize("kind", ("standard", "topk", "jumprelu", "gated"))
def test_what_saelens_saves_is_read(kind: str, subtracts: bool, tmp_path: Path) -> None:
    more: dict[str, Any] = {"k": K} if kind == "topk" else {}
    _save_saelens(tmp_path / "sae", kind, apply_b_dec_to_input=subtracts, **more)
    assert_equal(imported(tmp_path / "sae", tmp_path / "w"), _load_saelens(tmp_path / "sae"))


def test_saelens_may_choose_by_length(tmp_path: Path) -> None:
    _save_saelens(tmp_path / "sae", "topk", k=K, rescale_acts_by_decoder_norm=True)
    assert_equal(imported(tmp_path / "sae", tmp_path / "w"), _load_saelens(tmp_path / "sae"))


@pytest.mark.parametrize("arch", FORMATS["saelens"].HOLDS)
def test_saelens_reads_what_is_written(arch: str, tmp_path: Path) -> None:
    sae = ours(arch, tmp_path)
    assert_equal(sae, _load_saelens(exported("saelens", tmp_path)))


# sparsify


def _load_sparsify(folder: Path) -> Codes:
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"  # read when it is imported; Triton needs a GPU
    module = pytest.importorskip("sparsify").SparseCoder.load_from_disk(folder)
    found = module.encode(X)
    a = torch.zeros(len(X), W).scatter(1, found.top_indices, found.top_acts)
    return a, module.decode(found.top_acts, found.top_indices)


def test_what_sparsify_saves_is_read(tmp_path: Path) -> None:
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    sparsify = pytest.importorskip("sparsify")
    module = sparsify.SparseCoder(D, sparsify.SparseCoderConfig(num_latents=W, k=K))
    randomised(module).save_to_disk(tmp_path / "layers.22")
    assert_equal(imported(tmp_path / "layers.22", tmp_path / "w"), _load_sparsify(tmp_path / "layers.22"))


def test_sparsify_reads_what_is_written(tmp_path: Path) -> None:
    sae = ours("topk", tmp_path)
    assert_equal(sae, _load_sparsify(exported("sparsify", tmp_path)))


# overcomplete


def _overcomplete(arch: str, **more: Any) -> torch.nn.Module:
    saes = pytest.importorskip("overcomplete.sae")
    kinds = {"relu": "SAE", "topk": "TopKSAE", "batchtopk": "BatchTopKSAE", "jumprelu": "JumpSAE", "gated": "JumpSAE"}
    return getattr(saes, kinds[arch.removeprefix("matryoshka-")])(D, W, **more)


def _with_overcomplete(module: Any) -> Codes:
    module.eval()
    _, a = module.encode(X)
    return a, module.decode(a)


@pytest.mark.parametrize("encoder", ("linear", "mlp_bn_1", "tied", "untied"))
def test_what_overcomplete_saves_is_read(encoder: str, tmp_path: Path) -> None:
    module: Any = _overcomplete("topk", top_k=K)
    if encoder == "mlp_bn_1":
        module = _overcomplete("topk", top_k=K, encoder_module="mlp_bn_1")
        module.train()
        module.encode(torch.randn(512, D) * 3)
    module = getattr(module, encoder)(bias=True) if encoder.endswith("tied") else module
    randomised(module)
    torch.save(module.state_dict(), tmp_path / "sae.pt")
    sae = imported(tmp_path / "sae.pt", tmp_path / "w", arch="topk", k=K)
    assert_equal(sae, _with_overcomplete(module))


@pytest.mark.parametrize("arch", ("relu", "batchtopk", "jumprelu"))
def test_each_class_of_overcomplete_is_read(arch: str, tmp_path: Path) -> None:
    module: Any = randomised(_overcomplete(arch, **({"top_k": K} if arch == "batchtopk" else {})))
    module.running_threshold = torch.tensor(0.5)
    torch.save(module.state_dict(), tmp_path / "sae.pt")
    more = {"relu": {"arch": "relu"}, "batchtopk": {"arch": "batchtopk", "k": K, "threshold": 0.5}}.get(arch, {})
    assert_equal(imported(tmp_path / "sae.pt", tmp_path / "w", **more), _with_overcomplete(module))


@pytest.mark.parametrize("arch", FORMATS["overcomplete"].HOLDS)
def test_overcomplete_reads_what_is_written(arch: str, tmp_path: Path) -> None:
    sae = ours(arch, tmp_path)
    out = exported("overcomplete", tmp_path)
    module: Any = _overcomplete(arch, **({"top_k": K} if "topk" in arch else {}))
    module.load_state_dict(torch.load(out / "sae.pt", weights_only=True))
    beside = json.loads((out / "saetui.json").read_text())
    module.running_threshold = torch.tensor(beside.get("threshold", 0.0))
    a, x_hat = _with_overcomplete(module)
    assert_equal(sae, (a, x_hat + torch.tensor(beside["b_dec"])))


# saev: its package on the index is of before its schemas; what it writes now is in test_convert.py, by its formula


def test_what_saev_saves_is_read(tmp_path: Path) -> None:
    nn = pytest.importorskip("saev.nn")
    config = pytest.importorskip("saev.config").SparseAutoencoder(d_vit=D, exp_factor=W // D)
    module = randomised(nn.SparseAutoencoder(config))
    nn.dump(str(tmp_path / "sae.pt"), module)
    x_hat, a, _ = module(X)
    assert_equal(imported(tmp_path / "sae.pt", tmp_path / "w"), (a, x_hat))
    assert dataclasses.asdict(config)["d_vit"] == D
