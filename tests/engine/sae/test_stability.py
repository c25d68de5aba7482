"""SAEs of several seeds compared: from their folders to the file that says it of every latent."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.config import StabilitySettings
from engine.errors import Stopped, UserError
from engine.metrics.stability import compared
from engine.sae.config import SAEConfig, weights_sha256
from engine.sae.model import SAE
from engine.sae.stability import stability
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, chosen


def write_sae(workspace: Workspace, name: str, w: int = 6, dead: int = 0, seed: int = 0, **config: object) -> SAE:
    """An SAE of random directions, the last ``dead`` of which never fire."""
    generator = torch.Generator().manual_seed(seed)
    W_dec = torch.nn.functional.normalize(torch.randn(w, 4, generator=generator), dim=1)
    b_enc = torch.zeros(w)
    b_enc[w - dead :] = -100
    weights = {"W_enc": W_dec.T, "b_enc": b_enc, "W_dec": W_dec, "b_dec": torch.zeros(4)}
    sae = SAE.of(SAEConfig(arch="relu", d=4, w=w, **config), weights)
    sae.save(workspace.sae(name))
    return sae


def asked(*saes: str, **more: object) -> StabilitySettings:
    return StabilitySettings(saes=saes, device="cpu", **more)


def test_seeds_of_a_planted_dictionary_agree_and_say_so_by_latent(workspace: Workspace) -> None:
    write_store(workspace.activations("a"), activations(d=16, features=8, active=2)[0], tokens=4)
    for seed in range(3):
        settings = chosen(name=f"s{seed}", seed=seed, arch="topk", k=2, expansion=0.75, steps=250, batch_size=128)
        train(settings, workspace)
    reporter = Recorder()
    found = stability(asked("s0", "s1", "s2", alive_on="a"), workspace, reporter)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("s0", "s1"), ("s0", "s2"), ("s1", "s2")]
    for pair in found.pairs:
        assert pair.there.low > pair.random_there.high and pair.random_there.mean > pair.random_matched.mean
        assert pair.exact and pair.matched.mean <= min(pair.there.mean, pair.back.mean) + 1e-6
    assert found.max_cosine == pytest.approx(np.mean([(p.there.mean + p.back.mean) / 2 for p in found.pairs]))
    assert reporter.of("warning") == []
    path = Path(found.path)
    assert path == workspace.root / "stability" / "s0--s1--s2.json"
    said = json.loads(path.read_text())
    assert (said["format"], said["version"]) == ("saetui-stability", 1) and "path" not in said
    assert [one["sha256"] for one in said["saes"]] == [weights_sha256(workspace.sae(f"s{seed}")) for seed in range(3)]
    for pair, latents in zip(found.pairs, said["latents"], strict=True):
        assert np.mean(latents["there"]["cosine"]) == pytest.approx(pair.there.mean, abs=1e-5)
        assert np.mean(latents["matched"]["cosine"]) == pytest.approx(pair.matched.mean, abs=1e-5)
        assert np.mean(latents["random"]["back"]) == pytest.approx(pair.random_back.mean, abs=1e-5)
        one, other = (SAE.load(workspace.sae(latents[side])).W_dec for side in ("first", "second"))
        for i, j, cosine in zip(*latents["matched"].values(), strict=True):
            assert float(one[i] @ other[j]) == pytest.approx(cosine, abs=1e-5)
    told = Recorder()
    assert stability(asked("s0", "s1", "s2", alive_on="a"), workspace, told) == replace(found, made=False)
    assert [one["name"] for one in told.of("stage")] == ["nothing to do: they are compared"]
    assert stability(asked("s0", "s1", "s2", alive_on="a", seed=1), workspace).made
    assert path.read_bytes() != rewritten(path, lambda: stability(asked("s0", "s1", "s2", alive_on="a"), workspace))
    assert path.read_bytes() == rewritten(path, lambda: stability(asked("s0", "s1", "s2", alive_on="a"), workspace))


def rewritten(path: Path, again) -> bytes:
    path.unlink()
    again()
    return path.read_bytes()


def test_what_fires_on_no_row_is_left_out(workspace: Workspace) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    write_store(workspace.activations("a"), x)
    first, second = write_sae(workspace, "one", 6, 2), write_sae(workspace, "two", 7, 1, seed=1)
    found = stability(asked("one", "two", name="r", alive_on="a"), workspace)
    assert [(one.w, one.compared, one.seed) for one in found.saes] == [(6, 4, None), (7, 6, None)]
    (pair,) = found.pairs
    assert pair.there.mean == pytest.approx(compared(first.W_dec[:4], second.W_dec[:6]).there.cosine.mean())
    everything = stability(asked("one", "two"), workspace)
    assert everything.pairs[0].there.n == 6 and everything.pairs[0].there.mean != pair.there.mean
    (latents,) = json.loads((workspace.root / "stability" / "r.json").read_text())["latents"]
    assert latents["back"]["latent"] == [0, 1, 2, 3, 4, 5] and max(latents["back"]["nearest"]) < 4


def test_those_that_began_alike_are_told(workspace: Workspace) -> None:
    write_store(workspace.activations("a"), activations()[0], tokens=4)
    for frozen in ("none", "decoder"):
        train(chosen(name=frozen, frozen=frozen), workspace)
    reporter = Recorder()
    stability(asked("none", "decoder"), workspace, reporter)
    (warning,) = reporter.of("warning")
    assert warning["message"].startswith("none and decoder began alike, with seed 0: ")


def test_what_cannot_be_compared_is_refused(workspace: Workspace) -> None:
    write_store(workspace.activations("a"), np.zeros((5, 4), np.float32))
    write_store(workspace.activations("wide"), np.ones((5, 9), np.float32))
    write_sae(workspace, "one", hook="layer:3", model="demo")
    write_sae(workspace, "two", hook="layer:4", model="demo")
    write_sae(workspace, "silent", dead=6, hook="layer:3")
    SAE(SAEConfig(arch="relu", d=5, w=3)).save(workspace.sae("other"))
    for saes, says in (
        (("one",), "Two or more SAEs are compared"),
        (("one", "one"), "each given once"),
        (("one", "none"), "No SAE named 'none'"),
        (("one", "other"), "one reads activations 4 wide, other 5 wide"),
        (("one", "two"), "one reads layer:3 of demo, two layer:4 of demo"),
    ):
        with pytest.raises(UserError, match=says):
            stability(asked(*saes), workspace)
    with pytest.raises(UserError, match=r"No latent of one fires on .*: leave --alive-on out"):
        stability(asked("one", "silent", alive_on="a"), workspace)
    with pytest.raises(UserError, match="9 wide"):
        stability(asked("one", "silent", alive_on="wide"), workspace)
    with pytest.raises(UserError, match="cannot name a result"):
        stability(asked("one", "silent", name="a/b"), workspace)
    assert not (workspace.root / "stability").exists() or not list((workspace.root / "stability").glob("*.json"))


def test_it_stops_between_pairs_and_leaves_nothing(workspace: Workspace) -> None:
    for number in range(3):
        write_sae(workspace, f"s{number}", seed=number)
    with pytest.raises(Stopped):
        stability(asked("s0", "s1", "s2"), workspace, Recorder(stop_at=2))
    assert not list(workspace.root.rglob("*.json.*")) and not list((workspace.root / "stability").glob("*.json"))
