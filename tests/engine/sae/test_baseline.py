"""SAEs of directions that were not trained: what they are, how sparse, and that they are read like any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.activations.loader import SAMPLE, Loader
from engine.activations.store import Store
from engine.config import BaselineSettings
from engine.errors import UserError
from engine.metrics.stability import random_directions
from engine.sae.baseline import baseline, made_of
from engine.sae.config import SAEConfig, control, read_config
from engine.sae.directions import centroids, principal, unit
from engine.sae.held_out import HeldOut
from engine.sae.model import SAE
from engine.sae.train import train
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import activations, chosen

KINDS = ("pca", "kmeans", "random")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return write_store(workspace.activations("a"), activations()[0], tokens=4)


def asked(**changes: object) -> BaselineSettings:
    return BaselineSettings(**{"activations": "a", "of": "pca", "name": "b", "k": 3, "device": "cpu"} | changes)


def sample(store: Store) -> torch.Tensor:
    return Loader(store, 4096, 0, 0.05).sample(SAMPLE)


def naive_codes(sae: SAE, x: np.ndarray, k: int, topk: bool) -> np.ndarray:
    """Row by row: projections on the directions, those below 0 cut, the largest kept, of the row or of all rows."""
    directions, mean = sae.W_dec.numpy().astype(np.float64), x.mean(0)
    z = np.array([[max(0.0, sum((row - mean) * v)) for v in directions] for row in x])
    kept = np.zeros_like(z)
    places = [(i, int(j)) for i, row in enumerate(z) for j in np.argsort(-row)[:k]] if topk else []
    if not topk:
        places = [tuple(divmod(int(p), z.shape[1])) for p in np.argsort(-z.ravel())[: k * len(x)]]
    for place in places:
        kept[place] = z[place]
    return kept


@pytest.mark.parametrize("arch", ["topk", "batchtopk"])
@pytest.mark.parametrize("of", KINDS)
def test_it_is_as_sparse_as_asked_with_the_gain_of_least_squares(store: Store, of: str, arch: str) -> None:
    x = sample(store)[:80]
    sae = made_of(x, SAEConfig(arch=arch, d=16, w=20, k=3, directions=of), 5)
    a = naive_codes(sae, x.numpy().astype(np.float64), 3, arch == "topk")
    x_hat, centred = a @ sae.W_dec.numpy(), x.numpy() - x.numpy().mean(0)
    gains = np.linspace(0.01, 2, 4000)
    errors = [((centred - gain * x_hat) ** 2).sum() for gain in gains]
    gain = gains[int(np.argmin(errors))]
    np.testing.assert_allclose(sae.encode(x).numpy(), gain * a, atol=2e-2)
    assert int((sae.encode(x) > 0).sum()) == 3 * 80
    assert (sae.threshold is None) == (arch == "topk")
    np.testing.assert_allclose(sae.W_dec.norm(dim=1), 1, rtol=1e-5)


def test_the_directions_are_those(store: Store) -> None:
    x = sample(store)
    rows = (x - x.mean(0)).numpy()
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False) ** 2 / (len(rows) - 1)
    found = principal(rows, 32)
    assert np.array_equal(found[::2], -found[1::2])
    np.testing.assert_allclose(np.var(rows @ found[::2].T, axis=0, ddof=1), values, rtol=1e-3)
    saes = {of: made_of(x, SAEConfig(arch="topk", d=16, w=24, k=3, directions=of), 7) for of in KINDS}
    assert np.array_equal(saes["pca"].W_dec.numpy(), principal((x - saes["pca"].b_dec).numpy(), 24))
    near = centroids((x - saes["kmeans"].b_dec).numpy(), 24, 7)
    np.testing.assert_allclose(saes["kmeans"].W_dec.numpy(), unit(near), atol=1e-6)
    assert torch.equal(saes["random"].W_dec, random_directions(24, 16, 7))


def test_all_components_give_activations_back(workspace: Workspace, store: Store) -> None:
    """Of each component and its negative one is active at most."""
    found = baseline(asked(arch="topk", k=16), workspace)
    assert found.w == 32 and found.fve == pytest.approx(1) and found.l0 == pytest.approx(16)
    fewer = baseline(asked(name="c", arch="topk", k=3), workspace)
    random = baseline(asked(name="r", of="random", arch="topk", k=3, expansion=2.0), workspace)
    assert 1 > fewer.fve > random.fve > 0


@pytest.mark.parametrize("of", KINDS)
def test_it_is_an_sae_of_the_store_measured_on_what_a_training_holds_out(
    workspace: Workspace, store: Store, of: str
) -> None:
    found = baseline(asked(of=of, seed=2, holdout=0.2), workspace)
    sae, config = SAE.load(workspace.sae("b")), read_config(workspace.sae("b"))
    loader = Loader(store, 4096, 2, 0.2)
    measured = HeldOut.of(loader, "", workspace).measure(sae)
    assert vars(measured).items() <= vars(found).items() and found.rows == len(loader.held_out)
    assert found.l0 == pytest.approx(3, rel=0.15)  # of other rows than the threshold comes from
    assert (config.directions, config.model, config.hook) == (of, "demo", "layer:3")
    assert config.provenance.made_from[0].sha256 == store.sha256
    assert control(config).endswith("not trained")
    weights = workspace.sae("b") / "sae.safetensors"
    before = weights.read_bytes()
    assert baseline(asked(of=of, seed=2, holdout=0.2), workspace) == replace(found, made=False), "it is there"
    weights.write_bytes(before[:-4] + b"lost")
    assert baseline(asked(of=of, seed=2, holdout=0.2), workspace) == found and weights.read_bytes() == before
    with pytest.raises(UserError, match="b is another SAE: choose another --name"):
        baseline(asked(of=of, seed=3, holdout=0.2), workspace)


def test_what_cannot_be_made_is_refused(workspace: Workspace, store: Store) -> None:
    train(chosen(name="trained"), workspace)
    baseline(asked(), workspace)
    for changes, says in (
        ({"expansion": 2.5}, "--expansion 2.5 is more than pca has, 16 components"),
        ({"k": 33}, "--k 33 is more than the 32 latents"),
        ({"name": "trained"}, "trained was trained: choose another --name"),
        ({"of": "random"}, "b is another SAE: choose another --name"),
        ({"k": 4}, "b is another SAE"),
        ({"activations": "none"}, "No activations named 'none'"),
    ):
        with pytest.raises(UserError, match=says):
            baseline(asked(**changes), workspace)


def test_a_training_does_not_take_its_name(workspace: Workspace, store: Store) -> None:
    baseline(asked(), workspace)
    with pytest.raises(UserError, match="was not trained here: choose another --name"):
        train(chosen(name="b"), workspace)


def test_one_activation_has_directions(workspace: Workspace) -> None:
    """Whose variance is 0: nothing fires, and nothing is divided by it."""
    write_store(workspace.activations("one"), np.ones((3, 4), np.float32))
    for of in KINDS:
        found = baseline(asked(activations="one", name=of, of=of, k=2, expansion=1.0, holdout=0.0), workspace)
        assert found.l0 == 0 and found.fve is None
