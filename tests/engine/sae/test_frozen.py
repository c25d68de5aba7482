"""Controls whose decoder or encoder stays at its random start: what stays, what is learned, and that they continue."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine.activations.store import Store
from engine.config import ArchitectureName
from engine.errors import Stopped, UserError
from engine.metrics.monosemanticity import MS, monosemanticity
from engine.sae.architectures.batchtopk import BatchTopK
from engine.sae.config import read_config
from engine.sae.model import SAE
from engine.sae.state import checkpoint_path, read_training
from engine.sae.train import TrainingLoop, train
from engine.sae.training_sae import SOFT, TrainingSAE, within
from engine.settings import to_mapping
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, chosen

CONTROLS = ("decoder", "soft-decoder", "encoder")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return write_store(workspace.activations("a"), activations()[0], tokens=4)


def start_of(w: int = 32, d: int = 16, seed: int = 0) -> torch.Tensor:
    return TrainingSAE(BatchTopK(3, 0), d, w, seed).W_dec.detach()


def naive_within(u: np.ndarray, start: np.ndarray, cosine: float) -> np.ndarray:
    """Of many unit vectors of the plane of ``u`` and ``start``, the one nearest to ``u`` that may be."""
    if u @ start >= cosine:
        return u
    across = u - (u @ start) * start
    across /= np.linalg.norm(across)
    angles = np.linspace(-math.pi, math.pi, 200_001)
    every = np.outer(np.cos(angles), start) + np.outer(np.sin(angles), across)
    allowed = every[every @ start >= cosine]
    return allowed[np.linalg.norm(allowed - u, axis=1).argmin()]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(2, 6), cosine=st.floats(0.1, 0.95))
def test_rows_are_brought_back_to_the_nearest_place(seed: int, d: int, cosine: float) -> None:
    rng = np.random.default_rng(seed)
    u, start = (v / np.linalg.norm(v) for v in rng.normal(size=(2, d)))
    found = within(torch.from_numpy(u[None]), torch.from_numpy(start[None]), cosine)[0].numpy()
    np.testing.assert_allclose(found, naive_within(u, start, cosine), atol=1e-4)
    assert np.linalg.norm(found) == pytest.approx(1) and found @ start >= cosine - 1e-12


def test_a_row_opposite_to_its_start_goes_back_to_it() -> None:
    start = torch.eye(3)
    assert torch.equal(within(-start, start, 0.8), start)


@pytest.mark.parametrize("arch", sorted(set(get_args(ArchitectureName)) - {"archetypal"}))
def test_what_is_frozen_stays_and_the_rest_is_learned(workspace: Workspace, store: Store, arch: str) -> None:
    start = start_of()
    fve = {}
    for frozen in ("none", *CONTROLS):
        result = train(chosen(name=frozen, frozen=frozen, arch=arch, l1=0.01, l0=0.01, lr=3e-2), workspace)
        sae, fve[frozen] = SAE.load(workspace.sae(frozen)), result.fve
        assert read_config(workspace.sae(frozen)).frozen == frozen
        assert torch.equal(sae.W_dec, start) == (frozen == "decoder")
        assert torch.equal(sae.W_enc.T, start) == (frozen == "encoder")
        if frozen == "soft-decoder":
            cosines = (sae.W_dec * start).sum(1)
            assert cosines.min() == pytest.approx(SOFT, abs=1e-5) and cosines.max() < 1
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(32))
        assert sae.b_enc.any()
    assert min(fve.values()) > 0 and fve["none"] > fve["decoder"]


def test_a_twin_begins_alike_and_sees_the_same_batches(workspace: Workspace, store: Store) -> None:
    loops = [TrainingLoop(chosen(frozen=frozen), workspace, store) for frozen in ("none", *CONTROLS)]
    for loop in loops:
        loop.model = TrainingSAE(loop.architecture, 16, loop.w, loop.settings.seed, loop.settings.frozen)
        loop._begin()
    first = loops[0]
    for loop in loops[1:]:
        assert loop.scale == first.scale
        for name, value in first.model.state_dict().items():
            assert torch.equal(loop.model.state_dict()[name], value), name
        for step in (0, 7, 40):  # of several epochs
            assert torch.equal(loop.loader.batch(step), first.loader.batch(step))


@pytest.mark.parametrize("frozen", CONTROLS)
def test_stopped_it_continues_to_the_same_bytes(workspace: Workspace, store: Store, frozen: str) -> None:
    asked = chosen(frozen=frozen, dead_after=1, k=1, batch_size=16, lr=3e-2)
    train(asked, workspace)
    folder = workspace.sae("s")
    expected = [(folder / name).read_bytes() for name in ("sae.safetensors", "config.json")]
    history = read_training(folder).history
    folder.rename(folder.with_name("whole"))
    for stop in (5, 9):
        with pytest.raises(Stopped):
            train(asked, workspace, Recorder(stop_at=stop))
    kept = load_file(checkpoint_path(folder))
    assert "model.start" not in kept  # three times the size of an SAE is enough
    train(asked, workspace)
    assert [(folder / name).read_bytes() for name in ("sae.safetensors", "config.json")] == expected
    assert read_training(folder).history == history


def test_more_steps_go_on_from_a_control(workspace: Workspace, store: Store) -> None:
    same = {"arch": "batchtopk", "frozen": "soft-decoder", "warmup": 1, "dead_after": 40, "keep_state": True}
    train(chosen(**same), workspace)
    train(chosen(**same, steps=45), workspace)
    train(chosen(name="once", **same, steps=45), workspace)
    longer, once = (SAE.load(workspace.sae(name)) for name in ("s", "once"))
    assert all(torch.equal(one, other) for one, other in zip(longer.parameters(), once.parameters(), strict=True))


def test_another_control_under_the_same_name_is_refused(workspace: Workspace, store: Store) -> None:
    train(chosen(frozen="decoder"), workspace)
    with pytest.raises(UserError, match="trained with frozen decoder instead of none: choose another --name"):
        train(chosen(), workspace)


def test_what_begins_at_data_points_has_no_frozen_twin(workspace: Workspace, store: Store) -> None:
    with pytest.raises(UserError, match="begins at data points, not at random"):
        train(chosen(arch="archetypal", frozen="decoder"), workspace)


def test_an_sae_that_is_no_control_says_nothing_of_it(workspace: Workspace, store: Store) -> None:
    train(chosen(), workspace)
    assert "frozen" not in (workspace.sae("s") / "config.json").read_text()
    assert to_mapping(read_training(workspace.sae("s")).settings)["frozen"] == "none"


@pytest.mark.parametrize("frozen", ["decoder", "encoder"])
def test_a_step_moves_what_is_not_frozen_as_without_it(frozen: str) -> None:
    """The gradients of the one that is left are those of the whole SAE, on both paths."""
    for sparse in (True, False):
        models = [TrainingSAE(BatchTopK(3, 0.0), 8, 24, 0, which).double() for which in ("none", frozen)]
        x = torch.randn(40, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for model in models:
            model.__class__ = type("Path", (TrainingSAE,), {"sparse": sparse})
            model.loss(x).total.backward()
        whole, control = (dict(model.named_parameters()) for model in models)
        for name, parameter in control.items():
            if name == {"decoder": "W_dec", "encoder": "W_enc"}[frozen]:
                assert parameter.grad is None and whole[name].grad is not None
            else:
                torch.testing.assert_close(parameter.grad, whole[name].grad, msg=name)


def scores_of(workspace: Workspace, name: str, x: np.ndarray, judged: np.ndarray) -> MS:
    """MS of the latents with one row an image."""
    return monosemanticity(SAE.load(workspace.sae(name)).encode(torch.from_numpy(x)).numpy(), judged)


def test_without_structure_a_twin_scores_as_its_trained_one_does_and_with_it_less(workspace: Workspace) -> None:
    """Where the judge sees nothing of what the activations say, any permutation of its images is as likely. The mean of
    MS_j over permutations is the mean cosine of all pairs, whatever latent j is, so trained and frozen latents have one
    mean, the baseline. The difference of the two means over w latents each is then 0 give or take
    ``sqrt(s1^2 / w + s2^2 / w)``, s the standard deviations of MS over latents: three of these are the tolerance.
    Where activations are sums of planted directions and the judge sees which, trained latents score higher, by more
    than two of these."""
    rng = np.random.default_rng(0)
    planted, directions = activations(images=1000, tokens=1, d=16, features=24, active=2)
    codes = np.maximum((planted - planted.mean(0)) @ np.linalg.pinv(directions), 0)
    for data, x, judged in (
        ("gaussian", rng.normal(size=(1000, 16)).astype(np.float32), rng.normal(size=(1000, 12))),
        ("planted", planted, codes),
    ):
        write_store(workspace.activations(data), x)
        scores = []
        for frozen in ("none", "decoder"):
            name = f"{data}-{frozen}"
            asked = chosen(activations=data, name=name, frozen=frozen, arch="batchtopk", k=2, steps=300, batch_size=128)
            train(replace(asked, eval_every=300), workspace)
            found = scores_of(workspace, name, x, judged)
            scores.append(found.ms[~np.isnan(found.ms)])
            if data == "gaussian":
                inside = (found.low <= found.baseline) & (found.baseline <= found.high)
                assert inside[~np.isnan(found.ms)].mean() > 0.8  # nominally .95, of latents that share images
        apart = scores[0].mean() - scores[1].mean()
        error = math.sqrt(sum(ms.var(ddof=1) / len(ms) for ms in scores))
        assert abs(apart) < 3 * error if data == "gaussian" else apart > 2 * error, (data, apart, error)
