"""Losses, sparsifiers and gradients against references written from the formulas, with loops."""

import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import ArchitectureName, TrainSettings
from engine.errors import UserError
from engine.sae.architectures import REGISTRY, architecture
from engine.sae.architectures.batchtopk import BatchTopK
from engine.sae.architectures.gated import Gated
from engine.sae.architectures.jumprelu import JumpReLU
from engine.sae.architectures.matryoshka import Matryoshka
from engine.sae.architectures.relu import Relu
from engine.sae.architectures.topk import TopK, auxiliary
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.sae.sparse_codes import largest
from engine.sae.training_sae import Loss, TrainingSAE

D, W, BATCH = 5, 12, 7
FAMILY = [
    TopK(3, 0.03),
    BatchTopK(3, 0.03),
    Matryoshka(3, 0.03, (2, 5, 12), False),
    Matryoshka(3, 0.03, (1, 4, 7, 12), True),
]
ALL = [*FAMILY, Relu(0.02), JumpReLU(0.01, 0.3, 0.2), Gated(0.02)]


class Dense(TrainingSAE):
    """The path that GPUs take, on the CPU."""

    sparse = False


def made(architecture, seed=0, kind=TrainingSAE, d=D, w=W):
    generator = torch.Generator().manual_seed(seed)
    model = kind(architecture, d, w, seed).double()
    with torch.no_grad():
        for parameter in (model.W_enc, model.b_enc, model.b_dec):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        for name in model.architecture.parameters(w, d) if isinstance(architecture, Gated) else ():
            model.get_parameter(name).add_(0.3 * torch.randn(w, generator=generator, dtype=torch.float64))
    x = torch.randn(BATCH, d, generator=generator, dtype=torch.float64)
    return model, x


# References.


def naive_latents(model, x):
    z = torch.zeros(len(x), model.w, dtype=x.dtype)
    for b in range(len(x)):
        for j in range(model.w):
            total = sum((x[b, i] - model.b_dec[i]) * model.W_enc[j, i] for i in range(model.d)) + model.b_enc[j]
            z[b, j] = total if total > 0 else 0.0
    return z


def naive_keep(architecture, z):
    """Which entries stay, as a set of (token, latent)."""
    if isinstance(architecture, TopK):
        order = [sorted(range(z.shape[1]), key=lambda j: -z[b, j].item())[: architecture.k] for b in range(len(z))]
        return {(b, j) for b, row in enumerate(order) for j in row}
    entries = [(b, j) for b in range(len(z)) for j in range(z.shape[1])]
    if isinstance(architecture, BatchTopK):
        return set(sorted(entries, key=lambda e: -z[e].item())[: architecture.k * len(z)])
    return set(entries)


def naive_decode(model, a, b, latents):
    return [model.b_dec[i] + sum(a[b, j] * model.W_dec[j, i] for j in latents) for i in range(model.d)]


def naive_loss(model, x):
    """Total loss as a differentiable scalar. For jumprelu its value only: its gradient is an estimate."""
    architecture, z = model.architecture, naive_latents(model, x)
    if isinstance(architecture, JumpReLU):
        kept = {(b, j) for b in range(len(x)) for j in range(model.w) if z[b, j] > model.thresholds[j]}
    else:
        kept = naive_keep(architecture, z)
    a = torch.zeros_like(z)
    for entry in kept:
        a[entry] = z[entry]
    ends = architecture.groups if isinstance(architecture, Matryoshka) else (model.w,)
    total, residual = 0.0, None
    for end in ends:
        x_hat = torch.stack([torch.stack(naive_decode(model, a, b, range(end))) for b in range(len(x))])
        residual = x - x_hat
        total = total + sum((residual[b] ** 2).sum() for b in range(len(x))) / len(x)
    if isinstance(architecture, Matryoshka) and architecture.averaged:
        total = total / len(ends) ** 2
    if isinstance(architecture, Relu):
        return total + architecture.l1 * a.sum() / len(x)
    if isinstance(architecture, JumpReLU):
        return total + architecture.l0 * len(kept) / len(x)
    return total + architecture.aux * naive_auxiliary(model, z, residual.detach())


def naive_auxiliary(model, z, residual):
    if model.dead is None:
        return 0.0
    dead = model.dead.tolist()
    count = min(model.d // 2, len(dead))
    error = variance = 0.0
    for b in range(len(z)):
        chosen = sorted(dead, key=lambda j: -z[b, j].item())[:count]
        for i in range(model.d):
            e_hat = sum(z[b, j] * model.W_dec[j, i] for j in chosen)
            error = error + (residual[b, i] - e_hat) ** 2
            variance = variance + (residual[b, i] - residual[:, i].mean()) ** 2
    return error / variance


def gradients(model, value):
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# Losses.


@pytest.mark.parametrize("kind", [TrainingSAE, Dense])
@pytest.mark.parametrize("dead", [None, [4], [0, 3, 5, 8, 11]])
@pytest.mark.parametrize("architecture", FAMILY)
def test_loss_and_gradient_of_the_topk_family(architecture, dead, kind):
    model, x = made(architecture, kind=kind)
    model.dead = None if dead is None else torch.tensor(dead)
    loss = model.loss(x)
    expected = naive_loss(model, x)
    torch.testing.assert_close(loss.total, expected)
    found = gradients(model, loss.total)
    for name, gradient in gradients(model, expected).items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_loss_and_gradient_of_relu():
    model, x = made(Relu(0.02))
    loss, expected = model.loss(x), naive_loss(model, x)
    torch.testing.assert_close(loss.total, expected)
    found = gradients(model, loss.total)
    for name, gradient in gradients(model, expected).items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("architecture", ALL)
def test_what_a_loss_says_of_the_batch(architecture):
    model, x = made(architecture)
    z = naive_latents(model, x)
    if isinstance(architecture, JumpReLU):
        a = z * (z > model.thresholds)
    elif isinstance(architecture, Gated):
        a = z * (naive_gate(model, x) > 0)
    else:
        a = torch.zeros_like(z)
        for entry in naive_keep(architecture, z):
            a[entry] = z[entry]
    loss = model.loss(x)
    assert loss.fired.tolist() == [(a[:, j] > 0).any().item() for j in range(W)]
    torch.testing.assert_close(loss.smallest.double(), a[a > 0].min().detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(loss.mse, ((x - a @ model.W_dec - model.b_dec) ** 2).sum(1).mean())


def test_auxiliary_loss_on_its_own_and_its_gradient_into_the_residual():
    model, x = made(TopK(2, 1.0))
    model.dead = torch.tensor([1, 2, 6, 7])
    residual = torch.randn(BATCH, D, dtype=torch.float64, requires_grad=True)
    value = auxiliary(model, x, residual)
    torch.testing.assert_close(value, naive_auxiliary(model, naive_latents(model, x), residual.detach()))
    value.backward()
    assert residual.grad is None


def test_auxiliary_loss_of_a_perfect_reconstruction_is_0():
    model, x = made(TopK(2, 1.0))
    model.dead = torch.tensor([1])
    assert auxiliary(model, x, torch.zeros_like(x)) == 0


# Gated.


def naive_gate(model, x):
    """``relu((x - b_dec) @ W_gate + b_gate)`` with the paper's ``W_gate = e^-r_mag W_mag``."""
    gate = torch.zeros(len(x), model.w, dtype=x.dtype)
    for b in range(len(x)):
        for j in range(model.w):
            into = [(x[b, i] - model.b_dec[i]) * model.W_enc[j, i] / model.r_mag[j].exp() for i in range(model.d)]
            gate[b, j] = torch.relu(sum(into) + model.b_gate[j])
    return gate


def test_loss_and_gradient_of_gated():
    model, x = made(Gated(0.02))
    z, gate = naive_latents(model, x), naive_gate(model, x)
    assert ((z > 0) & (gate == 0)).sum() > 0, "the gate shuts some"
    errors = x - (z * (gate > 0) @ model.W_dec + model.b_dec), x - (gate @ model.W_dec.detach() + model.b_dec.detach())
    expected = sum((error**2).sum() for error in errors) / BATCH + 0.02 * gate.sum() / BATCH
    loss = model.loss(x)
    torch.testing.assert_close(loss.total, expected)
    found = gradients(model, loss.total)
    for name, gradient in gradients(model, expected).items():
        torch.testing.assert_close(found[name], gradient, msg=name)


# JumpReLU's estimators.


def test_jumprelu_value_and_straight_through_gradient():
    rule = JumpReLU(0.01, 0.3, 0.2)
    model, x = made(rule, seed=3)
    with torch.no_grad():
        model.thresholds += 0.3 * torch.rand(W, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = model.loss(x)
    torch.testing.assert_close(loss.total, naive_loss(model, x))
    found = gradients(model, loss.total)

    z, theta = naive_latents(model, x).detach(), model.thresholds.detach()
    a = z * (z > theta)
    to_x_hat = 2 * (a @ model.W_dec + model.b_dec - x).detach() / BATCH
    expected = torch.zeros(W, dtype=torch.float64)
    inside = 0
    for b in range(BATCH):
        for j in range(W):
            kernel = 1.0 if abs((z[b, j] - theta[j]) / rule.bandwidth) < 0.5 else 0.0
            inside += kernel
            to_a = (to_x_hat[b] * model.W_dec[j].detach()).sum()
            expected[j] += -theta[j] / rule.bandwidth * kernel * to_a
            expected[j] += -1 / rule.bandwidth * kernel * rule.l0 / BATCH
    assert inside > 5
    torch.testing.assert_close(found["thresholds"], expected)

    # The other gradients are those of the mse with the set of active latents held fixed.
    fixed = naive_latents(model, x) * (z > theta)
    mse = ((x - fixed @ model.W_dec - model.b_dec) ** 2).sum(1).mean()
    for name, gradient in gradients(model, mse).items():
        torch.testing.assert_close(found[name], gradient, msg=name)


@pytest.mark.parametrize("architecture", ALL)
def test_half_precision_products_give_nearly_the_same_loss_and_gradient(architecture):
    """bfloat16 autocast, as on a GPU, on the path that GPUs take."""
    model, x = made(architecture, kind=Dense, d=32)
    model, x = model.float(), x.float() / 5
    model.dead = torch.tensor([1, 5])
    exact = model.loss(x)
    expected = gradients(model, exact.total)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(x)
    torch.testing.assert_close(loss.total, exact.total, rtol=0.02, atol=0)
    for name, gradient in gradients(model, loss.total).items():
        assert gradient.dtype == torch.float32
        if name != "thresholds":  # what falls inside the kernel changes
            assert torch.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0) > 0.98


# Sparsifiers.


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 9),
    w=st.integers(1, 20),
    k=st.integers(1, 25),
    ties=st.booleans(),
    hint=st.floats(0, 3),
)
def test_sparsifiers_keep_the_largest(seed, batch, w, k, ties, hint):
    z = torch.relu(torch.randn(batch, w, generator=torch.Generator().manual_seed(seed)))
    if ties:
        z = (2 * z).round() / 2
    for rule, count, slices in (
        (TopK(k, 0), min(k, w), list(z)),
        (BatchTopK(k, 0), min(k * batch, z.numel()), [z]),
    ):
        a, kept = rule.keep(z), rule.kept(z, hint)
        from_list = torch.zeros_like(z)
        from_list[kept.rows, kept.latents] = kept.values
        assert kept.rows.tolist() == sorted(kept.rows.tolist())
        assert len(set(zip(kept.rows.tolist(), kept.latents.tolist(), strict=True))) == len(kept.rows)
        for dense in (a, from_list):
            assert ((dense == z) | (dense == 0)).all()
        for dense, part in zip(list(a) if len(slices) > 1 else [a], slices, strict=True):
            if (dense.shape) == part.shape:
                expected = part.flatten().sort(descending=True).values[:count]
                found = dense.flatten().sort(descending=True).values[:count]
                assert torch.equal(found, expected)
        assert torch.equal(a.flatten().sort().values, from_list.flatten().sort().values)


def test_of_equal_values_the_first_stay():
    values = torch.tensor([1.0, 3.0, 1.0, 2.0, 1.0, 0.0])
    assert largest(values, 3, 0.0).tolist() == [0, 1, 3]
    assert largest(values, 4, 0.9).tolist() == [0, 1, 2, 3]
    assert largest(values, 6, 2.5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("architecture", FAMILY)
def test_a_batch_in_which_nothing_fires(architecture):
    model, x = made(architecture)
    with torch.no_grad():
        model.b_enc -= 100
    loss = model.loss(x)
    loss.total.backward()
    assert not loss.fired.any() and math.isinf(loss.smallest)
    torch.testing.assert_close(loss.mse, ((x - model.b_dec) ** 2).sum(1).mean())
    model.observe(loss, BATCH, 0.9)
    assert model.theta == 0
    assert (model.since_fired == BATCH).all()


# Constraints, counters, folding.


def test_decoder_rows_are_unit_and_their_gradient_has_no_parallel_part():
    model, x = made(FAMILY[1])
    model.constrain()
    torch.testing.assert_close(model.W_dec.norm(dim=1), torch.ones(W, dtype=torch.float64))
    model.loss(x).total.backward()
    before = model.W_dec.grad.clone()
    model.project_gradient()
    along = (model.W_dec.grad * model.W_dec).sum(1)
    torch.testing.assert_close(along, torch.zeros(W, dtype=torch.float64), atol=1e-12, rtol=0)
    removed = before - model.W_dec.grad
    torch.testing.assert_close(removed, (removed * model.W_dec).sum(1, keepdim=True) * model.W_dec)


def test_initialisation():
    model = TrainingSAE(TopK(3, 0), 16, 40, seed=1)
    assert torch.equal(model.W_enc, model.W_dec)
    torch.testing.assert_close(model.W_dec.norm(dim=1), torch.ones(40))
    assert not model.b_enc.any() and not model.b_dec.any()
    assert torch.equal(model.W_dec, TrainingSAE(TopK(3, 0), 16, 40, seed=1).W_dec)
    assert not torch.equal(model.W_dec, TrainingSAE(TopK(3, 0), 16, 40, seed=2).W_dec)


def test_theta_and_dead_counters_follow_the_batches():
    model = TrainingSAE(BatchTopK(1, 0), 2, 3, seed=0)
    theta, silent = None, [0, 0, 0]
    steps = [(0.5, [1, 0, 0]), (0.3, [0, 1, 0]), (math.inf, [0, 0, 0]), (0.9, [1, 0, 0])]
    for number, (smallest, fired) in enumerate(steps):
        active = torch.tensor(fired, dtype=torch.bool)
        loss = Loss(torch.zeros(()), torch.zeros(()), active, torch.tensor(smallest), torch.zeros(10, 3))
        model.observe(loss, 10, 0.0 if number == 0 else 0.9)
        if math.isfinite(smallest):
            theta = smallest if theta is None else 0.9 * theta + 0.1 * smallest
        silent = [0 if f else s + 10 for f, s in zip(fired, silent, strict=True)]
    assert model.theta.item() == pytest.approx(theta, rel=1e-6)
    assert model.since_fired.tolist() == silent


@pytest.mark.parametrize("architecture", ALL)
def test_an_exported_sae_takes_raw_activations(architecture):
    model, x = made(architecture)
    scale = 7.5
    model.theta.fill_(0.4)
    name = next(name for name, kind in REGISTRY.items() if kind is type(architecture))
    sae = SAE.of(SAEConfig(arch=name, d=D, w=W, k=3, scale=scale), model.weights(scale))
    z = model.latents(x)
    if isinstance(architecture, TopK):
        a = architecture.keep(z)
    elif isinstance(architecture, BatchTopK):
        a = z * (z > 0.4)
    else:
        fixed = {JumpReLU: lambda: z > model.thresholds, Gated: lambda: naive_gate(model, x) > 0}
        a = z * fixed.get(type(architecture), lambda: 1)()
    raw = (x * scale).float()
    torch.testing.assert_close(sae.encode(raw).double(), a * scale, rtol=1e-4, atol=1e-5)
    x_hat = (a @ model.W_dec + model.b_dec) * scale
    torch.testing.assert_close(sae(raw).double(), x_hat, rtol=1e-4, atol=1e-5)


def test_settings_know_the_architectures_that_are_registered():
    assert set(get_args(ArchitectureName)) == set(REGISTRY)


def test_architectures_by_name():
    settings = TrainSettings(activations="a", name="n", k=7, groups=(0.25, 1.0), l1=0.5, l0=0.25, aux=0.125)

    def named(**changes):
        return architecture(TrainSettings(**{**vars(settings), **changes}), 40)

    assert named(arch="relu") == Relu(0.5)
    assert named(arch="topk") == TopK(7, 0.125)
    assert named(arch="batchtopk") == BatchTopK(7, 0.125)
    assert named(arch="matryoshka-batchtopk") == Matryoshka(7, 0.125, (10, 40), False)
    assert named(arch="matryoshka-batchtopk", groups=(3.0, 16.0, 40.0), matryoshka_loss="reference") == Matryoshka(
        7, 0.125, (3, 16, 40), True
    )
    assert isinstance(named(arch="jumprelu"), JumpReLU)
    assert named(arch="gated") == Gated(0.5)
    for groups in ((), (0.5, 0.9), (10.0, 39.0), (20.0, 20.0, 40.0), (0.001, 1.0)):
        with pytest.raises(UserError, match="groups"):
            named(arch="matryoshka-batchtopk", groups=groups)
