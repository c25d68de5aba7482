"""What is trained: one small class per architecture, each with its settings, its sparsifier and its loss.

Everything here is in training units: activations divided by a scale that makes their mean squared norm 1.

Two paths compute the topk family. On a GPU codes are dense, as matrix units want them. On a CPU they are lists of the
kept latents, so that a step costs one dense product (the encoder) instead of five. Both are held against references
written from the formulas in the tests.
"""

import itertools
from dataclasses import dataclass
from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engine.config import TrainSettings
from engine.sae.config import SAEConfig, prefixes
from engine.sae.model import SAE, keep_largest


@dataclass
class Loss:
    """What one batch says. Tensors stay on the device, so that a training step need not wait for it."""

    total: Float[Tensor, ""]
    """What is minimised."""
    mse: Float[Tensor, ""]
    """Mean over the batch of the squared error summed over d, of the whole dictionary."""
    fired: Bool[Tensor, " w"]
    """Latents that are active on some token of the batch."""
    smallest: Float[Tensor, ""]
    """Smallest kept positive activation; infinite if there is none."""


class TrainingSAE(nn.Module):
    """The trained form of an SAE: unit decoder rows, training units, counters of dead latents.

    ``W_enc`` is stored as (w, d), the transpose of the saved one: both matrices then have a row per latent.
    """

    def __init__(self, architecture: "Architecture", d: int, w: int, seed: int):
        super().__init__()
        self.architecture = architecture
        self.d, self.w = d, w
        directions = torch.randn(w, d, generator=torch.Generator().manual_seed(seed))
        directions /= directions.norm(dim=1, keepdim=True)
        self.W_dec = nn.Parameter(directions)
        self.W_enc = nn.Parameter(directions.clone())
        self.b_enc = nn.Parameter(torch.zeros(w))
        self.b_dec = nn.Parameter(torch.zeros(d))
        if isinstance(architecture, JumpReLU):
            self.thresholds = nn.Parameter(torch.full((w,), architecture.start))
        self.theta: Tensor
        self.since_fired: Tensor
        self.register_buffer("theta", torch.zeros(()))
        self.register_buffer("since_fired", torch.zeros(w, dtype=torch.int64))
        self.dead: Int[Tensor, " dead"] | None = None  # latents that the auxiliary loss revives; None: there are none

    @property
    def sparse(self) -> bool:
        """Whether codes are lists of kept latents rather than dense."""
        return self.W_enc.device.type == "cpu"

    def centred(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        return x - self.b_dec.detach()

    def bias(self) -> Float[Tensor, " w"]:
        """``b_enc``, with the gradient that ``b_dec`` gets through the encoder.

        ``(x - b_dec) @ W`` alone would cost a whole product over the batch in the backward pass to learn what b_dec
        gets; that gradient is a sum over the batch, so it is taken here, through a term whose value is 0.
        """
        return self.b_enc + F.linear(self.b_dec.detach() - self.b_dec, self.W_enc.detach())

    def latents(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch w"]:
        """``relu((x - b_dec) @ W_enc + b_enc)``, dense."""
        return torch.relu(F.linear(self.centred(x), self.W_enc, self.bias()))

    def loss(self, x: Float[Tensor, "batch d"]) -> Loss:
        return self.architecture.loss(self, x)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Remove the component of the decoder's gradient along each row: it would only change a norm that is fixed."""
        gradient = self.W_dec.grad
        assert gradient is not None
        gradient -= (gradient * self.W_dec).sum(1, keepdim=True) * self.W_dec

    @torch.no_grad()
    def constrain(self) -> None:
        """Decoder rows back to unit norm, jumprelu thresholds to 0 or more; called after every step."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))
        if isinstance(self.architecture, JumpReLU):
            self.thresholds.clamp_(min=0)

    @torch.no_grad()
    def observe(self, loss: Loss, batch: int, smoothing: float) -> None:
        """Count how long latents have been silent and follow the threshold.

        ``theta`` becomes ``smoothing * theta + (1 - smoothing) * smallest``; a batch in which nothing fired is left
        out.
        """
        self.since_fired += batch
        self.since_fired.masked_fill_(loss.fired, 0)
        moved = torch.lerp(loss.smallest.to(self.theta), self.theta, smoothing)
        self.theta.copy_(torch.where(torch.isfinite(loss.smallest), moved, self.theta))

    @torch.no_grad()
    def export(self, config: SAEConfig) -> SAE:
        """The SAE for raw activations: ``config.scale`` is folded into b_enc, b_dec and the threshold.

        With ``x = scale * x'`` the latents and the reconstruction are ``scale`` times those of training.
        """
        sae = SAE(config).to(self.W_enc.device)
        sae.W_enc.copy_(self.W_enc.T)
        sae.W_dec.copy_(self.W_dec)
        sae.b_enc.copy_(self.b_enc * config.scale)
        sae.b_dec.copy_(self.b_dec * config.scale)
        if config.has_threshold:
            own = self.thresholds if isinstance(self.architecture, JumpReLU) else self.theta
            sae.threshold.copy_(own * config.scale)
        return sae


@dataclass(frozen=True)
class Relu:
    """Loss: mse + l1 * sum of the latents. Nothing else makes them sparse."""

    l1: float

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        z = model.latents(x)
        mse = squared_error(decode_dense(model, z, (model.w,))[0], x)
        return Loss(mse + self.l1 * z.float().sum(1).mean(), mse, *_activity(z))


@dataclass(frozen=True)
class JumpReLU:
    """``a = z * (z > theta_j)``; loss: mse + l0 * number of active latents (Rajamanoharan et al., arXiv 2407.14435).

    Thresholds learn through a rectangle kernel of width ``bandwidth``.
    """

    l0: float
    bandwidth: float
    start: float

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        z = model.latents(x)
        a = JumpFunction.apply(z, model.thresholds, self.bandwidth)
        active = StepFunction.apply(z, model.thresholds, self.bandwidth)
        mse = squared_error(decode_dense(model, a, (model.w,))[0], x)
        return Loss(mse + self.l0 * active.float().sum(1).mean(), mse, *_activity(a))


@dataclass(frozen=True)
class TopK:
    """Every token keeps its k largest latents; loss: mse + aux (Gao et al., arXiv 2406.04093)."""

    k: int
    aux: float

    @property
    def error_weight(self) -> float:
        return 1.0

    def prefixes(self, w: int) -> tuple[int, ...]:
        return (w,)

    def keep(self, z: Float[Tensor, "batch w"]) -> Float[Tensor, "batch w"]:
        return keep_largest(z, self.k)

    def kept(self, z: Float[Tensor, "batch w"], hint: float) -> "Kept":
        top = z.topk(min(self.k, z.shape[1]), dim=1)
        positive = top.values > 0
        rows = torch.arange(len(z)).unsqueeze(1).expand_as(top.indices)[positive]
        return Kept(rows, top.indices[positive], top.values[positive], len(z))

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        return _topk_loss(self, model, x)


@dataclass(frozen=True)
class BatchTopK:
    """The batch keeps its k * batch largest latents, so that a token may have more or fewer (arXiv 2412.06410)."""

    k: int
    aux: float

    @property
    def error_weight(self) -> float:
        return 1.0

    def prefixes(self, w: int) -> tuple[int, ...]:
        return (w,)

    def keep(self, z: Float[Tensor, "batch w"]) -> Float[Tensor, "batch w"]:
        top = z.detach().flatten().topk(min(self.k * len(z), z.numel()), sorted=False).indices
        mask = torch.zeros(z.numel(), dtype=torch.bool, device=z.device).index_fill_(0, top, True)
        return z * mask.view_as(z)

    def kept(self, z: Float[Tensor, "batch w"], hint: float) -> "Kept":
        flat = largest(z.flatten(), self.k * len(z), hint)
        return Kept(flat // z.shape[1], flat % z.shape[1], z.flatten()[flat], len(z))

    def loss(self, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
        return _topk_loss(self, model, x)


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK whose nested prefixes each reconstruct on their own (Bussmann et al., arXiv 2503.17547).

    Loss: the sum over prefixes of their mse, as arXiv 2504.02821 prints it, or with ``averaged`` that sum divided by
    the squared number of prefixes, as its authors' code has it; + aux.
    """

    groups: tuple[int, ...]
    averaged: bool

    @property
    def error_weight(self) -> float:
        return 1 / len(self.groups) ** 2 if self.averaged else 1.0

    def prefixes(self, w: int) -> tuple[int, ...]:
        return self.groups


Architecture = Relu | JumpReLU | TopK | BatchTopK | Matryoshka


def architecture(settings: TrainSettings, w: int) -> Architecture:
    """The architecture that the settings describe, for a dictionary of ``w`` latents."""
    arch = settings.arch
    if arch == "relu":
        return Relu(settings.l1)
    if arch == "jumprelu":
        return JumpReLU(settings.l0, settings.bandwidth, settings.bandwidth)
    if arch == "topk":
        return TopK(settings.k, settings.aux)
    if arch == "batchtopk":
        return BatchTopK(settings.k, settings.aux)
    if arch == "matryoshka-batchtopk":
        groups = prefixes(settings.groups, w)
        return Matryoshka(settings.k, settings.aux, groups, settings.matryoshka_loss == "reference")
    assert_never(arch)


def squared_error(x_hat: Float[Tensor, "batch d"], x: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """Mean over the batch of the SUM over d of squared differences."""
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


def decode_dense(
    model: TrainingSAE, a: Float[Tensor, "batch w"], ends: tuple[int, ...]
) -> list[Float[Tensor, "batch d"]]:
    """Reconstruction by every prefix of the dictionary, from dense codes. The product is done once, not per prefix."""
    sizes = [end - start for start, end in itertools.pairwise((0, *ends))]
    x_hat, reconstructions = model.b_dec, []
    for part, rows in zip(a.split(sizes, dim=1), model.W_dec.split(sizes), strict=True):
        x_hat = x_hat + (part @ rows).float()
        reconstructions.append(x_hat)
    return reconstructions


def decode_kept(model: TrainingSAE, kept: "Kept", ends: tuple[int, ...]) -> list[Float[Tensor, "batch d"]]:
    """As decode_dense, from lists of kept latents."""
    group = torch.bucketize(kept.latents, torch.tensor(ends), right=True)
    bags = kept.rows * len(ends) + group
    parts = _Decode.apply(model.W_dec, kept.values, bags, kept.latents, kept.batch * len(ends))
    x_hat, reconstructions = model.b_dec, []
    for part in parts.view(kept.batch, len(ends), -1).unbind(1):
        x_hat = x_hat + part
        reconstructions.append(x_hat)
    return reconstructions


def auxiliary(model: TrainingSAE, x: Float[Tensor, "batch d"], residual: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
    """AuxK: dead latents reconstruct what the others left (Gao et al., arXiv 2406.04093).

    The ``min(d / 2, number of dead)`` largest dead latents of a token decode to ``e_hat``; the loss is the mean squared
    error ``|e - e_hat|^2`` over the variance of the residual ``e``, which gets no gradient.
    """
    if model.dead is None:
        return residual.new_zeros(())
    residual = residual.detach()
    z = torch.relu(F.linear(model.centred(x), model.W_enc[model.dead], model.bias()[model.dead]))
    limit = model.d // 2
    e_hat = (keep_largest(z, limit) if len(model.dead) > limit else z) @ model.W_dec[model.dead]
    variance = squared_error(residual.mean(0).expand_as(residual), residual)
    return squared_error(e_hat.float(), residual) * torch.where(variance > 0, 1 / variance, 0.0)


def _topk_loss(architecture: TopK | BatchTopK | Matryoshka, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Loss:
    ends = architecture.prefixes(model.w)
    if model.sparse:
        kept = keep_sparse(architecture, model, x)
        reconstructions = decode_kept(model, kept, ends)
        activity = kept.activity(model.w)
    else:
        a = architecture.keep(model.latents(x))
        reconstructions = decode_dense(model, a, ends)
        activity = _activity(a)
    errors = [squared_error(x_hat, x) for x_hat in reconstructions]
    total = torch.stack(errors).sum() * architecture.error_weight
    aux = auxiliary(model, x, x - reconstructions[-1])
    return Loss(total + architecture.aux * aux, errors[-1], *activity)


def _activity(a: Float[Tensor, "batch w"]) -> tuple[Bool[Tensor, " w"], Float[Tensor, ""]]:
    """Which latents fired, and the smallest positive activation."""
    active = a.detach() > 0
    return active.any(0), torch.where(active, a.detach(), torch.inf).min().float()


# Codes as lists, for the CPU.


@dataclass
class Kept:
    """The positive activations that a sparsifier kept, in the order of their rows."""

    rows: Int[Tensor, " kept"]
    latents: Int[Tensor, " kept"]
    values: Float[Tensor, " kept"]
    batch: int

    def activity(self, w: int) -> tuple[Bool[Tensor, " w"], Float[Tensor, ""]]:
        fired = torch.zeros(w, dtype=torch.bool).index_fill_(0, self.latents, True)
        smallest = self.values.detach().min() if len(self.values) else torch.tensor(torch.inf)
        return fired, smallest


def keep_sparse(architecture: TopK | BatchTopK | Matryoshka, model: TrainingSAE, x: Float[Tensor, "batch d"]) -> Kept:
    """Encode and sparsify; gradients reach W_enc and the biases through the kept latents only."""
    centred, bias = model.centred(x), model.bias()
    with torch.no_grad():
        z = torch.relu_(F.linear(centred, model.W_enc, bias))
        kept = architecture.kept(z, 0.9 * float(model.theta))
    values = _Encode.apply(model.W_enc, bias, centred, kept.values, kept.rows, kept.latents)
    return Kept(kept.rows, kept.latents, values, kept.batch)


def largest(values: Float[Tensor, " n"], count: int, hint: float) -> Int[Tensor, " kept"]:
    """Ascending indices of the ``count`` largest values, those that are positive; of equal ones the first.

    ``hint`` only saves time: a guess somewhat below the smallest value that will be kept.
    """
    candidates = (values > max(hint, 0.0)).nonzero().squeeze(1)
    if len(candidates) < count:
        candidates = (values > 0).nonzero().squeeze(1)
    if len(candidates) <= count:
        return candidates
    found = values[candidates]
    smallest = found.topk(count, sorted=False).values.min()
    keep = found > smallest
    ties = (found == smallest).nonzero().squeeze(1)
    keep[ties[: count - int(keep.sum())]] = True
    return candidates[keep]


def _bag_starts(sorted_bags: Int[Tensor, " n"], bags: int) -> Int[Tensor, " bags"]:
    return torch.searchsorted(sorted_bags, torch.arange(bags))


def _bag_sums(
    table: Float[Tensor, "m d"],
    index: Int[Tensor, " n"],
    weight: Float[Tensor, " n"],
    sorted_bags: Int[Tensor, " n"],
    bags: int,
) -> Float[Tensor, "bags d"]:
    """Row b: the sum of ``weight * table[index]`` over the entries of bag b. Each bag is summed in one order."""
    starts = _bag_starts(sorted_bags, bags)
    return F.embedding_bag(index, table, starts, mode="sum", per_sample_weights=weight)


class _Encode(torch.autograd.Function):
    """Values of kept latents; backward is sparse, since all other latents have no gradient."""

    @staticmethod
    def forward(ctx, W_enc, bias, centred, values, rows, latents):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(centred, rows, latents)
        ctx.w = len(bias)
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        centred, rows, latents = ctx.saved_tensors
        by_latent = torch.argsort(latents, stable=True)
        sums = _bag_sums(centred, rows[by_latent], gradient[by_latent], latents[by_latent], ctx.w)
        return sums, gradient.new_zeros(ctx.w).index_add_(0, latents, gradient), None, None, None, None


class _Decode(torch.autograd.Function):
    """Row b of the result: the sum of ``values * W_dec[latents]`` over the entries of bag b."""

    @staticmethod
    def forward(ctx, W_dec, values, bags, latents, count):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(W_dec, values, bags, latents)
        return _bag_sums(W_dec, latents, values, bags, count)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        W_dec, values, bags, latents = ctx.saved_tensors
        by_latent = torch.argsort(latents, stable=True)
        to_rows = _bag_sums(gradient, bags[by_latent], values[by_latent], latents[by_latent], len(W_dec))
        with torch.enable_grad():  # the library's own kernel for <gradient of the bag, row of W_dec>
            weight = values.detach().requires_grad_()
            out = _bag_sums(W_dec.detach(), latents, weight, bags, len(gradient))
        (to_values,) = torch.autograd.grad(out, weight, gradient)
        return to_rows, to_values, None, None, None


# Straight-through estimators of jumprelu.


def _rectangle(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """``K((z - theta) / bandwidth) / bandwidth`` with the rectangle kernel K(u) = 1 for |u| < 1/2."""
    return ((z - threshold).abs() < bandwidth / 2).to(threshold.dtype) / bandwidth


class JumpFunction(torch.autograd.Function):
    """``z * (z > theta)``; gradient to theta: ``-theta / bandwidth * K((z - theta) / bandwidth)``."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        z, threshold = ctx.saved_tensors
        to_threshold = -threshold * (_rectangle(z, threshold, ctx.bandwidth) * gradient).sum(0)
        return gradient * (z > threshold), to_threshold, None


class StepFunction(torch.autograd.Function):
    """``1 if z > theta else 0``; gradient to theta: ``-1 / bandwidth * K((z - theta) / bandwidth)``, none to z."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        z, threshold = ctx.saved_tensors
        return None, -(_rectangle(z, threshold, ctx.bandwidth) * gradient).sum(0), None
