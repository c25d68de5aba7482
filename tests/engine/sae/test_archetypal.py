"""Latents that are near mixtures of data points: constraints, gradients, and that such a training continues."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.activations.store import Store
from engine.errors import Stopped
from engine.sae.architectures.archetypal import OWN, Archetypal
from engine.sae.config import points_of
from engine.sae.directions import centroids
from engine.sae.model import SAE
from engine.sae.state import checkpoint_path, read_training
from engine.sae.train import TrainingLoop, train
from engine.sae.training_sae import TrainingSAE
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, chosen


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return write_store(workspace.activations("a"), activations()[0], tokens=4)


def begun(w: int = 12, points: int = 5, delta: float = 0.2, d: int = 4) -> tuple[TrainingSAE, torch.Tensor]:
    model = TrainingSAE(Archetypal(2, 0.1, points, delta), d, w, 0).double()
    sample = torch.randn(60, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        model.b_dec.fill_(0.3)
        model.architecture.begin(model, sample, 0)
    return model, sample


def naive_decoder(model: TrainingSAE) -> torch.Tensor:
    """Row by row and point by point, as a differentiable function of the mixture and the relaxation."""
    rows = []
    for i in range(model.w):
        weights = [value.exp() for value in model.mixture[i]]
        row = model.relaxation[i]
        for weight, point in zip(weights, model.centroids, strict=True):
            row = row + weight / sum(weights) * point
        rows.append(row / row.pow(2).sum().sqrt())
    return torch.stack(rows)


@pytest.mark.parametrize("points", [1, 5, 12, 20])
def test_it_begins_at_points(points: int) -> None:
    model, sample = begun(points=points)
    C = torch.from_numpy(centroids(sample.numpy(), points, 0)).double() - 0.3
    torch.testing.assert_close(model.centroids, C)
    A = model.mixture.softmax(1)
    torch.testing.assert_close(A.sum(1), torch.ones(12, dtype=torch.float64))
    for i in range(12):
        own = {i % points, (i + i // points) % points}
        for point in range(points):
            expected = (1 - OWN) / points + (OWN / len(own) if point in own else 0)
            assert float(A[i, point]) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(model.W_dec, naive_decoder(model))
    assert torch.equal(model.W_enc, model.W_dec)


def test_gradients_are_those_through_the_mixtures() -> None:
    model, x = begun()
    with torch.no_grad():
        model.relaxation.copy_(0.1 * torch.randn(12, 4, generator=torch.Generator().manual_seed(2)))
        model.constrain()
        model.W_enc.add_(0.2 * torch.randn(12, 4, generator=torch.Generator().manual_seed(3)))
    for sparse in (True, False):
        model.__class__ = type("Path", (TrainingSAE,), {"sparse": sparse})
        model.zero_grad()
        model.dead = torch.tensor([1, 4])
        model.loss(x).total.backward()
        model.project_gradient()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        assert "W_dec" not in found

        decoder = naive_decoder(model)
        z = model.latents(x)
        top = z.topk(2, dim=1)
        a = torch.zeros_like(z).scatter(1, top.indices, top.values)
        residual = x - a @ decoder - model.b_dec
        e = residual.detach()
        e_hat = z[:, model.dead] @ decoder[model.dead]
        loss = residual.pow(2).sum(1).mean()
        loss = loss + 0.1 * (e_hat - e).pow(2).sum() / (e - e.mean(0)).pow(2).sum()
        names = list(found)
        expected = torch.autograd.grad(loss, [model.get_parameter(name) for name in names])
        for name, gradient in zip(names, expected, strict=True):
            torch.testing.assert_close(found[name], gradient, msg=name)
        assert found["mixture"].abs().max() > 1e-6 and found["relaxation"].abs().max() > 1e-6


def test_every_step_ends_where_it_may(workspace: Workspace, store: Store) -> None:
    loop = TrainingLoop(chosen(arch="archetypal", points=9, delta=0.05, lr=0.1), workspace, store)
    loop.model = TrainingSAE(loop.architecture, 16, 32, 0)
    loop.optimiser = torch.optim.Adam(loop.model.parameters(), betas=(0.9, 0.999), fused=True)
    loop._begin()
    first, moved = loop.model.W_dec.detach().clone(), loop.model.mixture.detach().clone()
    for loop.step in range(25):
        loop._update(loop.loader.batch(loop.step))
        model = loop.model
        torch.testing.assert_close(model.W_dec, naive_decoder(model))
        assert float(model.relaxation.norm(dim=1).max()) <= 0.05 * (1 + 1e-5)
        A = model.mixture.softmax(1)
        assert float(A.min()) >= 0 and A.sum(1).tolist() == pytest.approx([1] * 32, abs=1e-5)
    assert not torch.allclose(model.W_dec, first) and not torch.allclose(model.mixture, moved)
    assert float(model.relaxation.norm(dim=1).max()) == pytest.approx(0.05, rel=1e-4)


def test_stopped_it_continues_to_the_same_bytes_and_is_saved_as_topk(workspace: Workspace, store: Store) -> None:
    asked = chosen(arch="archetypal", points=10, dead_after=1, k=1, batch_size=16)
    train(asked, workspace)
    folder = workspace.sae("s")
    expected = [(folder / name).read_bytes() for name in ("sae.safetensors", "config.json")]
    folder.rename(folder.with_name("whole"))
    for stop in (4, 11):
        with pytest.raises(Stopped):
            train(asked, workspace, Recorder(stop_at=stop))
        assert checkpoint_path(folder).is_file()
    train(asked, workspace)
    assert [(folder / name).read_bytes() for name in ("sae.safetensors", "config.json")] == expected
    sae, training = SAE.load(folder), read_training(folder)
    assert (sae.config.arch, sae.config.k, sae.threshold) == ("topk", 1, None)
    assert (training.settings.arch, training.result.arch) == ("archetypal", "archetypal")
    assert int((sae.encode(torch.from_numpy(store.read(0, 50))) > 0).sum(1).max()) == 1


def test_without_a_relaxation_latents_are_mixtures(workspace: Workspace, store: Store) -> None:
    train(chosen(arch="archetypal", points=6, delta=0.0, keep_state=True), workspace)
    kept = load_file(checkpoint_path(workspace.sae("s")))
    assert not kept["model.relaxation"].any()
    D = torch.nn.functional.normalize(kept["model.mixture"].softmax(1) @ kept["model.centroids"], dim=1)
    torch.testing.assert_close(SAE.load(workspace.sae("s")).W_dec.detach(), D)


def test_as_many_points_as_latents_unless_more_are_many() -> None:
    assert [points_of(0, 100), points_of(0, 10**6), points_of(7, 100)] == [100, 4096, 7]


def test_centroids_are_means_of_the_rows_nearest_to_them() -> None:
    """Of clusters far from one another, whose every one has a row that is drawn."""
    rng = np.random.default_rng(0)
    middles = np.array([[0, 0], [9, 0], [0, 9]])
    x = (middles[np.arange(60) % 3] + 0.3 * rng.normal(size=(60, 2))).astype(np.float32)
    seed = next(s for s in range(99) if len(set(np.random.default_rng(s).permutation(60)[:3] % 3)) == 3)
    found = centroids(x, 3, seed)
    nearest = np.argmin([[((row - point) ** 2).sum() for point in found] for row in x], axis=1)
    for number in range(3):
        np.testing.assert_allclose(found[number], x[nearest == number].mean(0), rtol=1e-5)
    assert len(centroids(x, 100, 0)) == 100 and {tuple(row) for row in centroids(x, 100, 0)} == {tuple(r) for r in x}
    assert np.array_equal(centroids(x, 5, 1), centroids(x, 5, 1))
