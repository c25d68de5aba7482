"""SAEs of other tools: read as their formulas say, written so that they come back, and refused in a sentence."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.config import ExportSettings, ImportSettings, RecogniseSettings
from engine.errors import UserError
from engine.models.hub import hub_sae
from engine.sae.architectures import REGISTRY
from engine.sae.config import SAEConfig, read_config
from engine.sae.convert import FORMATS
from engine.sae.exchange import export_sae, import_sae, recognise_sae, scaled
from engine.sae.model import SAE, shapes
from engine.sae.results import Question, Recognised
from engine.workspace import Workspace
from tests.support.stores import write_store

D, W, K = 8, 24, 4
READS = {"model": "demo:encoder", "hook": "layer:4", "tokens": "patches"}
X = torch.randn(40, D, generator=torch.Generator().manual_seed(5)) + 0.3


def random(**shapes_of: tuple[int, ...]) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(2)
    return {name: torch.randn(shape, generator=chance) * 0.4 for name, shape in shapes_of.items()}


def ours(arch: str, place: Path) -> SAE:
    groups = (6, 12, W) if "matryoshka" in arch else ()
    config = SAEConfig(arch=arch, d=D, w=W, k=K if "topk" in arch else 0, groups=groups, **READS)
    weights = random(**shapes(config))
    weights["W_dec"] /= weights["W_dec"].norm(dim=1, keepdim=True)
    if REGISTRY[config.arch].has_threshold:
        weights["threshold"] = torch.full((W,), 0.3) if "batchtopk" in arch else weights["threshold"].abs()
    sae = SAE.of(config, weights)
    folder = Workspace(place).sae("s")
    folder.mkdir(parents=True)
    sae.save(folder)
    return sae


def bring(source: Path, place: Path, name: str = "t", **more: Any) -> SAE:
    return SAE.load(import_sae(ImportSettings(source=str(source), name=name, **more), Workspace(place)).path)


def send(format: str, place: Path) -> Path:
    return Path(export_sae(ExportSettings(sae="s", to=format, out=str(place / "out")), Workspace(place)).out)


def assert_latents(sae: SAE, a: Tensor, x_hat: Tensor) -> None:
    torch.testing.assert_close(sae.encode(X), a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sae.decode(sae.encode(X)), x_hat, rtol=1e-5, atol=1e-5)
    assert 0.02 < (a > 0).float().mean() < 0.9


# There and back


@pytest.mark.parametrize(("format", "arch"), [(name, arch) for name, form in FORMATS.items() for arch in form.HOLDS])
def test_what_goes_out_comes_back(format: str, arch: str, tmp_path: Path) -> None:
    sae = ours(arch, tmp_path)
    back = bring(send(format, tmp_path), tmp_path)
    torch.testing.assert_close(back.encode(X), sae.encode(X), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(back(X), sae(X), rtol=1e-6, atol=1e-6)
    assert replace(back.config, origin=None, provenance=sae.config.provenance) == sae.config


def test_what_an_architecture_cannot_be_written_as_is_said(tmp_path: Path) -> None:
    ours("matryoshka-batchtopk", tmp_path)
    with pytest.raises(UserError, match="sparsify has no matryoshka-batchtopk SAEs: give --to dictionary_learning"):
        send("sparsify", tmp_path)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    sae = ours("topk", tmp_path)
    out = send("saelens", tmp_path)
    with pytest.raises(UserError, match="is there already"):
        send("saelens", tmp_path)
    assert import_sae(ImportSettings(source=str(out), name="t"), Workspace(tmp_path)).made
    assert not import_sae(ImportSettings(source=str(out), name="t"), Workspace(tmp_path)).made
    with pytest.raises(UserError, match="is another SAE: give another --name"):  # before it is measured
        import_sae(ImportSettings(source=str(out), name="s", check="nothing"), Workspace(tmp_path))
    assert read_config(Workspace(tmp_path).sae("s")) == sae.config


KILLED = """
import os, signal, sys
from pathlib import Path
from engine.config import ExportSettings
from engine.sae.exchange import export_sae
from engine.workspace import Workspace
format, place, left = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
replace = os.replace
def dying(*paths):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = dying
os.chdir(place / "here")
export_sae(ExportSettings(sae="s", to=format, out=sys.argv[4]), Workspace(place))
"""


@pytest.mark.parametrize("out", ("new", "empty", "."))
def test_an_export_that_is_killed_is_in_nobodys_way(out: str, tmp_path: Path) -> None:
    ours("topk", tmp_path)
    (tmp_path / "here" / "empty").mkdir(parents=True)
    if out == ".":
        (tmp_path / "here" / "empty").rmdir()
    for renamed in (0, 1, 9) if out == "." else range(9):  # there the last step is several
        command = [sys.executable, "-c", KILLED, "sparsify", str(tmp_path), str(renamed), out]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert renamed == (9 if out == "." else 3)
    assert {one.name for one in (tmp_path / "here" / out).iterdir()} >= {"cfg.json", "sae.safetensors"}
    assert not list(tmp_path.rglob("*.tmp"))
    assert bring(tmp_path / "here" / out, tmp_path).config.k == K


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours("topk", tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.sae.convert.sparsify.save_file", full)
    with pytest.raises(OSError, match="No space"):
        send("sparsify", tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"saes"}


def test_an_import_mends_what_it_wrote(tmp_path: Path) -> None:
    ours("topk", tmp_path)
    out = send("saelens", tmp_path)
    file = Path(import_sae(ImportSettings(source=str(out), name="t"), Workspace(tmp_path)).path) / "sae.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match="give the command that made it again, which mends it"):
        SAE.load(file.parent)
    assert import_sae(ImportSettings(source=str(out), name="t"), Workspace(tmp_path)).made
    assert file.read_bytes() == whole


def test_lengths_that_a_loader_changes_are_said_to_be_lost(tmp_path: Path) -> None:
    sae = ours("relu", tmp_path)
    sae.W_dec.mul_(2)
    sae.save(Workspace(tmp_path).sae("s"))
    asked = ExportSettings(sae="s", to="dictionary_learning", out=str(tmp_path / "out"))
    (lost,) = export_sae(asked, Workspace(tmp_path)).lost
    back = bring(tmp_path / "out", tmp_path)
    torch.testing.assert_close(back.encode(X), 2 * sae.encode(X), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back(X), sae(X), rtol=1e-5, atol=1e-5)
    assert lost.startswith("the lengths of its directions")


# Formulas, as each tool's code has them


def nested_batch_topk(place: Path, **change: Any) -> tuple[Path, dict[str, Tensor]]:
    """A folder as the scripts of arXiv 2504.02821 leave one."""
    tensors = random(W_enc=(D, W), b_enc=(W,), W_dec=(W, D), b_dec=(D,))
    tensors |= {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(0.5)}
    tensors |= {"group_sizes": torch.tensor([6, 6, 12])}
    name = "imagenet_train_activations_clip-vit-large-patch14-336_22_post_mlp_residual_matroyshka_batch_top_k_4_x3"
    folder = place / "random_k_2" / name / "trainer_0"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(tensors | change, folder / "ae.pt")
    torch.save(tensors, folder / "checkpoints" / "ae_100.pt")
    trainer = {"dict_class": "MatroyshkaBatchTopKSAE", "activation_dim": D, "dict_size": W, "k": K}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer | {"layer": "", "lm_name": ""}}))
    return folder, tensors


@pytest.mark.parametrize("file", ("", "ae.pt", "checkpoints/ae_100.pt"))
def test_the_published_saes_are_read(file: str, tmp_path: Path) -> None:
    folder, t = nested_batch_topk(tmp_path)
    a = torch.relu((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    a = a * (a > t["threshold"])
    sae = bring(folder / file if file else folder, tmp_path, **READS)
    assert_latents(sae, a, a @ t["W_dec"] + t["b_dec"])
    assert sae.config.groups == (6, 12, 24) and sae.config.k == K and sae.config.arch == "matryoshka-batchtopk"
    assert sae.config.origin and sae.config.origin.format == "dictionary_learning"


def test_what_it_does_not_say_is_asked_for_with_what_is_likely(tmp_path: Path) -> None:
    folder, _ = nested_batch_topk(tmp_path)
    with pytest.raises(UserError) as found:
        bring(folder, tmp_path)
    for words in (
        "--model hf:openai/clip-vit-large-patch14-336",
        "--hook layer:22",
        "--tokens random:2 (it lies below",
    ):
        assert words in str(found.value)
    assert not Workspace(tmp_path).sae("t").exists()


SAID = {
    ("openai/clip-vit-large-patch14-336", "blocks.9.hook_resid_post"): (
        "hf:openai/clip-vit-large-patch14-336",
        "layer:9",
    ),
    ("hf-hub:laion/CLIP-ViT-B-32", "blocks.9.hook_resid_pre"): ("hf:laion/CLIP-ViT-B-32", "layer:8"),
    ("https://huggingface.co/facebook/dinov2-base/tree/main", "encoder.layer.3"): (
        "hf:facebook/dinov2-base",
        "layer:3",
    ),
    ("google/siglip-base", "vision_model.encoder.layers.22.mlp"): ("hf:google/siglip-base", "mlp:22"),
    ("ViT-B-16", "visual.transformer.resblocks.5"): ("hf:REPO", "layer:5"),
}


@pytest.mark.parametrize("said", SAID)
def test_what_is_said_in_words_of_other_tools_is_asked_for(said: tuple[str, str], tmp_path: Path) -> None:
    folder = _training(tmp_path)
    metadata = {"model_name": said[0], "hook_name": said[1]}
    (folder / "cfg.json").write_text(json.dumps({"architecture": "standard", "metadata": metadata}))
    with pytest.raises(UserError) as found:
        bring(folder, tmp_path, tokens="cls")
    model, hook = SAID[said]
    for words in (f"--model {model} (the files say {said[0]})", f"--hook {hook} (the files say {said[1]})"):
        assert words in str(found.value)
    with pytest.raises(UserError, match="There is no model at openai/clip: give --model hf:openai/clip, openclip:"):
        bring(folder, tmp_path, **READS | {"model": "openai/clip"})
    assert bring(folder, tmp_path, **READS).config.model == "demo:encoder"


def seen(source: Path, place: Path, **answers: Any) -> Recognised:
    return recognise_sae(RecogniseSettings(source=str(source), **answers), Workspace(place / "untouched"))


def test_what_an_import_would_ask_is_known_before_it(tmp_path: Path) -> None:
    folder, _ = nested_batch_topk(tmp_path)
    found = seen(folder, tmp_path)
    assert (found.format, found.arch, found.d, found.w, found.k) == (
        "dictionary_learning",
        "matryoshka-batchtopk",
        D,
        W,
        K,
    )
    assert found.file == str(folder / "ae.pt") and (found.model, found.hook, found.tokens) == ("", "", "")
    assert [(one.setting, one.likely) for one in found.questions] == [
        ("model", "hf:openai/clip-vit-large-patch14-336"),
        ("hook", "layer:22"),
        ("tokens", "random:2"),
    ]
    with pytest.raises(UserError) as refused:
        bring(folder, tmp_path)
    assert str(refused.value).endswith(", ".join(one.words for one in found.questions) + ".")
    assert [one.setting for one in seen(folder, tmp_path, hook="layer:4", tokens="cls").questions] == ["model"]
    written = bring(folder, tmp_path, **READS)
    assert found.bytes == sum(4 * one.numel() for one in written.parameters()) < found.free
    assert not seen(folder, tmp_path, **READS).questions and not (tmp_path / "untouched").exists()


def test_what_the_weights_cannot_be_read_without_is_a_question(tmp_path: Path) -> None:
    file = _without_config(tmp_path) / "ae.pt"
    found = seen(file, tmp_path)
    assert (found.arch, found.w, [one.setting for one in found.questions]) == ("", 0, ["arch"])
    t = random(**{"dictionary._weights": (W, D), "encoder.final_block.0.weight": (W, D)})
    torch.save(t, tmp_path / "sae.pt")
    asked = [
        seen(tmp_path / "sae.pt", tmp_path, **more).questions
        for more in ({}, {"arch": "topk"}, {"arch": "batchtopk"}, {"arch": "topk", "k": 3, **READS})
    ]
    assert [[one.setting for one in questions] for questions in asked] == [["arch"], ["k"], ["threshold"], []]


@pytest.mark.parametrize(
    ("said", "meant"),
    {
        "layers.22": "layer:22",
        "vision_model.encoder.layers.3.mlp": "mlp:3",
        "blocks.8.hook_resid_post": "layer:8",
        "blocks.8.hook_resid_pre": "layer:7",
        "blocks.0.hook_resid_pre": "",
        "blocks.5.hook_mlp_out": "mlp:5",
        "blocks.5.hook_attn_out": "attn:5",
        "hook_embed": "",
    }.items(),
)
def test_the_hook_point_of_another_tool_is_asked_for_as_ours(said: str, meant: str, tmp_path: Path) -> None:
    folder = sparsify(tmp_path / said)
    hook = next(one for one in seen(folder, tmp_path, model="demo:encoder", tokens="all").questions)
    assert hook == Question("hook", meant, f"its files say {said}")
    with pytest.raises(UserError, match="SAEs of language models are not read"):
        bring(folder, tmp_path, model="demo:encoder", tokens="all")
    assert bring(folder, tmp_path, **READS).config.hook == "layer:4"


def test_what_is_not_on_this_machine_is_not_fetched_to_be_recognised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hf:nobody/nothing is not on this machine: saetui import fetches it"):
        recognise_sae(RecogniseSettings(source="hf:nobody/nothing"), Workspace(tmp_path))


def test_the_default_model_of_a_workspace_is_not_the_answer(tmp_path: Path) -> None:
    (tmp_path / "workspace.toml").write_text('model = "demo:encoder"\n')
    assert "model" not in Workspace(tmp_path).defaults_of(ImportSettings)


def test_a_checkpoint_of_a_training_is_read_below_its_ae(tmp_path: Path) -> None:
    folder, tensors = nested_batch_topk(tmp_path)
    torch.save({"step": 3, "ae": tensors, "optimizer": {}, "norm_factor": 2.0}, folder / "ae.pt")
    assert bring(folder, tmp_path, **READS).config.w == W


def test_a_threshold_that_was_never_set_is_said(tmp_path: Path) -> None:
    folder, t = nested_batch_topk(tmp_path, threshold=torch.tensor(-1.0))
    found = import_sae(ImportSettings(source=str(folder), name="t", **READS), Workspace(tmp_path))
    assert any("threshold was never set" in note for note in found.notes)
    a = torch.relu((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    assert_latents(SAE.load(found.path), a, a @ t["W_dec"] + t["b_dec"])


def write_saev(path: Path, head: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    with open(path, "wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        torch.save(tensors, file)
    return path


SAEV: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": torch.relu,
    "TopK": lambda z: torch.zeros_like(z).scatter(1, z.topk(K).indices, z.topk(K).values),
    "BatchTopK": lambda z: torch.where(z > 0.4, z, 0.0),
}


@pytest.mark.parametrize("kind", SAEV)
@pytest.mark.parametrize("schema", (1, 5))
def test_saev_is_read_by_its_schema(kind: str, schema: int, tmp_path: Path) -> None:
    t = random(W_enc=(D, W), b_enc=(W,), W_dec=(W, D), b_dec=(D,)) | {"b_enc": torch.full((W,), 0.8)}
    config = {"d_model": D, "d_sae": W, "activation": {"cls": kind, "params": {"key": "x", "top_k": K}}}
    more = {"activation.threshold": torch.tensor(0.4)} if kind == "BatchTopK" else {}
    file = write_saev(tmp_path / "sae.pt", {"schema": schema, "cfg": config}, t | more)
    a = SAEV[kind](X @ t["W_enc"] + t["b_enc"])
    sae = bring(file, tmp_path, **READS)
    assert_latents(sae, a, a @ t["W_dec"] + t["b_dec"])
    assert sae.config.origin and (schema == 1) == any("before July 2025" in note for note in sae.config.origin.notes)


def test_saev_without_a_schema_takes_its_bias_off(tmp_path: Path) -> None:
    t = random(W_enc=(D, W), b_enc=(W,), W_dec=(W, D), b_dec=(D,))
    file = write_saev(tmp_path / "sae.pt", {"d_vit": D, "exp_factor": 3, "seed": 0}, t)
    a = torch.relu((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    assert_latents(bring(file, tmp_path, **READS), a, a @ t["W_dec"] + t["b_dec"])


def sparsify(folder: Path, dtype: torch.dtype = torch.float32, **change: Any) -> Path:
    folder.mkdir(parents=True)
    t = {"encoder.weight": (W, D), "encoder.bias": (W,), "W_dec": (W, D), "b_dec": (D,)}
    save_file({name: one.to(dtype) for name, one in random(**t).items()}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"k": K, "d_in": D, "num_latents": 0, "expansion_factor": 3} | change))
    return folder


@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16, torch.float64))
def test_sparsify_is_read_in_any_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = sparsify(tmp_path / "layers.22", dtype)
    t = {name: one.to(dtype).float() for name, one in random(
        **{"encoder.weight": (W, D), "encoder.bias": (W,), "W_dec": (W, D), "b_dec": (D,)}
    ).items()}  # fmt: skip
    z = torch.relu((X - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    a = torch.zeros_like(z).scatter(1, z.topk(K).indices, z.topk(K).values)
    found = import_sae(ImportSettings(source=str(folder), name="t", **READS), Workspace(tmp_path))
    assert_latents(SAE.load(found.path), a, a @ t["W_dec"] + t["b_dec"])
    assert bool(found.notes) == (dtype is not torch.float32)
    assert any("rounded" in note for note in found.notes) == (dtype is torch.float64)


# The scale of the inputs


def test_a_scale_is_folded(tmp_path: Path) -> None:
    folder, t = nested_batch_topk(tmp_path)
    sae = bring(folder, tmp_path, scale=3.0, **READS)
    z = torch.relu((X / 3 - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    a = z * (z > t["threshold"])
    torch.testing.assert_close(sae.encode(X), 3 * a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sae(X), 3 * (a @ t["W_dec"] + t["b_dec"]), rtol=1e-5, atol=1e-5)
    assert sae.config.scale == 3


def test_a_scale_that_is_off_is_named(tmp_path: Path) -> None:
    """``relu(x + 1) - 1`` is x above -1, where all are that were divided by the root of their mean squared norm."""
    x = (10 * torch.randn(300, D, generator=torch.Generator().manual_seed(1)) - 30).double()
    norm = float(x.pow(2).sum(1).mean().sqrt())
    write_store(Workspace(tmp_path).activations("acts"), x.float().numpy())
    t = {"encoder.weight": torch.eye(D), "encoder.bias": torch.ones(D)}
    t |= {"decoder.weight": torch.eye(D), "decoder.bias": -torch.ones(D)}
    (tmp_path / "trainer_0").mkdir()
    torch.save(t, tmp_path / "trainer_0" / "ae.pt")
    asked = ImportSettings(source=str(tmp_path / "trainer_0"), name="t", check="acts", **READS)
    off = import_sae(asked, Workspace(tmp_path)).checked
    fits = import_sae(replace(asked, name="u", scale=norm), Workspace(tmp_path)).checked
    assert off and fits and off.rows == fits.rows == 300
    assert off.fve is not None and fits.fve is not None and off.fve < 0.2 < 0.9 < fits.fve
    assert off.scale == pytest.approx(norm, rel=1e-6) and off.fve_scaled == pytest.approx(fits.fve, abs=1e-6)
    assert fits.scale is None and fits.l0 == pytest.approx(D, abs=1)


def test_a_scale_makes_sense() -> None:
    with pytest.raises(UserError, match="--scale is -1"):
        scaled({}, -1.0)


# What is refused, in a sentence, with nothing executed and nothing written


class Runs:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/saetui-was-executed"),))


def _truncated(place: Path) -> Path:
    folder, _ = nested_batch_topk(place)
    whole = (folder / "ae.pt").read_bytes()
    (folder / "ae.pt").write_bytes(whole[: len(whole) // 2])
    return folder


def _other_width(place: Path) -> Path:
    return nested_batch_topk(place, b_dec=torch.zeros(D + 1))[0]


def _pickled(place: Path) -> Path:
    folder, tensors = nested_batch_topk(place)
    torch.save({**tensors, "code": Runs()}, folder / "ae.pt")
    return folder


def _without_config(place: Path) -> Path:
    t = {"encoder.weight": (W, D), "encoder.bias": (W,), "decoder.weight": (D, W), "b_dec": (D,), "threshold": ()}
    (place / "x").mkdir()
    torch.save(random(**t), place / "x" / "ae.pt")
    return place / "x"


def _two_formats(place: Path) -> Path:
    folder = sparsify(place / "x")
    save_file(random(W_enc=(D, W), b_enc=(W,), W_dec=(W, D), b_dec=(D,)), folder / "sae_weights.safetensors")
    return folder


def _sharded(place: Path) -> Path:
    folder = sparsify(place / "x")
    (folder / "sae.safetensors").rename(folder / "sae-00001-of-00002.safetensors")
    return folder


def _training(place: Path) -> Path:
    folder = place / "x"
    folder.mkdir()
    save_file(random(W_enc=(D, W), b_enc=(W,), W_dec=(W, D), b_dec=(D,)), folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"architecture": "batchtopk", "d_in": D, "d_sae": W, "k": K}))
    return folder


def _of_a_language_model(place: Path) -> Path:
    folder = _training(place)
    metadata = {"model_name": "gpt2-small", "hook_name": "blocks.8.hook_resid_pre", "saetui": {"tokens": "all"}}
    (folder / "cfg.json").write_text(json.dumps({"architecture": "standard", "metadata": metadata}))
    return folder


def _normalised(place: Path) -> Path:
    folder = _training(place)
    (folder / "cfg.json").write_text(json.dumps({"architecture": "standard", "normalize_activations": "layer_norm"}))
    return folder


def _not_finite(place: Path) -> Path:
    return nested_batch_topk(place, b_dec=torch.full((D,), torch.nan))[0]


WRONG = {
    _truncated: "ae.pt is no state dict",
    _other_width: "b_dec is \\(9,\\), and does not fit an encoder of 8 x 24",
    _pickled: "it holds Python objects, which may run code and are never read",
    _without_config: "may be an AutoEncoderTopK or a BatchTopKSAE.*give --arch",
    _two_formats: "looks like saelens and sparsify: say which it is by --format",
    _sharded: "holds no SAE, and no activations, that are read here",
    _training: "is the checkpoint of a training in SAELens",
    _of_a_language_model: "blocks.8.hook_resid_pre of gpt2-small.*SAEs of language models are not read",
    _normalised: "normalize_activations = layer_norm.*give one that was trained without",
    _not_finite: "b_dec has values that are not finite",
    lambda place: sparsify(place / "x", transcode=True): "is a transcoder",
    lambda place: sparsify(place / "x", k=-3): "says k = -3, which makes no sense",
    lambda place: sparsify(place / "x", d_in=9): "they are of two SAEs",
    lambda place: nested_batch_topk(place, group_sizes=torch.tensor([6, 6]))[
        0
    ]: "has groups that do not make up its 24",
    lambda place: nested_batch_topk(place)[0].parent: "no activations, but holds some: give one of trainer_0",
    lambda place: place / "nowhere": "does not exist",
    lambda place: Path("hf:nobody/nothing"): "is not on this machine and cannot be fetched",
    lambda place: Path("hf:nobody/nothing/trainer_0"): "is not on this machine and cannot be fetched",
    lambda place: Path("hf:nobody"): "is no repository name",
    lambda place: ours("relu", place) and Workspace(place).sae("s"): "can be used as it is",
}


def test_a_hub_that_cannot_be_asked_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    class ConnectError(Exception):
        """As the client of the hub has one, which is no OSError."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectError

    monkeypatch.setattr("huggingface_hub.list_repo_files", refuse)
    with pytest.raises(UserError, match="is not on this machine and cannot be fetched"):
        hub_sae("hf:nobody/nothing")


@pytest.mark.parametrize("make", WRONG)
def test_a_wrong_folder_is_one_sentence(make: Callable[[Path], Path], tmp_path: Path) -> None:
    source = make(tmp_path)
    answers = {} if make is _of_a_language_model else READS
    with pytest.raises(UserError, match=WRONG[make]) as found:
        bring(source, tmp_path, **answers)
    assert "\n" not in str(found.value) and not Path("/tmp/saetui-was-executed").exists()
    assert not Workspace(tmp_path).sae("t").exists()
    asked_or_fetched = make in (_without_config, _of_a_language_model) or "cannot be fetched" in str(found.value)
    if not asked_or_fetched:  # which comes after it is recognised
        with pytest.raises(UserError) as before:
            seen(source, tmp_path, **answers)
        assert str(before.value) == str(found.value)


def test_a_cache_of_links_is_read(tmp_path: Path) -> None:
    """As the cache of a hub lays its files out."""
    folder, _ = nested_batch_topk(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for name in ("ae.pt", "config.json"):
        (tmp_path / "snapshot" / name).symlink_to(folder / name)
    assert bring(tmp_path / "snapshot", tmp_path, **READS).config.w == W


@pytest.mark.parametrize("answer", [{"arch": "relu"}, {"k": K + 1}, {"threshold": 3.0}])
def test_what_the_files_say_is_not_answered_otherwise(answer: dict[str, Any], tmp_path: Path) -> None:
    ours("topk", tmp_path)
    out = send("saelens", tmp_path)
    (name,) = answer
    with pytest.raises(UserError, match=f"--{name} is .* leave --{name} out"):
        bring(out, tmp_path, **answer)
    with pytest.raises(UserError, match=f"--{name} is .* leave --{name} out"):
        seen(out, tmp_path, **answer)
    assert bring(out, tmp_path, arch="topk", k=K).config.k == K


def test_a_store_to_check_on_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    ours("topk", tmp_path)
    with pytest.raises(UserError, match="No activations named 'nowhere'"):
        bring(send("saelens", tmp_path), tmp_path, check="nowhere")
    assert not Workspace(tmp_path).sae("t").exists()
