"""MonoLoss against the definition: a double loop over pairs of images, and its gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.activations.loader import Loader
from engine.activations.store import Store
from engine.errors import Stopped, UserError
from engine.metrics.monosemanticity import monosemanticity
from engine.runs.trainings import clone, trainings
from engine.sae.architectures.batchtopk import BatchTopK
from engine.sae.mono import LOPSIDED, Mono, mono_loss
from engine.sae.sparse_codes import Kept
from engine.sae.state import read_state
from engine.sae.train import TrainingLoop, train
from engine.sae.training_sae import TrainingSAE
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, chosen


def naive(a: torch.Tensor, image: list[int], E: torch.Tensor) -> torch.Tensor:
    """1 - the mean over latents of the weighted mean cosine of pairs of images; an image has the sum of its rows."""
    scores = []
    for j in range(a.shape[1]):
        by_image: dict[int, torch.Tensor] = {}
        for row, m in enumerate(image):
            if m >= 0 and a[row, j] > 0:
                by_image[m] = by_image.get(m, 0) + a[row, j]
        pairs = [(m, n) for m in by_image for n in by_image if m < n]
        weights = [float(weight.detach()) for weight in by_image.values()]
        if pairs and sum(weights) - max(weights) >= LOPSIDED * max(weights):
            weight = sum(by_image[m] * by_image[n] for m, n in pairs)
            scores.append(sum(by_image[m] * by_image[n] * (E[m] @ E[n]) for m, n in pairs) / weight)
    return 1 - sum(scores) / len(scores) if scores else torch.zeros((), dtype=a.dtype)


def as_list(a: torch.Tensor) -> Kept:
    rows, latents = (a.detach() > 0).nonzero(as_tuple=True)
    return Kept(rows, latents, a[rows, latents], len(a))


def drawn(seed: int, rows: int, w: int, images: int, fires: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    a = rng.exponential(size=(rows, w)) * (rng.random((rows, w)) < fires)
    E = rng.normal(size=(images, 3))
    E /= np.linalg.norm(E, axis=1, keepdims=True)
    return torch.from_numpy(a), torch.from_numpy(rng.integers(-1, images, rows)), torch.from_numpy(E)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 9),
    w=st.integers(1, 5),
    images=st.integers(1, 6),
    fires=st.floats(0, 1),
)
def test_it_is_the_double_loop_and_so_is_its_gradient(seed: int, rows: int, w: int, images: int, fires: float) -> None:
    a, image, E = drawn(seed, rows, w, images, fires)
    expected, gradient = None, None
    for codes in (naive, lambda a: a, as_list):
        own = a.clone().requires_grad_()
        loss = naive(own, image.tolist(), E) if codes is naive else mono_loss(codes(own), image, E)
        found = torch.autograd.grad(loss, own)[0] if loss.requires_grad else torch.zeros_like(a)
        if expected is None:
            expected, gradient = loss.detach(), found
        torch.testing.assert_close(loss.detach(), expected, atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(found, gradient, atol=1e-9, rtol=1e-6)


def test_with_one_row_an_image_it_is_the_score_of_the_metrics() -> None:
    a, _, E = drawn(3, 40, 6, 40, 0.3)
    score = monosemanticity(a.numpy(), E.numpy(), interval=False)
    assert float(mono_loss(a, torch.arange(40), E)) == pytest.approx(1 - score.mean, abs=1e-12)


@pytest.mark.parametrize("small", [1.0, 2e-3, 9e-4, 1e-7, 1e-30, 1e-44])
@pytest.mark.parametrize("scale", [1e-30, 300.0, 1e30])
def test_one_image_may_outweigh_the_others_in_float32(small: float, scale: float) -> None:
    """Of two images a latent has their cosine as MS, whatever the weights; with too little beside one it has none."""
    E = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    a = torch.tensor([[1.0], [small]]).mul(scale).requires_grad_()
    loss = mono_loss(a, torch.arange(2), E)
    assert float(loss) == pytest.approx(1 - 0.6 if small > LOPSIDED else 0, abs=1e-6)
    loss.backward()
    assert torch.isfinite(a.grad).all() and (a.grad * scale).abs().max() < 1e-4
    float64 = mono_loss(a.detach().double(), torch.arange(2), E.double())
    assert float(loss) == pytest.approx(float(float64), abs=1e-6)


def test_many_small_ones_beside_a_large_one_in_float32() -> None:
    a, _, E = drawn(5, 200, 8, 200, 0.5)
    a[0] = 150 * a.max()
    expected = naive(a, list(range(200)), E)
    assert float(mono_loss(a.float(), torch.arange(200), E.float())) == pytest.approx(float(expected), abs=1e-6)


def test_nothing_to_score_is_no_loss() -> None:
    E = torch.eye(3)
    for a in (torch.zeros(4, 2), torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])):
        assert float(mono_loss(a, torch.tensor([1, 1, 2, 0]), E)) == 0  # both rows are of one image
    assert float(mono_loss(torch.ones(2, 2), torch.tensor([-1, -1]), E)) == 0


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """Four rows an image; the judge sees 250 of the 300 images, in another order."""
    x = activations()[0]
    seen = np.random.default_rng(1).permutation(300)[:250]
    pooled = x.reshape(300, 4, 16).mean(1)[seen]
    write_store(workspace.embeddings("e"), (pooled - pooled.mean(0)).astype(np.float32), shows=seen.tolist())
    return write_store(workspace.activations("a"), x, tokens=4)


def test_rows_count_with_the_embedding_of_their_image(workspace: Workspace, store: Store) -> None:
    loader = Loader(store, 64, 0, 0.1, 1.2)  # without long rows
    mono = Mono.of(loader, "e", workspace, torch.device("cpu"))
    judge = Store.open(workspace.embeddings("e"))
    E = judge.read(0, 250).astype(np.float64)
    E = torch.from_numpy(E / np.linalg.norm(E, axis=1, keepdims=True))
    x = loader.batch(2)
    rows = [row for row in loader.rows_of_batch(2).tolist() if (store.read(row, row + 1) == x.numpy()).all(1).any()]
    assert 0 < len(rows) == len(x) < 64
    shown = {record.sha256: number for number, record in enumerate(judge.images)}
    image = [shown.get(store.images[row // 4].sha256, -1) for row in rows]
    assert -1 in image and loader.images_of_batch(2).tolist() == [row // 4 for row in rows]
    model = TrainingSAE(BatchTopK(3, 0.0), 16, 32, 0)
    codes = model.loss(x).codes
    a = torch.zeros(len(x), 32, dtype=torch.float64)
    a[codes.rows, codes.latents] = codes.values.detach().double()
    assert float(mono.loss(codes, 2)) == pytest.approx(float(naive(a, image, E)), abs=1e-5)


@pytest.mark.parametrize("arch", ["relu", "batchtopk", "matryoshka-batchtopk", "jumprelu", "gated", "archetypal"])
def test_a_step_adds_its_gradient_with_the_weight(workspace: Workspace, store: Store, arch: str) -> None:
    gradients = []
    for weight in (0.0, 0.5):
        seen = {"mono": weight, "mono_embeddings": "e"} if weight else {}
        loop = TrainingLoop(chosen(arch=arch, **seen), workspace, store)
        loop.model = TrainingSAE(loop.architecture, 16, 32, 0)
        loop._begin()
        x = loop.loader.batch(0) / loop.scale
        loss = loop.model.loss(x)
        total = loss.total + (0.5 * loop.mono.loss(loss.codes, 0) if loop.mono else 0)
        total.backward()
        gradients.append(loop.model.W_enc.grad.clone())
        if loop.mono:
            loop.optimiser = torch.optim.SGD(loop.model.parameters(), lr=0.0)
            assert float(loop._update(loop.loader.batch(0))) == pytest.approx(float(total), rel=1e-5)
    assert not torch.allclose(*gradients)


def test_it_raises_ms_and_continues_to_the_same_bytes(workspace: Workspace, store: Store) -> None:
    usual = {"arch": "batchtopk", "steps": 120, "eval_every": 40, "embeddings": "e", "checkpoint_every": 50}
    plain = train(chosen(name="plain", **usual), workspace)
    reporter = Recorder()
    asked = chosen(mono=1.0, mono_embeddings="e", **usual)
    trained = train(asked, workspace, reporter)
    assert trained.ms > plain.ms + 0.005 and trained.fve > 0.5
    assert [w["message"] for w in reporter.of("warning")] == [
        "The MS of held-out images is what --mono trains for: judge by other --embeddings."
    ]
    folder = workspace.sae("s")
    whole = (folder / "sae.safetensors").read_bytes()
    folder.rename(folder.with_name("whole"))
    with pytest.raises(Stopped):
        train(asked, workspace, Recorder(stop_at=33))
    assert read_state(folder).identity["mono_embeddings"] == Store.open(workspace.embeddings("e")).sha256
    with pytest.raises(UserError, match=r"trained with mono 1\.0 instead of 0\.5"):
        train(chosen(mono=0.5, mono_embeddings="e", **usual), workspace)
    train(asked, workspace)
    assert (folder / "sae.safetensors").read_bytes() == whole
    row = next(row for row in trainings(workspace) if row.name == "s")
    assert clone(row, workspace).mono_embeddings == "e"


def test_what_it_cannot_see_is_refused(workspace: Workspace, store: Store) -> None:
    write_store(workspace.embeddings("others"), np.eye(5, dtype=np.float32), shows=range(1000, 1005))
    for changes, says in (
        ({"mono": 0.5}, "give both, or neither"),
        ({"mono_embeddings": "e"}, "give both, or neither"),
        ({"mono": 0.5, "mono_embeddings": "none"}, "No embeddings named 'none'"),
        ({"mono": 0.5, "mono_embeddings": "others"}, "'others' have 0 of the 270 images .* that are trained on"),
    ):
        with pytest.raises(UserError, match=says):
            train(chosen(**changes), workspace)
    train(chosen(mono=0.5, mono_embeddings="e"), workspace)
    write_store(workspace.embeddings("f"), -Store.open(workspace.embeddings("e")).read(0, 250) + 1)
    with pytest.raises(UserError, match="trained with other embeddings for --mono"):
        train(chosen(mono=0.5, mono_embeddings="f"), workspace)
